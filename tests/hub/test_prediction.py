"""What a model sees on photos is what timm alone sees on them, and a photo that can't be read stops no other."""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

import robust_hub
from robust_hub.__main__ import main
from robust_hub.hub import prediction
from robust_hub.model_folder import save
from robust_hub.models import create_classifier
from tests.made_up import CNN, NAMES, provenance


@pytest.fixture
def classifier():
    """Colour, 16 px, with a crop and an interpolation of its own."""
    made = create_classifier("resnet18_cifar", CNN, num_classes=3, image_shape=(3, 16, 16)).eval()
    made.model.pretrained_cfg.update(crop_pct=0.8, interpolation="bicubic", label_names=NAMES)
    return made


@pytest.fixture
def name(tmp_path, classifier) -> str:
    save(tmp_path / "model", classifier, provenance("resnet18_cifar"), label_names=NAMES)
    return f"local-dir:{tmp_path / 'model'}"


def photo(number: int) -> Image.Image:
    size = (30 + 7 * number, 40 - 3 * number, 3)
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photos, one of them further down, and what must be passed over."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for number, place in enumerate(("b.png", "a.png", "below/c.png", ".thumbnails/d.png", ".e.png")):
        photo(number).save(folder / place)
    (folder / "notes.txt").write_text("Mind the cat.")
    return folder


IN_ORDER = {"a.png": 1, "b.png": 0, "below/c.png": 2}


def by_timm(name: str, image: Image.Image) -> torch.Tensor:
    model = timm.create_model(name, pretrained=True).eval()
    transform = create_transform(**resolve_data_config(pretrained_cfg=model.pretrained_cfg), is_training=False)
    with torch.no_grad():
        return model(transform(image)[None]).softmax(1)[0]


def test_predictions_are_those_of_timms_own_pipeline(name, photos):
    predictions = list(robust_hub.predict(name, photos))
    assert [each.path for each in predictions] == [photos / place for place in IN_ORDER]
    for each, number in zip(predictions, IN_ORDER.values(), strict=True):
        shares = by_timm(name, photo(number))
        assert [label for label, _ in each.top] == [NAMES[label] for label in shares.argsort(descending=True)]
        # Rounding of the two ways to write one normalisation.
        np.testing.assert_allclose([share for _, share in each.top], shares.sort(descending=True)[0], atol=1e-4)
        assert (each.label, each.probability) == each.top[0]


def test_a_photo_that_is_stored_turned_is_labelled_as_it_is_seen(classifier, tmp_path):
    photo(0).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright, turned = robust_hub.predict(classifier, [tmp_path / "upright.png", tmp_path / "turned.png"])
    assert turned.top == upright.top


def test_numbers_stand_for_classes_without_names(classifier, photos):
    classifier.model.pretrained_cfg["label_names"] = None
    assert {label for label, _ in next(iter(robust_hub.predict(classifier, photos))).top} == {"0", "1", "2"}


def test_five_labels_are_told_of_more(photos):
    many = create_classifier("resnet18_cifar", CNN, num_classes=9, image_shape=(3, 16, 16))
    assert all(len(each.top) == 5 for each in robust_hub.predict(many, photos))


def test_predicting_leaves_the_classifier_as_it_was(classifier, photos):
    classifier.train()
    list(robust_hub.predict(classifier, str(photos / "a.png")))
    assert classifier.training


def test_no_more_than_a_batch_of_photos_is_read_ahead(classifier, photos, monkeypatch):
    read, pixels = [], prediction._pixels
    monkeypatch.setattr(prediction, "BATCH", 2)
    monkeypatch.setattr(prediction, "_pixels", lambda file, fit: read.append(file) or pixels(file, fit))
    predictions = iter(robust_hub.predict(classifier, photos))
    next(predictions)
    assert len(read) == 2
    assert len(list(predictions)) == 2


def test_grey_models_see_grey(photos, student):
    assert [each.problem for each in robust_hub.predict(student, photos)] == ["", "", ""]


def test_a_model_of_other_channels_is_refused(photos):
    four = create_classifier("resnet18_cifar", {**CNN, "in_chans": 4}, num_classes=3, image_shape=(3, 16, 16))
    with pytest.raises(ValueError, match="must take grey or colour images"):
        robust_hub.predict(four, photos)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["photoz"], "there is no photo at .*photoz; close names are .*photos"),
        (["photos/below", "nowhere/x.png"], r"there is no photo at .*nowhere/x\.png; check the path"),
        (["empty"], "expected photos in the folder .*empty, and there are none; check the path"),
        ([], "expected photos, got none; name files, or folders of them"),
    ],
)
def test_photos_that_are_not_there_are_told_before_a_model_is_loaded(photos, tmp_path, paths, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        robust_hub.predict("local-dir:nowhere", [tmp_path / path for path in paths])


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `robust_hub predict` as a user does, and gives its status and what it says."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robust_hub", "predict", *map(str, words)])
        try:
            main()
        except SystemExit as stopped:
            return stopped.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_the_command_tells_five_labels_a_photo_and_names_what_it_can_not_read(command, name, photos):
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:200])
    code, out, err = command(name, photos)
    assert code == 0
    assert [line.partition(": ")[0] for line in out.splitlines()] == [f"{photos}/b.png", f"{photos}/below/c.png"]
    shares = by_timm(name, photo(0)).sort(descending=True)
    told = ", ".join(f"{NAMES[label]} {100 * share:.1f} %" for share, label in zip(*shares, strict=True))
    assert out.splitlines()[0] == f"{photos}/b.png: {told}"
    assert err.splitlines() == [
        f"warning: the image at {photos}/a.png can't be decoded",
        "1 of 3 photos can't be read",
    ]


def test_the_table_holds_all_that_is_predicted(command, name, photos, tmp_path):
    (photos / "bad.jpg").write_text("no photo")
    assert command(name, photos, "--csv", tmp_path / "table.csv")[:2] == (0, f"written: {tmp_path / 'table.csv'}\n")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "probability"] + [
        f"{column}_{rank}" for rank in (2, 3, 4, 5) for column in ("label", "probability")
    ]
    expected = [each for each in robust_hub.predict(name, photos) if not each.problem]
    assert [row["path"] for row in rows] == [str(each.path) for each in expected]
    for row, each in zip(rows, expected, strict=True):
        cells = list(row.values())[1:]
        assert cells[0::2] == [label for label, _ in each.top] + ["", ""]
        assert [float(share) for share in cells[1::2] if share] == [share for _, share in each.top]


def test_where_nothing_can_be_read_no_table_is_written(command, name, tmp_path):
    (tmp_path / "bad.jpg").write_text("no photo")
    code, out, err = command(name, tmp_path / "bad.jpg", "--csv", tmp_path / "table.csv")
    assert (code, out) == (1, "")
    assert "1 of 1 photos can't be read" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jpg", "model"]


@pytest.mark.parametrize(
    ("place", "message"), [("a.csv", "a.csv is there already"), ("no/a.csv", "there is no folder")]
)
def test_a_table_never_takes_the_place_of_a_file(command, name, photos, tmp_path, place, message):
    (tmp_path / "a.csv").write_text("mine")
    code, out, err = command(name, photos, "--csv", tmp_path / place)
    assert (code, out) == (2, "")
    assert message in err
    assert "; choose another --csv" in err
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_a_reader_that_goes_away_is_no_error(name, photos, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        monkeypatch.setattr(sys, "argv", ["robust_hub", "predict", name, str(photos)])
        with pytest.raises(SystemExit, match="141"):
            main()
