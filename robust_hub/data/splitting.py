"""Makes train, validation and test of whatever splits there are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from datasets import Dataset

HELD_OUT = 0.1
TEST_HELD_OUT = 0.2


@dataclass(frozen=True)
class Rule:
    """How a set is divided; kept with what was measured on it, so that the same images are found again.

    The defaults are those of evaluations that keep none.

    Attributes:
        held_out: at random, or of each class in proportion.
        duplicates: images of test that stand in another split as well: kept in it, or left out.
        tested: the test split, or all images of a set that is evaluated whole.
    """

    held_out: Literal["at random", "by class"] = "at random"
    duplicates: Literal["kept", "left out"] = "kept"
    tested: Literal["test", "all"] = "test"


# Built-in sets keep the split they have, drawn at random.
TODAY = Rule(held_out="by class", duplicates="left out")


def in_three(name: str, splits: dict[str, Dataset], seed: int) -> tuple[list[Dataset], dict[str, str]]:
    """Gives train, validation and test, and where each of them is from.

    Args:
        name: of the data set, for errors.
        splits: as they are called.
        seed: decides which images are held out.

    Raises:
        ValueError: when there is no train, or a split is empty or too small.
    """

    def take(*names: str) -> tuple[Dataset, str] | None:
        return next(((splits[split], f"split {split}") for split in names if split in splits), None)

    train, validation, test = take("train"), take("validation", "valid", "val", "dev"), take("test")
    if train is None:
        raise ValueError(f"{name} must have a split named train, got {', '.join(splits)}")
    if test is None:
        test, validation = validation, None
    if test is None:
        train, test = _hold_out(name, train, TEST_HELD_OUT, "a fifth", seed)
    if validation is None:
        train, validation = _hold_out(name, train, HELD_OUT, "a tenth", seed)
    found = {"train": train, "validation": validation, "test": test}
    for split, (rows, _) in found.items():
        if len(rows) == 0:
            raise ValueError(f"split {split} of {name} is empty; every split needs at least one image")
    return [rows for rows, _ in found.values()], {split: origin for split, (_, origin) in found.items()}


def _hold_out(
    name: str, split: tuple[Dataset, str], share: float, told: str, seed: int
) -> tuple[tuple[Dataset, str], tuple[Dataset, str]]:
    rows, origin = split
    if len(rows) < 2:
        raise ValueError(f"split train of {name} has {len(rows)} images, too few to hold any out; it needs at least 2")
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = max(1, round(share * len(rows)))
    kept, taken = rows.select(np.sort(order[held_out:])), rows.select(np.sort(order[:held_out]))
    return (kept, origin), (taken, f"{told} of train, held out by seed")
