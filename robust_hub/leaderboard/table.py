"""Models beside each other: which may be compared, which no other one beats, and one table of them."""

from collections.abc import Iterable, Iterator, Mapping

from tabulate import tabulate

from robust_hub.attacks import AUTO_ATTACK
from robust_hub.errors import shortened
from robust_hub.model_folder import ModelInfo
from robust_hub.threats import parse_threat

COLUMNS = (
    *("model", "data", "threat", "parameters", "claimed clean %", "claimed robust %", "protocol", "flagged"),
    *("loads with", "training s", "with teacher s", "front"),
)
# Of a text in a cell. The longest of ours is the name of a protocol, of 34 characters.
LONGEST = 36
# In seconds; nothing is trained in less.
LEAST_COST = 1e-3


def model_table(models: Mapping[str, ModelInfo]) -> str:
    """Writes models one below the other, by the names they are given here, which stay whole: somebody may type them."""
    front = pareto_front(models.values())
    rows = [
        (
            name.replace("\n", "?"),
            shortened(info.data, LONGEST),
            shortened(info.threat, LONGEST),
            info.parameters,
            str(info.clean_accuracy),
            f"{'' if is_auto_attack(info) else '<= '}{info.robust_accuracy}",
            shortened(info.protocol, LONGEST)
            + (f", by {shortened(info.measured_by, LONGEST)}" * bool(info.measured_by)),
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
        f"{table}\n\nclaimed: by the model's publisher; nobody verified it here. <=: not AutoAttack, an upper bound. "
        "front: nobody of the same\ndata, threat and protocol is both cheaper and more robust. Seconds are those of "
        "each model's own hardware; see its card."
    )


def pareto_front(infos: Iterable[ModelInfo]) -> set[ModelInfo]:
    """Finds the models that no other one beats in both robust accuracy and cost.

    Only models of the same data, threat and protocol are compared. One that is flagged, or whose training time with
    its teacher's is not known, takes no part.
    """
    compared: dict[tuple[str, ...], list[ModelInfo]] = {}
    for info in infos:
        if not info.flagged and has_cost(info):
            compared.setdefault((*contest(info), info.protocol), []).append(info)
    return {info for rivals in compared.values() for info in _unbeaten(rivals)}


def ranks(rivals: Iterable[ModelInfo]) -> dict[ModelInfo, int]:
    """Ranks models of the same data and threat by robust accuracy, the best as 1; those that are alike share one.

    A bound by anything but AutoAttack, or a figure that is flagged, has no rank.
    """
    ranked = [info for info in rivals if is_auto_attack(info) and not info.flagged]
    figures = sorted((info.robust_accuracy.value for info in ranked), reverse=True)
    return {info: 1 + figures.index(info.robust_accuracy.value) for info in ranked}


def contest(info: ModelInfo) -> tuple[str, str]:
    """Tells by what models may be compared: the data, and the threat written in one way."""
    return info.data, str(parse_threat(info.threat))


def has_cost(info: ModelInfo) -> bool:
    """Tells whether its cost is known, and so much that a logarithmic axis has a place for it."""
    return info.seconds_with_teacher is not None and info.seconds_with_teacher >= LEAST_COST


def is_auto_attack(info: ModelInfo) -> bool:
    """Tells whether robust accuracy may be called AutoAttack's."""
    return info.protocol == AUTO_ATTACK


def cost_of(info: ModelInfo) -> float:
    """Gives the cost of a model that has one."""
    assert info.seconds_with_teacher is not None
    return info.seconds_with_teacher


def _unbeaten(rivals: list[ModelInfo]) -> Iterator[ModelInfo]:
    """Gives those that are more robust than all cheaper ones; of two that are alike in both, both."""
    best = (-1.0, 0.0)
    for info in sorted(rivals, key=lambda info: (cost_of(info), -info.robust_accuracy.value)):
        here = info.robust_accuracy.value, cost_of(info)
        if here[0] > best[0] or here == best:
            best = here
            yield info
