"""Model folders load with plain timm, hold no pickle, and appear whole or not at all."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from robust_hub import hub
from robust_hub.architectures import create_classifier
from robust_hub.cards import Facts
from robust_hub.evaluation import Evaluation

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
NAMES = ["ant", 'bee: "striped"', "cat | dog"]


def facts(architecture: str) -> Facts:
    clean, robust = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    return Facts(
        name=f"{architecture}.plain_linf8_synthetic",
        architecture=architecture,
        method="Plain()",
        teacher="",
        data="synthetic",
        threat="linf:8/255",
        eps=8 / 255,
        evaluation=Evaluation("PGD(steps=50)", np.zeros(len(clean), dtype=int), clean, {"pgd": robust}, 1.5),
        parameters=10,
        command="accelerate launch recipes/transfer.py",
        seed=0,
        best_epoch=1,
        teacher_seconds=120.0,
        images=1000,
        peak_memory=2**30,
        seconds=2.0,
        passes={"student": {"forward": 4, "backward": 4}},
        hardware="a machine",
        versions={"timm": "1"},
        pictures={},
    )


@pytest.fixture
def student():
    torch.manual_seed(0)
    classifier = create_classifier("vit_tiny_patch16_224", VIT, num_classes=3, image_shape=(1, 16, 16))
    return classifier.to(memory_format=torch.channels_last)


@pytest.fixture
def folder(tmp_path, student):
    hub.save(tmp_path / "student", student, facts("vit_tiny_patch16_224"), label_names=NAMES, pictures=[])
    return tmp_path / "student"


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
    hub.save(tmp_path / "again", first, facts("vit_tiny_patch16_224"), label_names=NAMES, pictures=[])
    second = hub.load(f"local-dir:{tmp_path / 'again'}")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_fresh_classifier_layer_is_put_on_a_checkpoint_for_other_classes(folder):
    student = hub.open_student(f"local-dir:{folder}", {}, num_classes=7, image_shape=(3, 32, 32))
    kept = hub.load(f"local-dir:{folder}")
    assert student(torch.rand(2, 1, 16, 16)).shape == (2, 7)
    assert torch.equal(student.model.patch_embed.proj.weight, kept.model.patch_embed.proj.weight)


def test_numbers_of_the_card_are_those_of_the_evaluation(folder):
    evaluation = json.loads((folder / "evaluation.json").read_text())["evaluation"]
    config = json.loads((folder / "config.json").read_text())["robustness"]["evaluation"]
    card = ModelCard.load(folder / "README.md")
    metrics = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert metrics == {"accuracy": 0.75, "robust_accuracy": 0.25}
    for source in (evaluation, config):
        assert source["clean_accuracy"]["value"] == 0.75
        assert source["robust_accuracy"]["value"] == 0.25
    assert (evaluation["clean_mask"], evaluation["robust_mask"]) == ("1110", "1000")
    assert "| clean | 75.0 [19.4, 99.4] | 4 |" in card.text


def test_the_card_says_what_to_import_for_an_architecture_of_ours(tmp_path):
    arguments = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]}
    classifier = create_classifier("resnet18_cifar", arguments, num_classes=3, image_shape=(3, 16, 16))
    hub.save(tmp_path / "ours", classifier, facts("resnet18_cifar"), label_names=NAMES, pictures=[])
    assert "import timm, robust_hub" in (tmp_path / "ours" / "README.md").read_text()


def test_a_failed_save_leaves_the_folder_as_it_was(folder, student, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr("robust_hub.hub.write_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hub.save(folder, student, facts("vit_tiny_patch16_224"), label_names=NAMES, pictures=[])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_what_a_killed_save_left_behind_does_not_stop_the_next(folder, student):
    for leftover in (".replaced", ".unfinished"):
        shutil.copytree(folder, folder.with_name(folder.name + leftover))
    hub.save(folder, student, facts("vit_tiny_patch16_224"), label_names=NAMES, pictures=[])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_picture_goes_into_the_folder_and_the_card(tmp_path, student):
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"a picture")
    told = replace(facts("vit_tiny_patch16_224"), pictures={"curve.png": "A curve."})
    hub.save(tmp_path / "student", student, told, label_names=NAMES, pictures=[picture])
    assert (tmp_path / "student" / "curve.png").read_bytes() == b"a picture"
    assert "![A curve.](curve.png)" in (tmp_path / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", "must be named hf-hub:ORG/NAME or local-dir:FOLDER, got 'resnt18'"),
        ("local-dir:nowhere", r"no model folder at nowhere \(no config.json"),
        ("hf-hub:nobody/nothing", "the Hub did not give nobody/nothing"),
        ("hf-hub:not a repo", "the Hub did not give not a repo"),
        ("tests", "must be named .*, got 'tests'; for this folder say local-dir:tests"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_told_in_one_sentence(name, message):
    with pytest.raises(ValueError, match=message):
        hub.load(name)


def test_weights_that_do_not_fit_are_told_in_one_sentence(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"can't be loaded \("):
        hub.load(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", r"can't be loaded \(.*check its config.json"),
        ("config.json", "config.json is not readable JSON"),
    ],
)
def test_a_truncated_file_is_told_in_one_sentence(folder, file, message):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=message):
        hub.load(f"local-dir:{folder}")


def test_a_folder_that_is_not_there_is_told_with_close_names(folder):
    with pytest.raises(ValueError, match=r"no model folder at .*studnt .*; close names are .*student"):
        hub.load(f"local-dir:{folder.with_name('studnt')}")


def test_arguments_for_a_checkpoint_are_refused(folder):
    with pytest.raises(ValueError, match="brings its own arguments; leave --student-args away"):
        hub.open_student(f"local-dir:{folder}", {"depth": 2}, num_classes=3, image_shape=(1, 16, 16))
