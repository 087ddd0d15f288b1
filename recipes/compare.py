"""Compares the models of a folder: a table here, or a page to look at, sort and filter.

    python recipes/compare.py
    python recipes/compare.py model_cards --html model_cards/index.html
    python recipes/compare.py model_cards --space FOLDER

The page is one file that needs no server and no network: the table, robust against clean accuracy and against the cost
of training, and the cards, to which every number leads. Its pictures and links are relative to the models' folders.
Models of different data, threat or protocol are never compared; those that are not AutoAttack's are marked by a <=,
as upper bounds. Flagged ones can't be on the Pareto front. All figures are claimed by the models' publishers. A folder
that can't be read is left out, and named here and on the page, with the reason.
"""

from pathlib import Path

import tyro

from robust_hub import leaderboard
from robust_hub.hub import MODEL_CARDS, left_out, list_models
from robust_hub.launch import command_line, tell


def compare(
    folder: tyro.conf.Positional[Path] = MODEL_CARDS, *, html: Path | None = None, space: Path | None = None
) -> None:
    """Compares the models of a folder.

    Args:
        folder: with the models' folders in it.
        html: writes the page there, as index.html where it is a folder.
        space: a new folder that a Space on the Hub shows: the page with what it shows of the models, without weights.
    """
    models, others = list_models(folder=folder), left_out(folder)
    if models:
        tell(leaderboard.model_table({Path(place).name: info for place, info in models.items()}))
    for name, reason in others.items():
        _tell_reason("left out", name, reason)
    if not models:
        raise ValueError(
            f"no model in {folder} has an evaluation; write one with recipes/evaluate.py --update-card, or "
            "name another folder that holds models' folders"
        )
    if html is not None:
        file = html / leaderboard.PAGE if html.is_dir() else html
        for name, reason in leaderboard.write_page(file, models, left_out=others).items():
            _tell_reason("card not shown", name, reason)
        tell(f"written: {file}")
    if space is not None:
        for name, reason in leaderboard.write_space(space, models, left_out=others).items():
            _tell_reason("card not shown", name, reason)
        tell(f"written: {space}")


def _tell_reason(what: str, name: str, reason: str) -> None:
    # On one line, whatever a stranger calls a folder.
    tell(f"{what}: {name} ({reason})".replace("\n", "?"))


if __name__ == "__main__":
    # No argument at all means the folder of this checkout, not --help.
    command_line({"compare": compare}, default=str(MODEL_CARDS), launcher="")
