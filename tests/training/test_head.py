"""Heads on frozen features."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.linear_model import LogisticRegression
from torch import nn

from robust_hub.data import Source, evaluation_loader, load_data
from robust_hub.models import PixelClassifier
from robust_hub.training import TrainingConfig, linear_head
from robust_hub.training.head import compute_features, train_head
from tests.conftest import HeadedModel


@pytest.fixture
def rows():
    return load_data(Source("synthetic")).train.select(range(40))


def test_features_are_those_of_one_image_at_a_time(tmp_path, create_vit, rows):
    classifier = create_vit().eval()
    features, earlier = compute_features(Accelerator(cpu=True), classifier, rows, 2, tmp_path)
    assert earlier == 0
    (batch,) = evaluation_loader(rows, classifier.preprocessing, batch_size=40, device=torch.device("cpu"))
    for place in (0, 7, 39):
        image = batch[0][place : place + 1]
        for view, shown in enumerate((image, torch.flip(image, [3]))):
            _, alone = classifier.forward_with_features(shown)
            # float32 sums in another order.
            np.testing.assert_allclose(features[view, place], alone[0].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_features_left_half_written_are_computed_again(tmp_path, create_vit, rows):
    classifier = create_vit().eval()
    (tmp_path / "features.npy.unfinished").write_bytes(b"half")
    features, _ = compute_features(Accelerator(cpu=True), classifier, rows, 1, tmp_path)
    assert features.shape == (1, 40, 8)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["features.npy", "spent.json"]


def test_features_that_a_killed_run_left_cost_what_they_have_cost_it(tmp_path, create_vit, rows):
    classifier = create_vit().eval()
    features, _ = compute_features(Accelerator(cpu=True), classifier, rows, 1, tmp_path)
    passes, spent = classifier.passes.forward, json.loads((tmp_path / "spent.json").read_text())["seconds"]
    again, earlier = compute_features(Accelerator(cpu=True), classifier, rows, 1, tmp_path)
    assert np.array_equal(again, features)
    assert (classifier.passes.forward, earlier) == (2 * passes, spent)
    assert spent > 0


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room can't be reserved here")
def test_a_full_disk_is_an_error_before_anything_is_computed(tmp_path, create_vit, rows, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    classifier = create_vit().eval()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        compute_features(Accelerator(cpu=True), classifier, rows, 1, tmp_path)
    assert classifier.passes.forward == 0


def test_a_trained_head_is_as_good_as_logistic_regression():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    features = (np.eye(3)[labels] @ rng.normal(size=(3, 5)) + 0.5 * rng.normal(size=(300, 5))).astype(np.float32)
    wanted = LogisticRegression(C=1e6).fit(features, labels).score(features, labels)
    head = nn.Linear(5, 3)
    training = TrainingConfig(epochs=30, batch_size=30, optimizer="adamw", lr=0.1, weight_decay=0.0)
    train_head(head, features[None], torch.from_numpy(labels), training, torch.device("cpu"))
    reached = (head(torch.from_numpy(features)).argmax(1).numpy() == labels).mean()
    assert reached >= wanted - 0.01  # three images


class TwoHeads(HeadedModel):
    """Two linear layers on the same features, whose logits are averaged and then go through `last`."""

    def __init__(self, last: nn.Module):
        super().__init__(nn.Linear(3 * 8 * 8, 5), nn.Linear(5, 3), (3, 8, 8))
        self.head_dist, self.last = nn.Linear(5, 3), last

    def get_classifier(self) -> tuple[nn.Linear, nn.Linear]:
        return self.head, self.head_dist

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x.flatten(1))
        return self.last((self.head(features) + self.head_dist(features)) / 2)


def test_a_head_of_two_layers_is_their_mean(images):
    classifier = PixelClassifier(TwoHeads(nn.Identity()), {})
    logits, features = classifier.forward_with_features(images)
    assert features.shape == (6, 10)
    torch.testing.assert_close(linear_head(classifier)(features), logits)


def test_logits_that_are_no_mean_of_linear_layers_are_refused():
    with pytest.raises(ValueError, match="the logits of headed are not the mean of its linear layers"):
        linear_head(PixelClassifier(TwoHeads(nn.Tanh()), {}))
