"""Which classes a data set has: one list of names for all splits, whatever way they tell theirs."""

from collections.abc import Mapping

import numpy as np
from datasets import ClassLabel, Dataset

from robust_hub.errors import strange_name

HIDDEN = -1


def drop_hidden(name: str, splits: dict[str, Dataset], label: str) -> tuple[dict[str, Dataset], list[str]]:
    """Leaves out the splits whose labels are hidden, as those of competitions are: all -1, or none at all.

    Returns:
        The other splits, and notes of what was left out.

    Raises:
        ValueError: when no split is left.
    """
    hidden = [split for split, rows in splits.items() if len(rows) and _labels(rows, label) <= {HIDDEN, None}]
    if hidden and len(hidden) == len(splits):
        raise ValueError(f"{name} hides all its labels; name another --label-column")
    notes = [f"the labels of split {split} are hidden, so it is not used" for split in hidden]
    return {split: rows for split, rows in splits.items() if split not in hidden}, notes


def _labels(rows: Dataset, label: str) -> set:
    return set(rows.unique(label)) if label in rows.features else set()


def settle_classes(
    name: str, splits: Mapping[str, Dataset], label: str
) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
    """Brings the labels of all splits to one list of classes, matched by name where they have names.

    Args:
        name: of the data set, for errors.
        splits: by their names; train first where there is one.
        label: the column of the labels: a ClassLabel, whole numbers, or strings.

    Returns:
        The names of the classes, the labels of each split as numbers of these, and notes of what was done.

    Raises:
        ValueError: when a label is missing, out of range, no label, or of a class that train lacks.
    """
    for split, rows in splits.items():
        if None in rows.unique(label):
            raise ValueError(
                f"{name}, split {split} has rows without a label; drop them or name another --label-column"
            )
    names, named, notes = _named(name, splits, label)
    if strange := strange_name(names):
        raise ValueError(f"{name} must name its classes so that they can be shown, got {strange}; rename it")
    number = {class_name: index for index, class_name in enumerate(names)}
    labels = {split: np.array([number[each] for each in values], dtype=np.int64) for split, values in named.items()}
    return names, labels, notes


def _named(name: str, splits: Mapping[str, Dataset], label: str) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Gives the names of the classes, and the label of each row as one of them."""
    features = {split: rows.features[label] for split, rows in splits.items()}
    first = next(iter(features.values()))
    if isinstance(first, ClassLabel):
        return _of_class_labels(name, splits, label, first.names)
    kind = getattr(first, "dtype", "")
    if kind in ("string", "large_string", "string_view"):
        named = {split: list(map(str, rows[label][:])) for split, rows in splits.items()}
        return sorted(set().union(*named.values())), named, []
    if not kind.startswith(("int", "uint")):
        raise ValueError(f"column '{label}' of {name} must hold class numbers or names, got {first}")
    numbers = sorted(set().union(*(rows.unique(label) for rows in splits.values())))
    if numbers and numbers[0] < 0:
        _refuse_number(name, splits, label, f"in [0, {numbers[-1] + 1})", lambda number: number < 0)
    named = {split: list(map(str, rows[label][:])) for split, rows in splits.items()}
    notes = []
    if numbers != list(range(len(numbers))):
        shown = f"{', '.join(map(str, numbers[:3]))}{', ...' if len(numbers) > 3 else ''}"
        notes = [
            f"class numbers are not 0 to {len(numbers) - 1}: the classes are the {len(numbers)} there are, {shown}"
        ]
    return list(map(str, numbers)), named, notes


def _of_class_labels(
    name: str, splits: Mapping[str, Dataset], label: str, names: list[str]
) -> tuple[list[str], dict[str, list[str]], list[str]]:
    named, notes = {}, []
    for split, rows in splits.items():
        feature = rows.features[label]
        own = feature.names if isinstance(feature, ClassLabel) else names
        _refuse_number(
            name, {split: rows}, label, f"in [0, {len(own)})", lambda number, own=own: not 0 <= number < len(own)
        )
        named[split] = [own[number] for number in rows[label][:]]
        if strange := sorted(set(named[split]) - set(names)):
            raise ValueError(
                f"class '{strange[0]}' of split {split} of {name} is none of those of the first split "
                f"({', '.join(names[:3])}, ...); bring both to the same classes"
            )
        if own != names:
            notes.append(f"split {split} lists its classes in another order or number: they are matched by name")
    return names, named, notes


def _refuse_number(name: str, splits: Mapping[str, Dataset], label: str, wanted: str, is_wrong) -> None:
    for split, rows in splits.items():
        if any(map(is_wrong, rows.unique(label))):
            row, got = next((row, number) for row, number in enumerate(rows[label][:]) if is_wrong(number))
            raise ValueError(
                f"labels must be {wanted}, got {got} at row {row} of {name}, split {split}; "
                "drop such rows or name another --label-column"
            )


def compare_with_train(name: str, names: list[str], train: Dataset, split: str, rows: Dataset) -> list[str]:
    """Compares the classes of a split with those of train.

    Returns:
        A note where the split lacks some.

    Raises:
        ValueError: when train lacks one that the split has.
    """
    # `Dataset.unique` would copy both first.
    known, there = set(train["label"][:]), set(rows["label"][:])
    if unknown := sorted(there - known):
        raise ValueError(
            f"class '{names[unknown[0]]}' is in split {split} of {name} and not in train, so nobody can learn it; add "
            "images of it or drop these rows"
        )
    absent = sorted(known - there)
    if not absent:
        return []
    return [f"split {split} has no image of {len(absent)} of the classes, for example '{names[absent[0]]}'"]
