"""Makes train, validation and test of whatever splits there are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, concatenate_datasets

from robust_hub.data.listing import counted
from robust_hub.data.source import Rule, Tested

HELD_OUT = 0.1
TEST_HELD_OUT = 0.2


# Built-in sets keep the split they have, drawn at random.
TODAY = Rule(held_out="by class", duplicates="left out")
OF_TRAIN = {"at random": "train", "by class": "each class of train"}
NONE = "none"


@dataclass(frozen=True)
class Division:
    """A set in three; a split that there is not has no rows.

    Attributes:
        splits: train, validation and test.
        origins: where each of them is from: "split NAME" where the set gives it.
        notes: of what could not be divided as it should.
    """

    splits: dict[str, Dataset]
    origins: dict[str, str]
    notes: list[str]

    @property
    def held_out(self) -> list[str]:
        """The splits that were drawn from train."""
        return [split for split, origin in self.origins.items() if origin.endswith("held out by seed")]


def in_three(
    name: str, splits: Mapping[str, Dataset], objects: np.ndarray, *, seed: int, rule: Rule = TODAY
) -> Division:
    """Gives train, validation and test, to train on.

    A missing validation split is a tenth of train; a missing test split is the validation split, and without that a
    fifth of train.

    Args:
        name: of the data set, for errors.
        splits: as they are called, with a column `label`.
        objects: the number of the object that each image of train shows; those of one object stay together.
        seed: decides which images are held out.
        rule: how they are drawn.

    Raises:
        ValueError: when there is no train, or a split is empty or too small.
    """
    given = _given(splits)
    if "train" not in given:
        raise ValueError(
            f"{name} must have a split named train, got {', '.join(splits)}; without one it can only be evaluated"
        )
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
    train, origin = given["train"]
    notes: list[str] = []
    for split, share, told in (("test", TEST_HELD_OUT, "a fifth"), ("validation", HELD_OUT, "a tenth")):
        if split in given:
            continue
        taken = _held_out(name, np.asarray(train["label"][:]), objects, share, seed, rule)
        given[split] = train.select(np.flatnonzero(taken)), f"{told} of {OF_TRAIN[rule.held_out]}, held out by seed"
        notes += _without(split, given[split][0], train)
        train, objects = train.select(np.flatnonzero(~taken)), objects[~taken]
    given["train"] = train, origin
    return _division(name, given, notes)


def to_test(
    name: str, splits: Mapping[str, Dataset], objects: np.ndarray, *, seed: int, rule: Rule, tested: Tested
) -> Division:
    """Gives what is tested, and the rest where it is there.

    Args:
        name: of the data set, for errors.
        splits: see `in_three`, which divides a set that has a train split.
        objects: see `in_three`.
        seed: see `in_three`.
        rule: see `in_three`.
        tested: its test split, else the validation split; or all images.

    Raises:
        ValueError: when there is nothing to test.
    """
    given = _given(splits)
    if tested == "all":
        return _division(name, {"test": (concatenate_datasets(list(splits.values())), "all images")}, [])
    if "train" in given:
        return in_three(name, splits, objects, seed=seed, rule=rule)
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
    if "test" not in given:
        raise ValueError(
            f"{name} must have a split named test, validation or train, got {', '.join(splits)}; --tested all takes any"
        )
    return _division(name, given, [])


def _given(splits: Mapping[str, Dataset]) -> dict[str, tuple[Dataset, str]]:
    given = {}
    for split, names in {
        "train": ("train",),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test",),
    }.items():
        found = next((each for each in names if each in splits), None)
        if found is not None:
            given[split] = splits[found], f"split {found}"
    return given


def _division(name: str, given: Mapping[str, tuple[Dataset, str]], notes: list[str]) -> Division:
    for split, (rows, _) in given.items():
        if len(rows) == 0:
            raise ValueError(f"split {split} of {name} is empty; every split needs at least one image")
    none = given["test"][0].select([]), NONE
    three = {split: given.get(split, none) for split in ("train", "validation", "test")}
    return Division(
        {split: rows for split, (rows, _) in three.items()},
        {split: origin for split, (_, origin) in three.items()},
        notes,
    )


def _held_out(name: str, labels: np.ndarray, objects: np.ndarray, share: float, seed: int, rule: Rule) -> np.ndarray:
    """Draws the objects that are held out, and tells of each image whether it shows one."""
    if len(labels) < 2:
        raise ValueError(
            f"split train of {name} has {len(labels)} images, too few to hold any out; it needs at least 2"
        )
    there, objects = np.unique(objects, return_inverse=True)
    if len(there) < 2:
        raise ValueError(f"all images of split train of {name} show one object; name another --group-by")
    rng = np.random.default_rng(seed)
    if rule.held_out == "at random":
        return np.isin(objects, rng.permutation(len(there))[: max(1, round(share * len(there)))])
    taken = _drawn_by_class(labels, objects, share, rng)
    if not taken:
        raise ValueError(
            f"split train of {name} must have a class with two images or objects to hold one out, got "
            f"{len(there)} in {len(np.unique(labels))} classes; add images, or splits of your own"
        )
    return np.isin(objects, taken)


def _drawn_by_class(labels: np.ndarray, objects: np.ndarray, share: float, rng: np.random.Generator) -> list[int]:
    """Draws a share of the objects of each class, at least one, and never the last one that is left of a class."""
    classes, labels = np.unique(labels, return_inverse=True)
    # Each object once with each of its classes, by class; in numbers, as rows of two are slow to sort.
    pairs = np.unique(labels * (objects.max() + 1) + objects)
    label_of, object_of = np.divmod(pairs, objects.max() + 1)
    counts = np.bincount(label_of)
    of_class = np.split(object_of, np.cumsum(counts)[:-1])
    of_several = set(np.flatnonzero(np.bincount(object_of) > 1).tolist())
    left, taken = counts.tolist(), {}
    for label in range(len(classes)):
        order = rng.permutation(of_class[label]).tolist()
        still = max(1, round(share * len(order))) - sum(number in taken for number in order)
        for number in order:
            if still <= 0:
                break
            own = label_of[object_of == number].tolist() if number in of_several else [label]
            if number not in taken and all(left[each] > 1 for each in own):
                taken[number] = True
                still -= 1
                for each in own:
                    left[each] -= 1
    return list(taken)


def _without(split: str, rows: Dataset, train: Dataset) -> list[str]:
    """Tells of which classes nothing could be held out."""
    # `Dataset.unique` would copy both first.
    lacking = set(train["label"][:]) - set(rows["label"][:])
    if not lacking:
        return []
    of = counted(len(lacking), "class", "classes")
    return [f"no image of {of} is held out for {split}, as train would have none of them"]
