"""A folder of a dozen photos: two classes are enough to learn from, and what is too little is one sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes import adversarial_training, transfer
from recipes.transfer import Config
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.model_folder import require_provenance
from robust_hub.training import TrainingConfig
from tests.recipes.test_transfer import save_teacher

# Its last stage has a single place, so that BatchNorm needs two images.
STUDENT = {"student": "resnet10t", "student_args": {"channels": [8, 8, 8, 16]}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return save_teacher(tmp_path_factory.mktemp("teachers") / "teacher")


def photos(folder: Path, *, classes: int) -> str:
    """Nine photos a class, of which six are left to train on."""
    rng = np.random.default_rng(0)
    for place in (folder / str(name) / f"{number}.png" for name in range(classes) for number in range(9)):
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place)
    return str(folder)


def config(teacher: str, tmp_path: Path, *, classes: int = 2, batch_size: int = 4) -> Config:
    source, training = Source(photos(tmp_path / "photos", classes=classes)), TrainingConfig(1, batch_size)
    return Config(teacher=teacher, source=source, output=Output(tmp_path / "run"), training=training, **STUDENT)


def test_two_classes_are_learnt_and_a_last_batch_of_one_image_is_left_out(tmp_path, teacher):
    transfer.kd(config(teacher, tmp_path, batch_size=11))
    assert require_provenance(tmp_path / "run" / "student").training.images == 11


def test_one_class_is_refused(tmp_path, teacher):
    message = r"photos must have two classes or more to learn from, got 1 \(0\); check --data and its column of labels"
    with pytest.raises(ValueError, match=message):
        transfer.kd(config(teacher, tmp_path, classes=1))
    alone = adversarial_training.Config(
        Source(str(tmp_path / "photos")), Output(tmp_path / "run"), STUDENT["student"], STUDENT["student_args"]
    )
    with pytest.raises(ValueError, match=message):
        adversarial_training.pgd(alone)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (13, "the batch size must be at most the 12 training images, got 13; lower it"),
        (1, "BatchNorm needs at least 2 images at a time, and --batch-size 1, .* say --batch-size 2 or more"),
    ],
)
def test_a_batch_that_is_too_large_or_of_one_is_told_before_anything_is_written(tmp_path, teacher, batch_size, message):
    with pytest.raises(ValueError, match=message):
        transfer.kd(config(teacher, tmp_path, batch_size=batch_size))
    assert not (tmp_path / "run").exists()
