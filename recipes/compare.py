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
from tabulate import tabulate

from robust_hub.catalogue import MODEL_CARDS, list_models
from robust_hub.claims import Claim
from robust_hub.command_line import command_line, tell
from robust_hub.pages import PAGE, pareto_front, write_page
from robust_hub.reports import AUTO_ATTACK
from robust_hub.safety import CONFIG

COLUMNS = (
    "model",
    "data",
    "threat",
    "parameters",
    "clean %",
    "robust %",
    "protocol",
    "flagged",
    "training s",
    "with teacher s",
    "front",
)


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
    listed = {Path(model.place).name for model in models}
    unevaluated = [name for name in names if name not in listed]
    front = pareto_front(model.claim for model in models)
    rows = [_row(model.claim, on_front=model.claim in front) for model in models]
    tell(tabulate(rows, COLUMNS, tablefmt="github", intfmt=",", floatfmt=",.0f", missingval="not known"))
    tell("\n<=: not AutoAttack, an upper bound; front: nobody of the same data, threat and protocol is both cheaper")
    tell("and more robust. Seconds are those of each model's own hardware; see its card.")
    if unevaluated:
        tell(f"Not evaluated yet: {', '.join(unevaluated)}")
    if html is not None:
        file = html / PAGE if html.is_dir() else html
        write_page(file, models, unevaluated=unevaluated)
        tell(f"written: {file}")


def _row(claim: Claim, *, on_front: bool) -> tuple:
    return (
        claim.name,
        claim.data,
        claim.threat,
        claim.parameters,
        str(claim.clean_accuracy),
        f"{'' if claim.protocol == AUTO_ATTACK else '<= '}{claim.robust_accuracy}",
        claim.protocol,
        f"{claim.flagged} of {claim.checks}",
        claim.seconds,
        claim.seconds_with_teacher,
        "*" if on_front else "",
    )


if __name__ == "__main__":
    # No argument at all means the folder of this checkout, not --help.
    command_line({"compare": compare}, default=str(MODEL_CARDS))
