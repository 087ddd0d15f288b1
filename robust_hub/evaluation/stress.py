"""Accuracy where nobody attacks, and in another norm: a panel beside the claim, which is never a part of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Strain:
    """One kind of change, at five strengths.

    Attributes:
        name: of the kind.
        strengths: what each is, the mildest first.
        accuracy: at each; fractions.
    """

    name: str
    strengths: list[str]
    accuracy: list[float]


@dataclass(frozen=True)
class Stress:
    """Accuracy under several kinds of change.

    Attributes:
        n: images, the first ones of those that are tested.
        clean: accuracy on them as they are; a fraction.
        strains: the kinds.
    """

    n: int
    clean: float
    strains: list[Strain]
