"""A data set as train, validation and test, checked and told before any training starts."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset, Image, Value

from robust_hub.data.builtin import BUILTIN
from robust_hub.data.classes import compare_with_train, drop_hidden, settle_classes
from robust_hub.data.collecting import count_classes
from robust_hub.data.columns import check_cells, find_image_column, find_label_column, with_images
from robust_hub.data.content import Contents, place_of
from robust_hub.data.duplicates import leave_out, tell_contradictions, tell_copies
from robust_hub.data.facts import tell_imbalance
from robust_hub.data.images import read_mode
from robust_hub.data.levels import tell_levels, white_of
from robust_hub.data.objects import objects_of
from robust_hub.data.opening import open_splits
from robust_hub.data.source import Rule, Source
from robust_hub.data.splitting import TODAY, Division, in_three, to_test
from robust_hub.data.three_splits import Data


def load_data(source: Source, *, seed: int = 0, rule: Rule = TODAY) -> Data:
    """Loads an image-classification data set and splits it into train, validation and test, to train on.

    Columns are found by feature type (Image, ClassLabel), or else by name, where the source does not name them. A
    missing validation split is a tenth of train; a missing test split is the validation split, and without that a fifth
    of train.

    Args:
        source: which data set, and its columns.
        seed: decides which images are held out. Numbers are comparable between runs of one seed only.
        rule: how the set is divided.

    Raises:
        ValueError: when there is no such data set, a file can't be read, a column can't be told, a label is outside its
            range, or a split is missing or empty.
    """
    if source.tested == "all":
        raise ValueError("--tested all leaves no image to train on; drop it, or evaluate with evaluate.py")
    rule = _in_force(rule, source)
    opened = open_labelled(source, rule)
    division = in_three(source.data, opened.splits, opened.objects, seed=seed, rule=rule)
    return _checked(source, opened, division, rule)


def load_test_data(source: Source, *, seed: int = 0, rule: Rule = TODAY) -> Data:
    """Loads an image-classification data set to be tested on.

    What `load_data` divides is divided alike, so that a model is not tested on what it was trained on. Without a train
    split, or where the source says that all images are tested, train and maybe validation have no rows.

    Args:
        source: see `load_data`.
        seed: see `load_data`.
        rule: see `load_data`.

    Raises:
        ValueError: see `load_data`; also when there is nothing to test on.
    """
    rule = _in_force(rule, source)
    opened = open_labelled(source, rule)
    division = to_test(source.data, opened.splits, opened.objects, seed=seed, rule=rule, tested=source.tested)
    data = _checked(source, opened, division, rule)
    if "test" in division.held_out and source.data not in BUILTIN:
        told = "only the held-out images are tested, as a model may have learnt from the rest; --tested all tests all"
        return replace(data, notes=[*data.notes, told])
    return data


@dataclass(frozen=True)
class Labelled:
    """The splits with the columns of `Data` and the numbers of their images in `contents`, and what else was found.

    `objects` tells which each image of train shows.
    """

    splits: dict[str, Dataset]
    contents: Contents
    label_names: list[str]
    objects: np.ndarray
    notes: list[str]


def open_labelled(source: Source, rule: Rule) -> Labelled:
    """Opens a data set, and checks its classes and its first image; see `load_data`."""
    name, found = source.data, open_splits(source)
    columns = found.splits.get("train", next(iter(found.splits.values()))).features
    image = source.image_column or find_image_column(name, columns)
    label = source.label_column or find_label_column(name, columns)
    for column in (image, label):
        if column not in columns:
            raise ValueError(f"{name} has no column '{column}'; its columns are {', '.join(columns)}")
    splits = {split: with_images(name, rows, image, found.places) for split, rows in found.splits.items()}
    splits, hidden = drop_hidden(name, splits, label)
    in_order = dict(sorted(splits.items(), key=lambda named: named[0] != "train"))
    label_names, labels, settled = settle_classes(name, in_order, label)
    objects, alone = np.zeros(0, np.int64), []
    if "train" in splits:
        objects, alone = objects_of(name, splits["train"], image, source.group_by)
    images = {
        split: rows.select_columns([image]).rename_columns({image: "image"}).cast_column("image", Image(decode=False))
        for split, rows in splits.items()
    }
    for split, rows in images.items():
        check_cells(rows, partial(place_of, split=split, name=name))
    # The first image is opened here, so that a set that can't be read is told at once.
    first = ((images[split][0]["image"], place_of(0, split, name)) for split, rows in in_order.items() if len(rows))
    mode = next((read_mode(*each) for each in first), "")
    contents = Contents(name, images)
    # To verify what was measured on a set by an older rule, most need not be looked at.
    white = white_of(contents) if rule.duplicates == "left out" or mode == "F" else 0.0
    start = 0
    for split, rows in images.items():
        splits[split] = (
            rows.add_column("label", labels[split], feature=Value("int64"))
            .add_column("row", list(range(len(rows))))
            .add_column("where", [place_of(row, split, name) for row in range(len(rows))])
            .add_column("number", list(range(start, start + len(rows))))
        )
        if white:
            splits[split] = splits[split].add_column("white", [white] * len(rows))
        start += len(rows)
    notes = [*found.notes, *hidden, *settled, *alone]
    return Labelled(splits, contents, label_names, objects, notes)


def _in_force(rule: Rule, source: Source) -> Rule:
    return Rule() if source.data in BUILTIN else rule


def _checked(source: Source, opened: Labelled, division: Division, rule: Rule) -> Data:
    name, splits, notes = source.data, division.splits, [*opened.notes, *division.notes]
    if source.group_by and not division.held_out:
        raise ValueError(f"no image of {name} is held out, so --group-by has no effect; drop it")
    numbers = {split: np.asarray(rows["number"][:], dtype=np.int64) for split, rows in splits.items()}
    splits = {split: rows.remove_columns("number") for split, rows in splits.items()}
    left_out = {}
    if rule.duplicates == "left out":
        ours = _ours(source, division)
        rule = replace(rule, duplicates="left out" if "test" in ours else "kept")
        notes += _tell_content(opened, numbers, splits)
        pixels = {split: opened.contents.table["pixels"][own] for split, own in numbers.items()}
        out, told = leave_out(name, pixels, ours, division.held_out)
        notes += told
        left_out = {split: int(own.sum()) for split, own in out.items() if own.any()}
        for split in left_out:
            splits[split] = splits[split].select(np.flatnonzero(~out[split]))
            numbers[split] = numbers[split][~out[split]]
    for split in ("validation", "test"):
        if "train" in opened.splits and division.origins[split].startswith("split "):
            notes += compare_with_train(name, opened.label_names, opened.splits["train"], split, splits[split])
    return Data(
        Path(name).resolve().name,
        **splits,
        label_names=opened.label_names,
        origins=division.origins,
        notes=notes,
        rule=rule,
        contents=opened.contents,
        numbers=numbers,
        left_out=left_out,
    )


def _ours(source: Source, division: Division) -> list[str]:
    """Names the splits that duplicates are left out of: not those that come with tables, or from the Hub."""
    cell = division.splits["test"][0]["image"]
    is_of_files = Path(source.data).expanduser().exists() and cell["bytes"] is None
    given = [split for split, origin in division.origins.items() if origin.startswith("split ") and is_of_files]
    return [*division.held_out, *given]


def _tell_content(opened: Labelled, numbers: dict[str, np.ndarray], splits: dict[str, Dataset]) -> list[str]:
    """Notes what a user should know of classes and images, before any are left out."""
    table, names = opened.contents.table, opened.label_names
    labels = {split: np.asarray(rows["label"][:], dtype=np.int64) for split, rows in splits.items()}
    told = "train" if len(labels["train"]) else "test"
    together = [np.concatenate(list(each.values())) for each in (numbers, labels)]
    return [
        *tell_imbalance(told, count_classes(labels[told], names)),
        *tell_levels(table, white_of(opened.contents))[1],
        *tell_copies({split: table["pixels"][own] for split, own in numbers.items()}),
        *tell_contradictions(opened.contents, *together, names),
    ]
