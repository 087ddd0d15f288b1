"""Whether all that people read of a model tells the same as its evaluation: config.json, and the card's two halves."""

import re
from dataclasses import fields

from huggingface_hub import ModelCard, ModelCardData

from robust_hub.errors import CheckpointError, first_line
from robust_hub.evaluation import Report
from robust_hub.model_folder.folder import ModelFolder
from robust_hub.model_folder.info import ModelInfo
from robust_hub.names import CARD, CONFIG, EVALUATION, TAG

# What an evaluation decides of a claim.
MEASURED = ("data", "threat", "protocol", "clean_accuracy", "robust_accuracy", "flagged", "checks")
# Ours have some kilobytes.
LONGEST_CARD = 2**20
ROWS = {
    "clean accuracy": re.compile(r"^\| clean \| (.*?) \| (\d+) \|", re.MULTILINE),
    "robust accuracy": re.compile(r"^\| \*\*robust\*\* \| \*\*(.*?)\*\* \| (\d+) \|", re.MULTILINE),
}


def check_claims(folder: ModelFolder, report: Report) -> None:
    """Compares what config.json and the card claim with an evaluation.

    Args:
        folder: of the model, with its card.
        report: of its evaluation.

    Raises:
        CheckpointError: when they tell something else; names all that differs.
    """
    provenance = folder.provenance
    if provenance is None:
        return
    measured = ModelInfo.of(provenance, report)
    wrong = [] if folder.info is None else _differences(CONFIG, folder.info, measured)
    wrong += _of_card(folder, measured)
    if wrong:
        raise CheckpointError(
            f"{folder.name} contradicts itself: {'; '.join(wrong)}; believe {EVALUATION} at most, and ask its publisher"
        )


def _of_card(folder: ModelFolder, measured: ModelInfo) -> list[str]:
    file = folder.path / CARD
    if not file.is_file():
        return []
    if file.stat().st_size > LONGEST_CARD:
        return [f"{CARD} has {file.stat().st_size:,} bytes, more than the {LONGEST_CARD:,} it may have"]
    front = f"the front matter of {CARD}"
    try:
        text = file.read_text(encoding="utf-8")
        told = ModelCard(text).data
        assert isinstance(told, ModelCardData)
        results = {result.metric_type: result.metric_value for result in told.eval_results or []}
    except Exception as error:  # whatever a stranger's YAML makes its reader raise
        return [f"{front} can't be read ({first_line(error)})"]
    wrong = []
    if told.get(TAG) is not None:
        wrong += _differences(front, ModelInfo.read(told.get(TAG), front), measured)
    values = {"accuracy": measured.clean_accuracy.value, "robust_accuracy": measured.robust_accuracy.value}
    wrong += [
        f"{front} lists {kind} {_shown(results[kind])} and {EVALUATION} {value}"
        for kind, value in values.items()
        if kind in results and results[kind] != value
    ]
    for kind, accuracy in zip(ROWS, (measured.clean_accuracy, measured.robust_accuracy), strict=True):
        expected = (str(accuracy), str(accuracy.n))
        rows = ROWS[kind].findall(text)
        wrong += [
            f"the table of {CARD} tells {kind} {_shown(row[0])} % of {row[1]} and {EVALUATION} {expected[0]} % of "
            f"{expected[1]}"
            for row in rows
            if row != expected
        ]
        wrong += [] if rows else [f"{CARD} has no table that tells the {kind}"]
    return wrong


def _differences(where: str, told: ModelInfo, measured: ModelInfo) -> list[str]:
    """Names what of a claim differs from what was measured."""
    pairs = {
        each.name.replace("_", " "): (getattr(told, each.name), getattr(measured, each.name))
        for each in fields(ModelInfo)
        if each.name in MEASURED
    }
    return [
        f"{where} tells {name} {_shown(one)} and {EVALUATION} {_shown(other)}"
        for name, (one, other) in pairs.items()
        if one != other
    ]


def _shown(value: object) -> str:
    return f"{value!s:.60}"
