import math
from itertools import pairwise

import jaxtyping
import pytest
import torch
from torch import nn

from robust_hub.attacks import Square
from robust_hub.losses import margin
from robust_hub.threats import L2, Linf, Threat

THREATS = [Linf(0.1), L2(1.0)]


class Constant(nn.Module):
    """Answers every image with the same logits, so that Square never keeps a change; lists the images it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return torch.tensor([1.0, 0.0]).repeat(len(images), 1)


class Quantised(nn.Module):
    """Rounds pixels to 16 levels before a linear layer: a staircase without gradients, seen under no_grad only."""

    def __init__(self, pixels: int):
        super().__init__()
        self.linear = nn.Linear(pixels, 3)

    @torch.no_grad()
    def forward(self, images):
        return self.linear((15 * images).round().flatten(1) / 15)


def linf_changes(images: torch.Tensor, queries: int) -> list[torch.Tensor]:
    """Marks the pixels of each query that differ from the start, which a constant classifier keeps: its windows."""
    classifier = Constant()
    Square(Linf(0.1), queries=queries)(classifier, images, torch.zeros(len(images), dtype=torch.long))
    start, *candidates = classifier.seen
    return [(candidate != start).any(1) for candidate in candidates]


def windows(changes: torch.Tensor) -> list[tuple[range, range]]:
    """Reads off, image by image, the rows and columns between the first and the last change."""
    extents = []
    for plane in changes:
        rows, columns = (plane.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
        if rows:
            extents.append((range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1)))
    return extents


def test_sizes_follow_the_schedule_of_the_paper(images):
    for query, changes in enumerate(linf_changes(images.repeat(4, 1, 1, 1), 220), start=1):
        # Section 3.1: 0.8 of the pixels, halved at iterations 10, 50, 200 (and 500, ...) of 10,000.
        share = 0.8 / 2 ** ((query > 10) + (query > 50) + (query > 200))
        # A window shows its width where a sign differs from the start in both outer columns, 49 of 64 windows.
        side = max(max(len(rows), len(columns)) for rows, columns in windows(changes))
        assert side == round(math.sqrt(share * 64))


def test_sizes_stop_at_a_single_pixel(images):
    # 0.8 * 64 / 2^5 = 1.6 pixels from query 1001 on.
    for changes in linf_changes(images, 1020)[1000:]:
        assert changes.sum((1, 2)).max() <= 1


def test_windows_lie_everywhere_up_to_the_last_row_and_column():
    changes = linf_changes(0.3 + 0.4 * torch.rand(40, 3, 8, 12), 120)
    # The sides are round(sqrt(0.2 * 96)) = 4 from query 51 on.
    small = [extent for masks in changes[50:] for extent in windows(masks)]
    assert {rows[0] for rows, _ in small if len(rows) == 4} == set(range(5))
    assert {columns[0] for _, columns in small if len(columns) == 4} == set(range(9))


def test_every_image_has_windows_of_its_own(images):
    (changes,) = linf_changes(images, 2)
    assert len(set(windows(changes))) > 1


def test_a_candidate_of_linf_lies_on_the_surface_of_the_ball(images):
    classifier = Constant()
    Square(Linf(0.1), queries=60)(classifier, images, torch.zeros(6, dtype=torch.long))
    # Images are at least 0.3 from 0 and 1; additions round pixels to 6e-8.
    torch.testing.assert_close(
        (torch.stack(classifier.seen) - images).abs(), torch.full((60, 6, 3, 8, 8), 0.1), rtol=0, atol=1e-7
    )


def test_a_candidate_of_l2_lies_on_the_surface_of_the_ball(images):
    classifier = Constant()
    Square(L2(0.5), queries=60)(classifier, images, torch.zeros(6, dtype=torch.long))
    lengths = (torch.stack(classifier.seen) - images).flatten(2).norm(dim=2)
    # Float32 sums of 192 squares; 0.5 on so few pixels does not take an image from [0.3, 0.7] to a border.
    torch.testing.assert_close(lengths, torch.full((60, 6), 0.5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_more_queries_never_lower_the_margin(create_smooth, border_images, threat):
    classifier, margins = create_smooth(), []
    labels = classifier(border_images).argmax(1)
    for queries in (1, 5, 20, 80):
        torch.manual_seed(1)
        adversarial = Square(threat, queries=queries)(classifier, border_images, labels)
        margins.append(margin(classifier(adversarial), labels))
    # Batches of other sizes may round logits of order 1 differently.
    assert all((after >= before - 1e-6).all() for before, after in pairwise(margins))
    assert margins[-1].mean() > margins[0].mean()


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("queries", [1, 7])
def test_an_image_takes_as_many_passes_as_there_are_queries(images, threat, queries):
    classifier = Constant()
    Square(threat, queries=queries)(classifier, images, torch.zeros(6, dtype=torch.long))
    assert [len(batch) for batch in classifier.seen] == [6] * queries


@pytest.mark.parametrize("threat", [Linf(0.5), L2(5.0)], ids=str)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (1, 8, 12), (2, 12, 8), (1, 4, 4)], ids=str)
def test_square_fools_a_classifier_without_gradients_for_images_of_any_shape(threat, shape):
    classifier, images = Quantised(math.prod(shape)), torch.rand(6, *shape)
    labels = classifier(images).argmax(1)
    adversarial = Square(threat, queries=400)(classifier, images, labels)
    assert (classifier(adversarial).argmax(1) != labels).all()
    assert (threat.norm(adversarial - images) <= threat.eps + 1e-6).all()


def test_square_refuses_another_norm(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse it first

    class L1(Threat):
        name = "l1"

        def project(self, delta): ...
        def sample(self, like): ...
        def steepest_ascent(self, grad): ...
        def norm(self, delta): ...

    with pytest.raises(ValueError, match="Square knows linf and l2, got l1:1"):
        Square(L1(1.0))


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"share": 0.0}, {"share": 1.1}], ids=str)
def test_square_refuses_what_can_not_search(wrong):
    with pytest.raises(ValueError, match=r"Square needs queries >= 1 and a share in \(0, 1\], got Square"):
        Square(Linf(0.1), **wrong)
