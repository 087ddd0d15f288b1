"""Accuracies, intervals and curves, against closed forms."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.stats import beta
from torch import nn

from robust_hub.attacks import PGD
from robust_hub.evaluation import Accuracy, Portion, accuracy_curve, evaluate_loader
from robust_hub.threats import Linf


class Brightness(nn.Module):
    """Calls an image bright (class 1) when its mean pixel is above a half: falls exactly at eps = |mean - 0.5|."""

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


MEANS = torch.tensor([0.41, 0.45, 0.49, 0.52, 0.56, 0.61, 0.70, 0.30])
IMAGES = MEANS[:, None, None, None].expand(8, 1, 4, 4).clone()
LABELS = (MEANS > 0.5).long()
LABELS[-1] = 1  # one image is misclassified as it is


class Batches:
    def set_epoch(self, epoch):
        pass

    def __len__(self):
        return 3

    def __iter__(self):
        return iter(zip(IMAGES.split(3), LABELS.split(3), strict=True))


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


def test_robust_images_are_those_farther_from_the_boundary_than_eps(accelerator):
    evaluation = evaluate_loader(accelerator, Brightness(), Batches(), PGD.standard(Linf(0.055), steps=10))
    assert evaluation.clean.tolist() == [True] * 7 + [False]
    assert evaluation.robust.tolist() == [True, False, False, False, True, True, True, False]


def test_at_eps_zero_every_clean_image_is_robust(accelerator):
    evaluation = evaluate_loader(accelerator, Brightness(), Batches(), PGD.standard(Linf(0.0), steps=3))
    assert np.array_equal(evaluation.clean, evaluation.robust)


def test_the_attack_only_sees_images_that_are_classified_rightly(accelerator):
    seen = []

    def attack(classifier, images, labels):
        seen.extend(images[:, 0, 0, 0].tolist())
        return images

    evaluate_loader(accelerator, Brightness(), Batches(), attack)
    assert seen == pytest.approx(MEANS[:-1].tolist())


def test_the_curve_gives_the_share_of_images_farther_than_each_eps():
    radii = [0.0, 0.025, 0.055, 0.095, 0.15, 0.3]
    portions = [Portion(5, IMAGES[5:], LABELS[5:]), Portion(0, IMAGES[:5], LABELS[:5])]
    withstood = accuracy_curve(Brightness(), portions, lambda eps: PGD.standard(Linf(eps), steps=10), radii, seed=0)
    margins = (MEANS[:-1] - 0.5).abs()
    expected = [[bool(margin > eps) for margin in margins] + [False] for eps in radii]
    assert withstood.tolist() == expected


def test_a_classifier_comes_back_in_the_mode_it_was_in(accelerator):
    classifier = nn.Sequential(nn.Dropout(), Brightness().eval()).train()
    classifier[1].eval()
    evaluate_loader(accelerator, classifier, Batches(), PGD.standard(Linf(0.1), steps=1))
    assert [module.training for module in classifier.modules()] == [True, True, False]


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (557, 1000)])
def test_the_interval_is_clopper_and_pearsons(right, n):
    accuracy = Accuracy.of(np.arange(n) < right)
    low = beta.ppf(0.025, right, n - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, n - right) if right < n else 1.0
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((right / n, low, high))
