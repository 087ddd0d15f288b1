"""Models beside each other: which may be compared, which no other one beats, and one table of them."""

import math
from collections.abc import Iterable, Mapping

from tabulate import tabulate

from robust_hub.attacks import AUTO_ATTACK
from robust_hub.model_folder import ModelInfo
from robust_hub.threats import parse_threat

COLUMNS = (
    *("model", "data", "threat", "parameters", "clean %", "robust %", "protocol", "flagged", "loads with"),
    *("training s", "with teacher s", "front"),
)


def model_table(models: Mapping[str, ModelInfo]) -> str:
    """Writes models one below the other, by the names they are given here."""
    front = pareto_front(models.values())
    rows = [
        (
            name,
            info.data,
            info.threat,
            info.parameters,
            str(info.clean_accuracy),
            f"{'' if is_auto_attack(info) else '<= '}{info.robust_accuracy}",
            info.protocol,
            f"{info.flagged} of {info.checks}",
            "timm" if info.stock else "robust_hub",
            info.seconds,
            info.seconds_with_teacher,
            "*" if info in front else "",
        )
        for name, info in models.items()
    ]
    table = tabulate(rows, COLUMNS, tablefmt="github", intfmt=",", floatfmt=",.0f", missingval="not known")
    return (
        f"{table}\n\n<=: not AutoAttack, an upper bound; front: nobody of the same data, threat and protocol is both "
        "cheaper\nand more robust. Seconds are those of each model's own hardware; see its card."
    )


def pareto_front(infos: Iterable[ModelInfo]) -> set[ModelInfo]:
    """Finds the models that no other one beats in both robust accuracy and cost.

    Only models of the same data, threat and protocol are compared. One that is flagged, or whose training time with
    its teacher's is not known, takes no part.
    """
    believed = [info for info in infos if not info.flagged and has_cost(info)]
    return {info for info in believed if not any(_beats(other, info) for other in believed)}


def contest(info: ModelInfo) -> tuple[str, str]:
    """Tells by what models may be compared: the data, and the threat written in one way."""
    return info.data, str(parse_threat(info.threat))


def has_cost(info: ModelInfo) -> bool:
    """Tells whether a logarithmic axis has a place for its cost."""
    seconds = info.seconds_with_teacher
    return seconds is not None and math.isfinite(seconds) and seconds > 0


def is_auto_attack(info: ModelInfo) -> bool:
    """Tells whether robust accuracy may be called AutoAttack's."""
    return info.protocol == AUTO_ATTACK


def _beats(one: ModelInfo, other: ModelInfo) -> bool:
    """Tells whether a model is at least as good in both, and better in one; both have a cost."""
    if (contest(one), one.protocol) != (contest(other), other.protocol):
        return False
    assert one.seconds_with_teacher is not None
    assert other.seconds_with_teacher is not None
    ours = one.robust_accuracy.value, -one.seconds_with_teacher
    theirs = other.robust_accuracy.value, -other.seconds_with_teacher
    return ours != theirs and ours[0] >= theirs[0] and ours[1] >= theirs[1]
