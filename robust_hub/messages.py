"""What errors and cards share: turns of phrase, and the type of errors about somebody else's files."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class CheckpointError(ValueError):
    """A checkpoint, or what stands beside it, is missing, broken or not what it says."""


def close_names(name: str, known: Iterable[str]) -> str:
    """Writes the end of a sentence about an unknown name: the known ones most like it; empty where none is."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; close names are {', '.join(near)}" if near else ""


def first_line(error: Exception) -> str:
    """Gives the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def public(place: str) -> str:
    """Leaves the folders of this machine out of what a card tells: of a path that leads elsewhere, the last name."""
    source = "local-dir:" if place.startswith("local-dir:") else ""
    path = Path(place.removeprefix(source))
    leads_elsewhere = path.is_absolute() or ".." in path.parts or place.removeprefix(source).startswith("~")
    return f"{source}{path.name}" if leads_elsewhere else place
