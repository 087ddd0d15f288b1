"""`robust_hub` on the command line: models are listed by what they withstand, shown, downloaded and verified."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from huggingface_hub import constants

from robust_hub.__main__ import main
from robust_hub.data import Source
from robust_hub.errors import CheckpointError
from robust_hub.hub import list_models
from robust_hub.model_folder import files_of, save
from robust_hub.models import create_classifier
from tests.loopback_hub.server import File, Repository
from tests.made_up import CNN, NAMES, provenance, report

DIGITS = {"threat": "l2:0.5", "eps": 0.5, "method": "RRM(projection=False)", "parameters": 20}


@pytest.fixture
def models(tmp_path, student):
    """A folder with three models: two of synthetic data, one of them flagged, and one of digits."""
    resnet = create_classifier("resnet18_cifar", CNN, num_classes=3, image_shape=(3, 16, 16))
    digits = replace(report(student, NAMES), threat="l2:0.5", source=Source("digits"))
    told = {
        "vit": (student, provenance("vit_tiny_patch16_224"), report(student, NAMES)),
        "resnet": (resnet, provenance("resnet18_cifar"), report(resnet, NAMES, flagged=True)),
        "digits": (student, replace(provenance("vit_tiny_patch16_224"), **DIGITS), digits),
    }
    for name, (classifier, known, measured) in told.items():
        save(tmp_path / "models" / name, classifier, known, label_names=NAMES, report=measured)
    return tmp_path / "models"


@pytest.fixture
def on_the_hub(empty_hub, models, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for folder in models.iterdir():
        repository = empty_hub.add(Repository("models", f"tiny-org/{folder.name}", private=False), author="writer")
        files = {name: File((folder / name).read_bytes(), lfs=name.endswith("tensors")) for name in files_of(folder)}
        repository.commit(files, "A model.", author="writer")
    return empty_hub


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    """Runs the command line as a user does."""
    monkeypatch.setattr(sys, "argv", ["robust_hub", *words])
    try:
        main()
    except SystemExit as stopped:
        return stopped.code, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_a_list_of_folders_names_those_that_it_leaves_out(models, monkeypatch, capsys):
    (models / "torn").mkdir()
    (models / "torn" / "config.json").write_text("{")
    code, out, _ = run(monkeypatch, capsys, "list", "--folder", str(models))
    assert code == 0
    assert "3 models; figures are claimed by their publishers" in out
    assert "left out: torn (config.json is not readable JSON" in out


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, {"vit", "resnet", "digits"}),
        ({"data": "Digits"}, {"digits"}),
        ({"threat": "linf"}, {"vit", "resnet"}),
        ({"threat": "linf:8/255"}, {"vit", "resnet"}),
        ({"threat": "linf:4/255"}, set()),
        ({"threat": "l2:1/2"}, {"digits"}),
        ({"method": "RRM"}, {"digits"}),
        ({"architecture": "resnet*"}, {"resnet"}),
        ({"min_robust": 0.2}, {"vit", "resnet", "digits"}),
        ({"min_robust": 0.3}, set()),
        ({"max_parameters": 15}, {"vit", "resnet"}),
        ({"data": "synthetic", "architecture": "vit*", "max_parameters": 15}, {"vit"}),
    ],
)
def test_models_are_found_by_what_they_are_and_withstand(on_the_hub, models, wanted, names):
    assert set(list_models(**wanted)) == {f"hf-hub:tiny-org/{name}" for name in names}
    assert set(list_models(**wanted, folder=models)) == {f"local-dir:{models / name}" for name in names}


def test_what_is_not_in_place_yet_is_not_listed(models):
    shutil.copytree(models / "vit", models / "vit.unfinished")
    shutil.copytree(models / "vit", models / "vit.replaced")
    assert len(list_models(folder=models)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"robust_accuracy": {"value": float("nan"), "low": 0.0, "high": 1.0, "n": 4}},
        {"robust_accuracy": {"value": 1.5, "low": 0.0, "high": 1.0, "n": 4}},
        {"parameters": -5},
        {"flagged": -3},
        {"flagged": 9},
        {"protocol": "AutoAttack\x1b[31m"},
    ],
)
def test_a_claim_of_what_can_not_be_is_not_listed(models, change):
    config = json.loads((models / "vit" / "config.json").read_text())
    config["robustness"]["claim"] |= change
    (models / "vit" / "config.json").write_text(json.dumps(config))
    assert set(list_models(folder=models)) == {f"local-dir:{models / name}" for name in ("resnet", "digits")}


def test_a_share_that_is_a_percentage_is_told(models):
    with pytest.raises(ValueError, match=r"is a fraction in \[0, 1\], got 40\.0; 40 % is 0\.4"):
        list_models(min_robust=40.0, folder=models)


def test_a_threat_that_is_none_is_told(models):
    with pytest.raises(ValueError, match="threat must be linf:EPS or l2:EPS"):
        list_models(threat="linfinity", folder=models)


@pytest.mark.parametrize("card", ["", "---\nrobust_hub: 3\n---\n", "---\nrobust_hub:\n  name: [1]\n---\n", "no yaml"])
def test_a_strangers_card_can_not_break_the_list(on_the_hub, card):
    stranger = on_the_hub.add(Repository("models", "closed-org/net", private=False), author="stranger")
    front = card.replace("---\nrobust_hub", "---\ntags: [robust_hub]\nrobust_hub", 1)
    stranger.commit({"README.md": File(front.encode(), lfs=False)}, "Mine.", author="stranger")
    assert len(list_models()) == 3


def test_models_of_the_cache_are_listed_without_the_hub(on_the_hub, monkeypatch, capsys):
    assert run(monkeypatch, capsys, "show", "hf-hub:tiny-org/vit")[0] == 0
    on_the_hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (place,) = list_models()
    assert place.startswith("hf-hub:tiny-org/vit@")
    assert not on_the_hub.requests


def test_a_hub_that_does_not_answer_is_told(on_the_hub):
    with (
        on_the_hub.fault("GET", "/api/models", times=None, status=404),
        pytest.raises(CheckpointError, match=r"the Hub does not tell its models \("),
    ):
        list_models()


def test_list_prints_figures_protocol_and_flags(models, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "list", "--folder", str(models), "--architecture", "resnet*")
    assert code == 0
    row = next(line for line in out.splitlines() if "resnet" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        "synthetic",
        "linf:8/255",
        "10",
        "75.0 [19.4, 99.4]",
        "<= 25.0 [0.6, 80.6]",
        "pgd, not AutoAttack",
        "1 of 1",
        "robust_hub",
        "2",
        "2",
        "",
    ]
    assert "1 models; figures are claimed by their publishers" in out


def test_show_needs_no_weights(on_the_hub, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "show", "hf-hub:tiny-org/resnet")
    assert code == 0
    assert "1 of 1 checks flagged" in out
    assert "timm, and `import robust_hub` first" in out
    assert not on_the_hub.seen("GET", "safetensors")


def test_download_writes_a_folder(on_the_hub, models, tmp_path, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "download", "hf-hub:tiny-org/vit", "--to", str(tmp_path / "copy"))
    assert code == 0
    assert f"timm.create_model('local-dir:{tmp_path / 'copy'}', pretrained=True)" in out
    assert files_of(tmp_path / "copy") == files_of(models / "vit")


def test_what_can_not_be_had_ends_in_one_sentence(on_the_hub, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "show", "hf-hub:tiny-org/nobody")
    assert (code, out) == (2, "")
    assert err.startswith("error: the Hub did not give config.json of tiny-org/nobody (there is no such repository")
    assert len(err.splitlines()) == 1
