"""A stranger offers an evaluation to the repository of a model, where its evidence lowers the claim."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recipes.evaluate import Config
from robust_hub.data import Source
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report
from robust_hub.hub import Destination, list_models, offer_evaluation, publish, verify
from robust_hub.launch import Output
from tests.loopback_hub.server import STRANGER_TOKEN, WRITE_TOKEN
from tests.made_up import CNN, evaluated, raised

REPO = "tiny-org/net"


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return evaluated(tmp_path_factory.mktemp("models") / "resnet", "resnet18_cifar", CNN)


@pytest.fixture
def claim(empty_hub, honest, tmp_path, monkeypatch):
    """Publishes a model that claims so much more than is true, and then logs a stranger in."""

    def publish_with(points: float) -> str:
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        liar = raised(Path(shutil.copytree(honest, tmp_path / "liar")), points, np.random.default_rng(0))
        commit = publish(liar, Destination(REPO)).commit
        monkeypatch.setenv("HF_TOKEN", STRANGER_TOKEN)
        return f"hf-hub:{REPO}@{commit}"

    return publish_with


def test_evidence_that_lowers_a_claim_is_offered_as_a_pull_request_that_is_verified_and_names_its_author(
    claim, honest, empty_hub
):
    report, claimed = Report.read(honest), claim(1.0)
    offered = offer_evaluation(claimed, report, honest)
    assert offered.new
    assert list_models()[f"hf-hub:{REPO}"].robust_accuracy.value > report.evaluation.robust_accuracy.value
    place = f"hf-hub:{REPO}@{offered.commit}"
    assert verify(place).robust.value == report.evaluation.robust_accuracy.value
    files = empty_hub.repository(REPO).files(offered.commit)
    assert "was measured by stranger, not by the publisher" in files["README.md"].decode()
    # Asked again, nothing is opened a second time.
    assert not offer_evaluation(claimed, report, honest).new


def test_an_evaluation_that_proves_nothing_is_not_offered(claim, honest):
    report, claimed = Report.read(honest), claim(0.05)
    # One of 24 images fewer may be chance.
    with pytest.raises(CheckpointError, match="which is not clearly less; the evaluation stays in its folder"):
        offer_evaluation(claimed, report, honest)
    with pytest.raises(CheckpointError, match="the evaluation is of linf:2/255, so there is nothing to correct"):
        offer_evaluation(claimed, replace(report, threat="linf:2/255"), honest)
    with pytest.raises(CheckpointError, match="has changed since 000000000000, which was evaluated"):
        offer_evaluation(f"hf-hub:{REPO}@{'0' * 40}", report, honest)


def test_only_a_model_on_the_hub_has_a_repository_to_offer_to(tmp_path):
    with pytest.raises(ValueError, match="--create-pr is for a model on the Hub"):
        Config("local-dir:model", Source("digits"), Output(tmp_path), create_pr=True)
