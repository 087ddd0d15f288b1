"""Which images show the same object, as photos of one must not stand on both sides of a split."""

import os
import re

import numpy as np
from datasets import Dataset, Image

from robust_hub.data.listing import counted


def objects_of(name: str, rows: Dataset, image: str, group_by: str) -> tuple[np.ndarray, list[str]]:
    """Numbers the objects that images show.

    Args:
        name: of the data set, for errors.
        rows: the images, with all columns of the data set.
        image: the column of images.
        group_by: a column, or a regular expression over names of files; each image is one object where empty.

    Returns:
        The number of each image's object, and a note where some tell none.

    Raises:
        ValueError: when there is no such column and the expression is none, or matches no file.
    """
    if not group_by:
        return np.arange(len(rows)), []
    if group_by in rows.column_names:
        named = [None if cell is None else str(cell) for cell in rows[group_by][:]]
        lacking = f"no {group_by}"
    else:
        named = _by_file(name, rows, image, group_by)
        lacking = f"a name that '{group_by}' does not match"
    numbers = {each: number for number, each in enumerate(dict.fromkeys(each for each in named if each is not None))}
    alone = named.count(None)
    if not numbers:
        raise ValueError(
            f"--group-by must name an object for some images, but all {len(named):,} of {name} have {lacking}"
        )
    own = iter(range(len(numbers), len(numbers) + alone))
    objects = np.array([next(own) if each is None else numbers[each] for each in named])
    have = counted(alone, "image has", "images have")
    return objects, [f"{have} {lacking}, and each counts as an object of its own"] if alone else []


def _by_file(name: str, rows: Dataset, image: str, group_by: str) -> list[str | None]:
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        columns = ", ".join(rows.column_names)
        raise ValueError(
            f"--group-by must be a column of {name} ({columns}) or a regular expression, got '{group_by}' ({error})"
        ) from error
    undecoded = rows.cast_column(image, Image(decode=False))
    paths = [cell["path"] or "" if cell else "" for cell in undecoded[image]]
    if "/" in group_by:
        shared = os.path.commonpath(map(os.path.dirname, paths))
        names = [os.path.relpath(path, shared) if shared else path for path in paths]
    else:
        names = list(map(os.path.basename, paths))
    if not any(names):
        raise ValueError(f"{name} keeps no names of files that --group-by '{group_by}' could match; name a column")
    found = map(pattern.search, names)
    matched = [match and (match.group(1) if pattern.groups else match.group()) for match in found]
    if not any(match is not None for match in matched):
        raise ValueError(
            f"--group-by must be a column of {name} ({', '.join(rows.column_names)}) or match names of its files, but "
            f"'{group_by}' matches none, for example {names[0]}; correct it"
        )
    return matched
