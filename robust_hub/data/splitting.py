"""Makes train, validation and test of whatever splits there are."""

import numpy as np
from datasets import Dataset

HELD_OUT = 0.1
TEST_HELD_OUT = 0.2


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
