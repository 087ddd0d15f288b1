"""Square Attack: random search with squares, asking the classifier for logits only."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_hub.attacks.base import eval_mode, misclassified
from robust_hub.losses import margin
from robust_hub.threats import L2, Linf
from robust_hub.types import Images, Labels

# After so many queries the share of pixels in a square is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
FIRST_GRID = 5


@dataclass(frozen=True)
class Square:
    """Changes a random square of the image, and keeps the change when the margin grows.

    Args:
        threat: the ball, of linf or l2.
        queries: forward passes an image.
        share: of the pixels, that the first squares cover.

    Raises:
        ValueError: for another norm, or when queries or share make no sense.

    Source: Andriushchenko et al., ECCV 2020, arXiv 1912.00049, Algorithms 1, 2 and 3.
    Deviations: the size schedule is that of 10,000 queries whatever their number, as in AutoAttack; the first
        l2 grid starts at the top left corner. Every image has squares of its own, as in the paper.
    """

    threat: Linf | L2
    queries: int = 5000
    share: float = 0.8

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Linf | L2):
            raise ValueError(f"Square knows linf and l2, got {self.threat}; choose one of these")
        if self.queries < 1 or not 0 < self.share <= 1:
            raise ValueError(f"Square needs queries >= 1 and a share in (0, 1], got {self}")

    @property
    def most_passes(self) -> int:
        """Forward passes that an image takes at most."""
        return self.queries

    @torch.no_grad()
    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images; where none was found, those of largest margin."""
        propose = _Linf(self.threat.eps) if isinstance(self.threat, Linf) else _L2(self.threat.eps)
        if not len(images):
            return images.clone()
        found, number = images.clone(), torch.arange(len(images), device=images.device)
        with eval_mode(classifier):
            best = propose.first(images)
            logits = classifier(best)
            highest, fooled = margin(logits, labels), misclassified(classifier, best, labels, logits)
            for query in range(1, self.queries):
                if fooled.any():
                    found[number[fooled]] = best[fooled]
                    number, images, labels, best, highest = (
                        rows[~fooled] for rows in (number, images, labels, best, highest)
                    )
                    if not len(number):
                        break
                candidates = propose.next(images, best, _square_share(self.share, query))
                logits = classifier(candidates)
                margins, fooled = margin(logits, labels), misclassified(classifier, candidates, labels, logits)
                better = (margins > highest) | fooled
                highest[better], best[better] = margins[better], candidates[better]
            found[number] = best
        return found


def _square_share(share: float, query: int) -> float:
    return share / 2 ** sum(query > halving for halving in HALVINGS)


def _windows(images: Images, side: int) -> Tensor:
    """Draws a square in each image; its pixels as numbers in the flattened plane, n by side * side."""
    n, _, height, width = images.shape
    top, left = (torch.randint(0, size - side + 1, (n, 1, 1), device=images.device) for size in (height, width))
    along = torch.arange(side, device=images.device)
    return ((top + along[:, None]) * width + left + along).flatten(1)


def _signs(*shape: int, device: torch.device) -> Tensor:
    return 2 * torch.randint(0, 2, shape, device=device) - 1.0


def _take(planes: Tensor, window: Tensor) -> Tensor:
    """Reads the pixels of a window from n c h*w planes."""
    return planes.gather(2, window[:, None].expand(-1, planes.shape[1], -1))


def _put(planes: Tensor, window: Tensor, pixels: Tensor) -> Tensor:
    return planes.scatter(2, window[:, None].expand(-1, planes.shape[1], -1), pixels)


@dataclass(frozen=True)
class _Linf:
    """Squares of one sign a channel, always at the border of the ball."""

    eps: float

    def first(self, images: Images) -> Images:
        n, channels, _, width = images.shape
        return (images + self.eps * _signs(n, channels, 1, width, device=images.device)).clamp(0, 1)

    def next(self, images: Images, best: Images, share: float) -> Images:
        n, channels, height, width = images.shape
        side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
        window = _windows(images, side)
        signs = _signs(n, channels, 1, device=images.device)
        pixels = (_take(images.flatten(2), window) + self.eps * signs).clamp(0, 1)
        return _put(best.flatten(2), window, pixels).view_as(images)


@dataclass(frozen=True)
class _L2:
    """Squares with a bump of each sign; what one square gives up of the length of the change, another gets."""

    eps: float

    def first(self, images: Images) -> Images:
        n, channels, height, width = images.shape
        side = max(min(height, width) // FIRST_GRID, 1)
        delta = torch.zeros_like(images)
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                bumps = self._bumps(n, channels, side, images).view(n, channels, side, side)
                delta[:, :, top : top + side, left : left + side] = bumps
        return self._inside(images, delta)

    def next(self, images: Images, best: Images, share: float) -> Images:
        n, channels, height, width = images.shape
        side = max(round(math.sqrt(share * height * width)), 3)
        side = min(side + 1 - side % 2, height, width)
        window, emptied = _windows(images, side), _windows(images, side)
        delta = (best - images).flatten(2)
        unused = (self.eps**2 - delta.square().sum((1, 2))).clamp_min(0)[:, None, None]
        old = _take(delta, window)
        delta = _put(delta, window, torch.zeros_like(old))
        given_up = _take(delta, emptied)
        delta = _put(delta, emptied, torch.zeros_like(old))
        energy = old.square().sum(2, keepdim=True) + given_up.square().sum(2, keepdim=True) + unused / channels
        bumps = _unit(self._bumps(n, channels, side, images) + _unit(old))
        return self._inside(images, _put(delta, window, bumps * energy.sqrt()).view_as(images))

    def _inside(self, images: Images, delta: Images) -> Images:
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
        return (images + delta * (self.eps / length)[:, None, None, None]).clamp(0, 1)

    def _bumps(self, n: int, channels: int, side: int, like: Images) -> Tensor:
        """Draws bumps of unit length, n c side*side, each lying or standing at random."""
        lying = _two_bumps(side).to(like)
        either = torch.stack([lying, lying.T]).flatten(1)
        chosen = either[torch.randint(0, 2, (n,), device=like.device)]
        return chosen[:, None] * _signs(n, channels, 1, device=like.device)


def _unit(pixels: Tensor) -> Tensor:
    return pixels / pixels.norm(dim=2, keepdim=True).clamp_min(1e-12)


def _two_bumps(side: int) -> Tensor:
    """Stacks a positive bump on a negative one in a square, at unit length."""
    upper = side // 2
    both = torch.cat([_bump(upper, side), -_bump(side - upper, side)])
    return both / both.norm().clamp_min(1e-12)


def _bump(height: int, width: int) -> Tensor:
    """Sums nested rectangles around the middle, the n-th weighted by 1 / n^2; at unit length where it is not empty."""
    bump = torch.zeros(height, width)
    half_height, half_width = height // 2 + 1, width // 2 + 1
    for ring in range(max(half_height, half_width)):
        top, left = half_height - 1 - ring, half_width - 1 - ring
        rows = slice(max(top, 0), min(top + 2 * ring + 1, height))
        bump[rows, max(left, 0) : min(left + 2 * ring + 1, width)] += 1 / (ring + 1) ** 2
    return bump / bump.norm().clamp_min(1e-12)
