"""Images that are mixed carry the classes of both, by the share of each that is seen."""

import numpy as np
import pytest
import torch

from robust_hub.losses import cross_entropy
from robust_hub.methods import mix_images

LABELS = torch.tensor([0, 1, 2, 1, 0])


@pytest.fixture
def flat():
    """Five images of one colour each, so that what is whose can be seen."""
    return torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 16, 16) / 4


def test_nothing_that_is_asked_for_changes_neither_images_nor_labels(flat):
    images, soft = mix_images(flat, LABELS, num_classes=3)
    assert torch.equal(images, flat)
    assert torch.equal(soft, torch.nn.functional.one_hot(LABELS, 3).float())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_as_the_pixels_are(flat, kind, seed):
    np.random.seed(seed)
    images, soft = mix_images(flat, LABELS, num_classes=3, **{kind: 1.0})
    other = flat.flip(0)
    # Of each image with another colour: how much of the own one is left, by its mean.
    shares = ((images - other).mean((1, 2, 3)) / (flat - other).mean((1, 2, 3)))[[0, 1, 3, 4]]
    assert 0 <= shares[0] <= 1
    torch.testing.assert_close(shares, shares[:1].expand(4))
    for row in range(5):
        expected = torch.zeros(3)
        expected[LABELS[row]] += shares[0]
        expected[LABELS[4 - row]] += 1 - shares[0]
        torch.testing.assert_close(soft[row], expected)
    whole = (images == flat) | (images == other)
    assert whole.all() == (kind == "cutmix")


def test_a_cut_is_one_rectangle_in_all_images(flat):
    np.random.seed(1)
    images, _ = mix_images(flat, LABELS, num_classes=3, cutmix=1.0)
    cut = (images != flat)[0].all(0)
    rows, columns = cut.any(1), cut.any(0)
    assert 0 < cut.sum() < cut.numel()
    assert torch.equal(cut, rows[:, None] & columns[None])
    assert torch.equal((images != flat)[4], (images != flat)[0])
    # The images that were given stay.
    assert (flat[0] == 0).all()


def test_where_both_are_asked_for_each_has_its_turn(flat):
    np.random.seed(0)
    whole = []
    for _ in range(40):
        images, _ = mix_images(flat, LABELS, num_classes=3, mixup=1.0, cutmix=1.0)
        whole.append(((images == flat) | (images == flat.flip(0))).all().item())
    assert 10 < sum(whole) < 30


def test_a_smoothed_label_is_torchs(flat):
    logits = torch.randn(5, 3)
    _, soft = mix_images(flat, LABELS, num_classes=3, label_smoothing=0.2)
    expected = torch.nn.functional.cross_entropy(logits, LABELS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, soft), expected)
