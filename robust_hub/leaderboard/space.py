"""The page as a folder that a Space on the Hub shows: with all that it shows of the models, without their weights."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from robust_hub.files import whole_folder
from robust_hub.leaderboard.page import PAGE, write_page
from robust_hub.model_folder import ModelInfo, files_of

FRONT = """---
title: Robust image classifiers
emoji: 🛡
colorFrom: green
colorTo: blue
sdk: static
app_file: index.html
pinned: false
---

Image classifiers that withstand adversarial perturbations, side by side; written by `recipes/compare.py --space`.
"""
SHOWN = (".md", ".png", ".json")


def write_space(folder: Path, models: Mapping[str, ModelInfo], *, left_out: Mapping[str, str]) -> dict[str, str]:
    """Writes the folder, whole or not at all.

    Args:
        folder: a new one.
        models: see `write_page`.
        left_out: see `write_page`.

    Returns:
        Why cards are not shown, by the names of their folders.

    Raises:
        ValueError: when the folder is there already.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already; choose another --space")
    with whole_folder(folder) as space:
        (space / "README.md").write_text(FRONT, encoding="utf-8")
        copied = {}
        for place, info in models.items():
            original = Path(place.removeprefix("local-dir:"))
            copy = space / "models" / original.name
            for name in files_of(original):
                if name.endswith(SHOWN):
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(original / name, copy / name)
            copied[f"local-dir:{copy}"] = info
        return write_page(space / PAGE, copied, left_out=left_out)
