"""What is published goes on working: a folder as it once was, and every folder of model_cards/."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch

import robust_hub
from robust_hub import hub
from robust_hub.evaluation import Report
from robust_hub.model_folder import describe, is_as_described, require_provenance
from robust_hub.names import CARD, CONFIG, EVALUATION
from tests.made_up import told_in

KEPT = Path(__file__).parent / "published_form"
MODEL_CARDS = sorted(file.parent for file in (Path(__file__).parents[2] / "model_cards").glob(f"*/{CONFIG}"))


def test_the_kept_folder_is_loaded_by_timm_alone_and_by_us_to_the_same_logits():
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        ours = robust_hub.load(f"local-dir:{KEPT}").eval()(images)
        # Of mean and standard deviation 1/2, as its config.json says.
        timms = timm.create_model(f"local-dir:{KEPT}", pretrained=True).eval()(2 * images - 1)
    assert ours.shape == (2, 10)
    # Rounding of the two ways to write one normalisation.
    torch.testing.assert_close(ours, timms, rtol=1e-4, atol=1e-4)


def test_the_kept_folder_is_verified():
    verified = hub.verify(f"local-dir:{KEPT}")
    evaluation = Report.read(KEPT).evaluation
    fallen = int((evaluation.clean & ~evaluation.robust).sum())
    assert verified.perturbations == fallen
    # Another machine's rounding may turn one image in a hundred.
    assert verified.confirmed >= 0.99 * fallen
    assert verified.clean.value == pytest.approx(evaluation.clean_accuracy.value, abs=0.01)
    assert verified.robust.value == pytest.approx(evaluation.robust_accuracy.value, abs=0.01)


def test_the_kept_folder_tells_what_it_always_told():
    info = hub.open_folder(f"local-dir:{KEPT}").info
    assert (info.architecture, info.threat, info.protocol) == ("small_cnn_grey", "linf:0.1", "AutoAttack")
    assert info.robust_accuracy == Report.read(KEPT).evaluation.robust_accuracy


@pytest.mark.parametrize(("change", "same"), [(1e-12, True), (1e-6, False)])
def test_an_interval_of_another_scipy_is_the_same_claim_and_another_interval_is_not(tmp_path, change, same):
    folder = Path(shutil.copytree(MODEL_CARDS[0], tmp_path / "folder"))
    told, report = require_provenance(folder), Report.read(folder)
    low = json.loads((folder / EVALUATION).read_text())["evaluation"]["clean_accuracy"]["low"]
    assert low != low + change
    for name in (CARD, CONFIG, EVALUATION):
        text = (folder / name).read_text()
        assert str(low) in text
        (folder / name).write_text(text.replace(str(low), str(low + change)))
    assert is_as_described(folder, told, report) == same


def test_the_kept_folder_is_written_anew_in_the_form_of_today(tmp_path):
    folder = Path(shutil.copytree(KEPT, tmp_path / "kept"))
    told, report = require_provenance(folder), Report.read(folder)
    assert not is_as_described(folder, told, report)
    describe(folder, told, report)
    assert is_as_described(folder, told, report)
    before, now = (told_in(place / CONFIG) for place in (KEPT, folder))
    # Which transformers would pass twice.
    assert before["model_args"].pop("num_classes") == 10
    assert now == before


# Where the form of cards changes on purpose, these are written anew with --rewrite-card; the kept folder is of an older
# form, as it is never written again.
@pytest.mark.parametrize("folder", MODEL_CARDS, ids=lambda folder: folder.name)
def test_the_card_of_a_published_folder_is_given_again_byte_for_byte(folder):
    assert is_as_described(folder, require_provenance(folder), Report.read(folder))
