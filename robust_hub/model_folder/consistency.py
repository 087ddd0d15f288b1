"""Whether all that people read of a model tells the same as its evaluation: config.json, the card, and its entries."""

import re
from math import isclose
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from robust_hub.errors import CheckpointError, first_line
from robust_hub.evaluation import Accuracy, Report
from robust_hub.model_folder.card import NOTES_BEGIN, NOTES_END
from robust_hub.model_folder.folder import ModelFolder
from robust_hub.model_folder.info import ModelInfo
from robust_hub.names import CARD, CONFIG, ENTRIES, EVALUATION, TAG

# Ours have some kilobytes.
LONGEST_CARD = 2**20
ROWS = {
    "clean accuracy": re.compile(r"^\| clean \| (.*?) \| (\d+) \|", re.MULTILINE),
    "robust accuracy": re.compile(r"^\| \*\*robust\*\* \| \*\*(.*?)\*\* \| (\d+) \|", re.MULTILINE),
    "expected robustness": re.compile(r"^\| expected robustness \| (.*?) \| (\d+) \|", re.MULTILINE),
}
# Between these the owner of a card may write what he likes; and comments are not shown.
NOT_SHOWN = re.compile(rf"{re.escape(NOTES_BEGIN)}.*{re.escape(NOTES_END)}|<!--.*?-->", re.DOTALL)


def check_claims(folder: ModelFolder, report: Report) -> None:
    """Compares what config.json, the card and its entries claim with an evaluation.

    Args:
        folder: of the model, with its card.
        report: of its evaluation.

    Raises:
        CheckpointError: when they tell something else; names all that differs.
    """
    measured = {
        "data": report.data,
        "threat": report.threat,
        "protocol": report.protocol,
        "clean_accuracy": report.evaluation.clean_accuracy,
        "robust_accuracy": report.evaluation.robust_accuracy,
        "flagged": len(report.flagged),
        "checks": len(report.checks),
        "measured_by": report.by,
    }
    wrong = _differences(CONFIG, folder.info, measured)
    wrong += _of_card(folder, measured, _rows_of(report))
    wrong += _of_entries(folder, measured)
    if wrong:
        raise CheckpointError(
            f"{folder.name} contradicts itself: {'; '.join(wrong)}; believe {EVALUATION} at most, and ask its publisher"
        )


def _rows_of(report: Report) -> dict[str, tuple[str, str]]:
    """Gives what the table of a card tells of an evaluation: percent, and of how many images."""
    accuracies = {
        "clean accuracy": report.evaluation.clean_accuracy,
        "robust accuracy": report.evaluation.robust_accuracy,
    }
    rows = {kind: (str(accuracy), str(accuracy.n)) for kind, accuracy in accuracies.items()}
    if report.curve is not None and report.expected_robustness is not None:
        rows["expected robustness"] = (f"{100 * report.expected_robustness:.1f}", str(report.curve.n))
    return rows


def _of_card(folder: ModelFolder, measured: dict[str, Any], rows: dict[str, tuple[str, str]]) -> list[str]:
    file, front = folder.path / CARD, f"the front matter of {CARD}"
    if file.stat().st_size > LONGEST_CARD:
        return [f"{CARD} has {file.stat().st_size:,} bytes, more than the {LONGEST_CARD:,} it may have"]
    try:
        card = ModelCard(file.read_text(encoding="utf-8"))
        assert isinstance(card.data, ModelCardData)
        told, results = card.data.get(TAG), card.data.eval_results or []
    except Exception as error:  # whatever a stranger's YAML makes its reader raise
        return [f"{front} can't be read ({first_line(error)})"]
    wrong = [] if told is None else _differences(front, ModelInfo.read(told, front), measured)
    for kind, accuracy in (("accuracy", "clean_accuracy"), ("robust_accuracy", "robust_accuracy")):
        values = [result.metric_value for result in results if result.metric_type == kind]
        wrong += _values(front, kind, values, measured[accuracy])
    shown = NOT_SHOWN.sub("", card.text)
    for kind, row in ROWS.items():
        expected, found = [rows[kind]] if kind in rows else [], row.findall(shown)
        if len(found) != len(expected):
            how_many = "one is" if expected else "none is"
            wrong.append(f"{CARD} has {len(found)} rows that tell the {kind}, where {how_many} expected")
        elif found != expected:
            (told, images), (percent, n) = found[0], expected[0]
            claimed = f"{kind} {_shown(told)} % of {_shown(images)}"
            wrong.append(f"the table of {CARD} tells {claimed} and {EVALUATION} {percent} % of {n}")
    return wrong


def _of_entries(folder: ModelFolder, measured: dict[str, Any]) -> list[str]:
    """Reads what the Hub's own tables show, where the folder tells it."""
    file = folder.path / ENTRIES
    if not file.is_file():
        return []
    if file.stat().st_size > LONGEST_CARD:
        return [f"{ENTRIES} has {file.stat().st_size:,} bytes"]
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
        values = [entry["value"] for entry in told]
    except Exception as error:  # as above
        return [f"{ENTRIES} can't be read ({first_line(error)})"]
    return _values(str(ENTRIES), "robust_accuracy", values, measured["robust_accuracy"])


def _values(where: str, kind: str, values: list, accuracy: Accuracy) -> list[str]:
    wrong = [value for value in values if not isinstance(value, int | float) or value != accuracy.value]
    # What is no number may be endless once it is written out.
    told = (_shown(value) if isinstance(value, int | float) else "no number" for value in wrong)
    return [f"{where} lists {kind} {each} and {EVALUATION} {accuracy.value}" for each in told]


def _differences(where: str, told: ModelInfo | None, measured: dict[str, Any]) -> list[str]:
    """Names what of a claim differs from what was measured."""
    if told is None:
        return []
    return [
        f"{where} tells {name.replace('_', ' ')} {_shown(getattr(told, name))} and {EVALUATION} {_shown(value)}"
        for name, value in measured.items()
        if not _is_same(getattr(told, name), value)
    ]


def _is_same(told: object, measured: object) -> bool:
    if not isinstance(told, Accuracy) or not isinstance(measured, Accuracy):
        return told == measured
    # The ends of an interval are found by a search, whose last digits are each library's own.
    ends = ((told.low, measured.low), (told.high, measured.high))
    return (told.value, told.n) == (measured.value, measured.n) and all(isclose(*pair, abs_tol=1e-6) for pair in ends)


def _shown(value: object) -> str:
    return f"{value!s:.60}"
