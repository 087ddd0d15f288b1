"""Model folders load with plain timm, hold no pickle, and appear whole or not at all."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from huggingface_hub._eval_results import parse_eval_result_entries
from safetensors.torch import load_file

from robust_hub import hub, model_folder
from robust_hub.data import Source
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report
from robust_hub.names import public
from tests.made_up import NAMES, VIT, provenance, report, saved


def test_plain_timm_loads_the_folder_to_the_same_logits_in_a_process_without_robust_hub(tmp_path, folder, student):
    torch.manual_seed(1)
    normalised = torch.randn(2, 1, 16, 16)
    torch.save(normalised, tmp_path / "images.pt")
    program = (
        "import sys, timm, torch\n"
        f"model = timm.create_model('local-dir:{folder}', pretrained=True).eval()\n"
        f"torch.save(model(torch.load('{tmp_path}/images.pt')).detach(), '{tmp_path}/logits.pt')\n"
        "assert not any(name.startswith('robust_hub') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "logits.pt"), student.model.eval()(normalised))


def test_the_folder_holds_these_files_and_no_pickle(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "config.json",
        "evaluation.json",
        "model.safetensors",
    ]
    assert load_file(folder / "model.safetensors")
    assert not any(file.read_bytes().startswith((b"\x80", b"PK")) for file in folder.iterdir())


def test_a_loaded_classifier_knows_its_size_classes_and_arguments(folder):
    classifier = hub.load(f"local-dir:{folder}")
    assert classifier.input_size == (1, 16, 16)
    assert classifier.label_names == NAMES
    assert classifier.model_args["embed_dim"] == VIT["embed_dim"]


def test_a_loaded_classifier_can_be_saved_and_loaded_again(tmp_path, folder):
    first = hub.load(f"local-dir:{folder}")
    saved(tmp_path / "again", first)
    second = hub.load(f"local-dir:{tmp_path / 'again'}")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_failed_save_leaves_the_folder_as_it_was(folder, student, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr("robust_hub.model_folder.saving.write_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        saved(folder, student)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_a_killed_run_moved_away_comes_back(folder, student, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.copytree(folder, folder.with_name(folder.name + ".unfinished"))
    folder.rename(folder.with_name(folder.name + ".replaced"))
    monkeypatch.setattr("robust_hub.model_folder.saving.write_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        saved(folder, student)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_what_a_killed_save_left_behind_does_not_stop_the_next(folder, student):
    for leftover in (".replaced", ".unfinished"):
        shutil.copytree(folder, folder.with_name(folder.name + leftover))
    saved(folder, student)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_picture_goes_into_the_folder_and_the_card(tmp_path, student):
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"a picture")
    model_folder.save(tmp_path / "student", student, provenance("vit_tiny_patch16_224"), label_names=NAMES)
    model_folder.add_pictures(tmp_path / "student", {picture: "A curve."})
    assert (tmp_path / "student" / "curve.png").read_bytes() == b"a picture"
    assert "![A curve.](curve.png)" in (tmp_path / "student" / "README.md").read_text()


def test_what_a_folder_tells_is_what_was_saved(folder, student):
    assert model_folder.require_provenance(folder) == provenance("vit_tiny_patch16_224")
    told, made = Report.read(folder), report(student, NAMES)
    assert told.evaluation.robust.tolist() == made.evaluation.robust.tolist()
    assert (told.model_sha256, told.checks, told.costs) == (made.model_sha256, made.checks, made.costs)


def test_numbers_of_config_and_evaluation_are_those_of_the_masks(folder):
    evaluation = json.loads((folder / "evaluation.json").read_text())["evaluation"]
    info = json.loads((folder / "config.json").read_text())["robustness"]["claim"]
    for source in (evaluation, info):
        assert source["clean_accuracy"]["value"] == 0.75
        assert source["robust_accuracy"]["value"] == 0.25
    assert (evaluation["clean"], evaluation["survivors"]) == ("1110", {"pgd": "1000"})


def test_a_folder_is_described_anew_and_its_notes_stay(folder):
    card = (folder / "README.md").read_text()
    begin, end = "kept -->\n", "<!-- end of notes"
    (folder / "README.md").write_text(card.replace(begin + end, f"{begin}Mind the cat.\n{end}"))
    model_folder.describe(folder, replace(model_folder.require_provenance(folder), license="mit"), Report.read(folder))
    again = (folder / "README.md").read_text()
    assert "license: mit" in again
    assert "\nMind the cat.\n" in again
    assert model_folder.is_as_described(folder, model_folder.require_provenance(folder), Report.read(folder))


@pytest.mark.parametrize("name", ["README.md", "config.json", "evidence.safetensors", ".eval_results", "more/deep.txt"])
def test_nothing_is_written_through_a_link(tmp_path, folder, name):
    elsewhere = tmp_path / "elsewhere"
    if name == ".eval_results":
        elsewhere.mkdir()
    else:
        elsewhere.write_bytes((folder / name).read_bytes() if (folder / name).is_file() else b"")
    before = elsewhere.stat()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(elsewhere)
    told, measured = model_folder.require_provenance(folder), Report.read(folder)
    with pytest.raises(CheckpointError, match=r"is a link, and nothing is written through one"):
        model_folder.describe(folder, replace(told, license="mit"), measured)
    assert elsewhere.stat().st_mtime_ns == before.st_mtime_ns
    assert (folder / name).is_symlink()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("README.md", "25.0 [0.6, 80.6]", "85.0 [70.6, 90.6]"),
        ("README.md", "value: 0.25", "value: 0.85"),
        ("config.json", '"value": 0.25', '"value": 0.85'),
    ],
)
def test_a_figure_that_was_changed_is_found(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert not model_folder.is_as_described(folder, model_folder.require_provenance(folder), Report.read(folder))


def test_a_robust_accuracy_on_a_data_set_of_the_hub_is_an_entry_that_the_hub_ranks(tmp_path, student):
    measured = replace(report(student, NAMES), source=Source("uoft-cs/cifar10"))
    model_folder.save(tmp_path / "a", student, provenance("vit_tiny_patch16_224"), label_names=NAMES, report=measured)
    (entry,) = parse_eval_result_entries(
        yaml.safe_load((tmp_path / "a" / ".eval_results" / "robust_hub.yaml").read_text())
    )
    assert (entry.dataset_id, entry.task_id, entry.value) == ("uoft-cs/cifar10", "robust_accuracy", 0.25)
    assert entry.notes == "linf:8/255, pgd, not AutoAttack, n = 4"


def test_no_folder_of_this_machine_is_told(tmp_path, student):
    measured = replace(report(student, NAMES), source=Source(str(tmp_path / "my cifar")))
    model_folder.save(tmp_path / "a", student, provenance("vit_tiny_patch16_224"), label_names=NAMES, report=measured)
    assert Report.read(tmp_path / "a").source.data == "my cifar"
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in (tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("local-dir:/home/me/teacher", "local-dir:teacher"),
        ("/data/cifar10", "cifar10"),
        ("../shared/cifar10", "cifar10"),
        ("local-dir:model_cards/teacher", "local-dir:model_cards/teacher"),
        ("hf-hub:org/name@main", "hf-hub:org/name@main"),
        ("uoft-cs/cifar10", "uoft-cs/cifar10"),
        ("/data/a:b/c", "c"),
        ("local-dir:runs/../../../home/me/teacher", "local-dir:teacher"),
    ],
)
def test_only_the_last_name_of_a_path_elsewhere_is_public(place, told):
    assert public(place) == told
