"""What people call their splits."""

import os
import re

# Of folders and files, whatever the case.
SPLITS = {"train": "train", "training": "train"}
SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SPLITS |= dict.fromkeys(("test", "testing"), "test")
# train-00000-of-00001-0a1b2c3d4e5f6a7b: which part of a split a file holds, as the Hub numbers them.
PART = re.compile(r"[-_.]?\d+([-_.]of[-_.]\d+)?(-[0-9a-f]{8,})?$")


def split_of_folder(path: tuple[str, ...]) -> str:
    """Gives the split that the first folder of a path is called by; empty where it is none."""
    return SPLITS.get(path[0].lower(), "")


def split_of_table(path: tuple[str, ...]) -> str:
    """Gives the split that a file of rows is called by, itself or its nearest folder; empty where it is none.

    The first word of its own name counts before the others.

    Raises:
        ValueError: when its name has words of two splits, none of them the first.
    """
    words = [word for word in re.split(r"[\W\d_]+", PART.sub("", os.path.splitext(path[-1])[0].lower())) if word]
    if words and words[0] in SPLITS:
        return SPLITS[words[0]]
    found = {SPLITS[word] for word in words if word in SPLITS}
    if len(found) > 1:
        raise ValueError(
            f"{'/'.join(path)} is called by the splits {' and '.join(sorted(found))}; begin its name with its own"
        )
    folders = (SPLITS[folder.lower()] for folder in reversed(path[:-1]) if folder.lower() in SPLITS)
    return next(iter(found), "") or next(folders, "")
