"""A split in portions, each known by its first row, so that no figure depends on how many processes share them."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object

from robust_hub.data import mix
from robust_hub.types import Images, Labels


class Portion(NamedTuple):
    """Images that are measured together.

    Attributes:
        first: the row of the first of them; the others follow it.
        images: in [0, 1].
        labels: of these.
    """

    first: int
    images: Images
    labels: Labels


def gather(found: Iterable[tuple[int, Any]]) -> list[Any]:
    """Gives every process what all of them have found on their portions, in the order of the split; all must call it.

    Args:
        found: on each portion of this process, with its first row.
    """
    return [value for _, value in sorted(gather_object(list(found)), key=lambda each: each[0])]


@contextmanager
def seeded(seed: int, *parts: int, device: torch.device) -> Generator[None]:
    """Lets random numbers begin from a seed and what else decides, and puts the global generator back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mix(seed, *parts) if parts else seed)
        yield
