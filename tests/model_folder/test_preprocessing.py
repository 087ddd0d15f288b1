"""A folder says in one way how photos become its model's images, timm reads it as we do, and evaluations keep it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
from timm.data import resolve_data_config

from robust_hub import hub
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report
from robust_hub.models import Preprocessing, create_classifier, with_mlp_head
from tests.made_up import CNN, saved, told_in

KEPT = Path(__file__).parent / "published_form"
TIMMS = {"crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bicubic"}
TESTED = {"test_input_size": (3, 64, 64), "test_crop_pct": 0.95, "test_pool_size": (2, 2)}


@pytest.fixture
def classifier():
    """Of weights for which timm tells other sizes to test them at."""
    made = create_classifier("resnet18_cifar", CNN, num_classes=3, image_shape=(3, 16, 16))
    made.model.pretrained_cfg.update(**TIMMS, **TESTED)
    return made.eval()


def test_a_folder_that_is_written_is_validated_by_timm_as_by_us(tmp_path, classifier):
    folder = saved(tmp_path / "model", classifier)
    told = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert {key: told[key] for key in TIMMS} == TIMMS
    assert [key for key in told if key.startswith("test_")] == []
    model, expected = timm.create_model(f"local-dir:{folder}", pretrained=True), classifier.preprocessing
    for use_test_size in (False, True):
        asked = resolve_data_config(pretrained_cfg=model.pretrained_cfg, use_test_size=use_test_size)
        assert tuple(asked["input_size"]) == expected.input_size == (3, 16, 16)
        assert {key: asked[key] for key in TIMMS} == {key: getattr(expected, key) for key in TIMMS} == TIMMS
    assert hub.load(f"local-dir:{folder}").preprocessing == expected


def test_an_untrained_network_sees_whole_images_resized_as_its_architecture_wants():
    made = create_classifier("resnet10t", {"channels": [8] * 4}, num_classes=3, image_shape=(3, 16, 16))
    assert made.preprocessing == Preprocessing((3, 16, 16), 1.0, "center", "bicubic")
    assert [key for key, value in made.model.pretrained_cfg.items() if key.startswith("test_") and value] == []


def test_a_new_head_leaves_the_images_of_its_body_alone(classifier):
    assert with_mlp_head(classifier, 8, 4).preprocessing == classifier.preprocessing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_pct": "0.9"}, "crop_pct must be a number, got '0.9'"),
        ({"crop_pct": True}, "crop_pct must be a number, got True"),
        ({"crop_pct": 1e-6}, "crop_pct must be a share of 0.1 to 2.0, got 1e-06"),
        ({"crop_mode": "cover"}, "crop_mode must be one of center, squash, border, got 'cover'"),
        ({"crop_mode": ["center"]}, r"crop_mode must be one of center, squash, border, got \['center'\]"),
        ({"interpolation": "area"}, "interpolation must be one of nearest, .*, got 'area'"),
        ({"interpolation": 3}, "interpolation must be one of nearest, .*, got '3'"),
    ],
)
def test_a_preprocessing_that_nobody_knows_is_refused(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"].update(change)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        hub.load(f"local-dir:{folder}")


@pytest.fixture
def kept(tmp_path) -> Path:
    """A copy of an evaluation of before."""
    return shutil.copytree(KEPT, tmp_path / "kept")


CROPPED = Preprocessing((1, 32, 32), 0.875, "center", "bicubic")


def test_an_evaluation_keeps_how_its_images_were_made_and_one_of_before_tells_nothing(kept):
    before = told_in(kept / "evaluation.json")
    report = Report.read(kept)
    report.write(kept)
    assert report.preprocessing is None
    assert told_in(kept / "evaluation.json") == before
    replace(report, preprocessing=CROPPED).write(kept)
    assert Report.read(kept).preprocessing == CROPPED


@pytest.mark.parametrize("change", [{"crop_pct": 0}, {"crop_mode": "corner"}, {"input_size": [1]}, {"fill": "white"}])
def test_an_evaluation_that_tells_nonsense_is_none_of_ours(kept, change):
    replace(Report.read(kept), preprocessing=CROPPED).write(kept)
    told = json.loads((kept / "evaluation.json").read_text())
    told["preprocessing"].update(change)
    (kept / "evaluation.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"evaluation.json, preprocessing, is none of ours"):
        Report.read(kept)


def test_an_evaluation_of_before_is_verified_on_the_images_that_it_was_made_on(kept, monkeypatch):
    seen = []

    def stop(_, fit, **__):
        seen.append(fit)
        raise CheckpointError("seen enough")

    monkeypatch.setattr("robust_hub.evaluation.verification.evaluation_loader", stop)
    with pytest.raises(CheckpointError, match="seen enough"):
        hub.verify(f"local-dir:{kept}", data="digits")
    assert seen == [Preprocessing.of_before((1, 32, 32))]


def test_an_evaluation_of_other_crops_than_the_model_wants_is_told(kept):
    replace(Report.read(kept), preprocessing=CROPPED).write(kept)
    with pytest.raises(CheckpointError, match=r"is about images of 32x32 px, .* takes 32x32 px, .*; evaluate it again"):
        hub.verify(f"local-dir:{kept}", data="digits")


def test_an_evaluation_of_images_of_another_size_is_told(kept):
    replace(Report.read(kept), preprocessing=replace(CROPPED, input_size=(1, 28, 28))).write(kept)
    with pytest.raises(CheckpointError, match=r"is about images of 28x28 px, .* takes 32x32 px, .*; evaluate it again"):
        hub.verify(f"local-dir:{kept}", data="digits")
