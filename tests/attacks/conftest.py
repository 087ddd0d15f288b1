from dataclasses import replace

import pytest
import torch

from robust_hub.attacks import AutoAttack, Square


@pytest.fixture
def border_images(images):
    """Images that touch 0 and 1 in many pixels."""
    return (3 * images - 1).clamp(0, 1)


@pytest.fixture
def steepest():
    """Computes the gradient in pixels of z_other - z_true for a linear classifier of two classes."""

    def gradient(classifier, labels) -> torch.Tensor:
        weight = classifier.model.head.weight.detach().double()
        rows = (weight[1 - labels] - weight[labels]).view(-1, 3, 8, 8)
        return rows / torch.tensor(classifier.model.pretrained_cfg["std"], dtype=torch.float64).view(1, 3, 1, 1)

    return gradient


@pytest.fixture
def short_stages(monkeypatch):
    """Lets the stages of AutoAttack take a few steps where they take 100, and a few queries where they take 5000."""
    stages = AutoAttack.stages

    def shorten(attack):
        return replace(attack, queries=5) if isinstance(attack, Square) else replace(attack, steps=3)

    monkeypatch.setattr(
        AutoAttack, "stages", lambda self, k: {name: shorten(stage) for name, stage in stages(self, k).items()}
    )
