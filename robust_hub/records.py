"""Dataclasses as JSON: written whole or not at all, and read as strictly as what a stranger wrote must be."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robust_hub.messages import CheckpointError, first_line

# An evaluation of 50,000 images takes less than a megabyte.
MOST_BYTES = 32 * 2**20
# Ends the name of what is not in place yet.
UNFINISHED = ".unfinished"


def write_json(file: Path, plain: dict) -> None:
    """Writes plain values, whole or not at all."""
    write_whole(file, json.dumps(plain, indent=2) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    unfinished = file.with_name(file.name + UNFINISHED)
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, file)


def read_json(file: Path) -> dict:
    """Reads a JSON object of plain values.

    Raises:
        CheckpointError: when it is something else, or larger than anything of ours.
    """
    if file.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{file} has {file.stat().st_size:,} bytes, more than the {MOST_BYTES:,} it may have")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable JSON ({first_line(error)}); fetch or write it again") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{file} must hold a JSON object, got {type(told).__name__}; fetch or write it again")
    return told


def as_record(kind: Any, told: Any, where: str) -> Any:
    """Makes a dataclass, or another annotated type, of plain values.

    Args:
        kind: what to make.
        told: plain values, as JSON gives them.
        where: they are from; begins the error.

    Raises:
        CheckpointError: when one is missing or does not fit; what nobody asks for is left alone.
    """
    try:
        return TypeAdapter(kind).validate_python(told)
    except (ValidationError, RecursionError) as error:
        raise CheckpointError(f"{where} is none of ours ({_first(error)})") from error


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return first_line(error)
    wrong = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
