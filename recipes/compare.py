"""Compares the models of a folder: a table here, or a page to look at, sort and filter.

    python recipes/compare.py
    python recipes/compare.py model_cards --html model_cards/index.html

The page is one file that needs no server and no network: the table, robust against clean accuracy and against the cost
of training, and the cards, to which every number leads. Its pictures and links are relative to the models' folders.
Models of different data, threat or protocol are never compared; those that are not AutoAttack's are marked by a <=,
as upper bounds. Flagged ones can't be on the Pareto front.
"""

from pathlib import Path

import tyro

from robust_hub import leaderboard
from robust_hub.hub import MODEL_CARDS, list_models
from robust_hub.launch import command_line, tell
from robust_hub.names import CONFIG


def compare(folder: tyro.conf.Positional[Path] = MODEL_CARDS, *, html: Path | None = None) -> None:
    """Compares the models of a folder.

    Args:
        folder: with the models' folders in it.
        html: writes the page there, as index.html where it is a folder.
    """
    models = list_models(folder=folder)
    names = [file.parent.name for file in sorted(folder.glob(f"*/{CONFIG}"))]
    if not models:
        raise ValueError(
            f"no model in {folder} has an evaluation; write one with recipes/evaluate.py --update-card, or "
            "name another folder that holds models' folders"
        )
    listed = {Path(place).name: info for place, info in models.items()}
    unevaluated = [name for name in names if name not in listed]
    tell(leaderboard.model_table(listed))
    if unevaluated:
        tell(f"Not evaluated yet: {', '.join(unevaluated)}")
    if html is not None:
        file = html / leaderboard.PAGE if html.is_dir() else html
        leaderboard.write_page(file, models, unevaluated=unevaluated)
        tell(f"written: {file}")


if __name__ == "__main__":
    # No argument at all means the folder of this checkout, not --help.
    command_line({"compare": compare}, default=str(MODEL_CARDS), launcher="")
