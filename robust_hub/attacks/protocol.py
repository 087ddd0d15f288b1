"""The versions of AutoAttack, the attacks each of them runs, and what a result may be called."""

from collections.abc import Iterable
from typing import Literal

Version = Literal["standard", "quick"]

AUTO_ATTACK = "AutoAttack"
QUICK = ("apgd-ce", "apgd-t")
VERSIONS: dict[str, tuple[str, ...]] = {"standard": (*QUICK, "fab-t", "square"), "quick": QUICK}
WITHOUT_GRADIENTS = {"square"}
PROTOCOLS = {VERSIONS["standard"]: AUTO_ATTACK, QUICK: "APGD-CE and APGD-T, not AutoAttack"}


def protocol_of(stages: Iterable[str]) -> str:
    """Says what a robust accuracy after these attacks may be called, and what not."""
    stages = tuple(stages)
    return PROTOCOLS.get(stages, f"{', '.join(stages)}, not {AUTO_ATTACK}")
