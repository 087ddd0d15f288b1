"""Errors about what somebody else wrote, and the turns of phrase that sentences share."""

from collections.abc import Iterable
from difflib import get_close_matches


class CheckpointError(ValueError):
    """A model, or what stands beside it, is missing, broken or not what it says."""


def close_names(name: str, known: Iterable[str]) -> str:
    """Writes the end of a sentence about an unknown name: the known ones most like it; empty where none is."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; close names are {', '.join(near)}" if near else ""


def first_line(error: Exception) -> str:
    """Gives the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
