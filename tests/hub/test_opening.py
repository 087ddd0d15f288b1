"""A teacher on the Hub is opened once in a run: one name, one config.json, one checksum of its weights."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from recipes import transfer
from robust_hub import hub
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.model_folder import files_of, save
from robust_hub.models import create_classifier
from robust_hub.names import CONFIG, WEIGHTS
from robust_hub.training import TrainingConfig
from tests.loopback_hub.server import File, Repository
from tests.made_up import CNN, VIT, provenance

TEACHER = "hf-hub:tiny-org/teacher"
NAMES = ["vertical", "horizontal", "diagonal", "antidiagonal"]


@pytest.fixture
def teacher(empty_hub, tmp_path, monkeypatch) -> Path:
    """The folder of a teacher of the synthetic set, which is on the Hub as well, and in no cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "teacher"
    classifier = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, 16, 16))
    save(folder, classifier, provenance("resnet18_cifar"), label_names=NAMES)
    repository = empty_hub.add(Repository("models", "tiny-org/teacher", private=False), author="writer")
    contents = {name: File((folder / name).read_bytes(), lfs=name == WEIGHTS) for name in files_of(folder)}
    repository.commit(contents, "A model.", author="writer")
    return folder


@pytest.fixture
def run(teacher, tmp_path):
    """One run of kd with that teacher."""

    def run():
        config = transfer.Config(
            teacher=TEACHER,
            student="vit_tiny_patch16_224",
            student_args=VIT,
            source=Source("synthetic", test_images=4),
            output=Output(tmp_path / "run"),
            training=TrainingConfig(epochs=1, batch_size=288),
        )
        return transfer.kd(config)

    return run


def counted(monkeypatch, place: str, function, calls: list):
    """Notes the first argument of each call of a function where it is looked up."""

    def noting(first, *others, **named):
        calls.append(first)
        return function(first, *others, **named)

    monkeypatch.setattr(place, noting)


def test_a_teacher_is_resolved_read_and_hashed_once(teacher, run, monkeypatch):
    names, texts, digests, sha256 = [], [], [], hashlib.sha256
    # A face keeps what it was asked for, so both doors are watched.
    for place in ("robust_hub.hub.fetching.resolve", "robust_hub.hub.resolve"):
        counted(monkeypatch, place, hub.resolve, names)
    counted(monkeypatch, "json.loads", json.loads, texts)

    def noted_sha256(*given, **named):
        digests.append(sha256(*given, **named))
        return digests[-1]

    monkeypatch.setattr("hashlib.sha256", noted_sha256)
    run()
    assert names == [TEACHER]
    # Once by us, and once by timm, which reads the folder that it builds the network of.
    assert texts.count((teacher / CONFIG).read_text()) == 2
    weights = sha256((teacher / WEIGHTS).read_bytes()).hexdigest()
    assert [digest.hexdigest() for digest in digests].count(weights) == 1
