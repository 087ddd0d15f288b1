"""Files that are whole or absent, and dataclasses as JSON, read as strictly as what a stranger wrote must be."""

import errno
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from robust_hub.errors import CheckpointError, first_line

# An evaluation of 50,000 images takes less than a megabyte.
MOST_BYTES = 32 * 2**20
# End the names of what is not in place yet, and of what is in place no more.
UNFINISHED, REPLACED = ".unfinished", ".replaced"


def beside(place: Path) -> Path:
    """Names the neighbour where a file or a folder is written before it is put in place."""
    return place.with_name(place.name + UNFINISHED)


def put_in_place(unfinished: Path, place: Path) -> None:
    """Lets a file or a folder that is finished, and on the disk, take its place; nobody ever sees half of it."""
    for file in [unfinished] if unfinished.is_file() else unfinished.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    replaced = place.with_name(place.name + REPLACED)
    if place.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)
        place.rename(replaced)
    os.replace(unfinished, place)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Lets what can't be written be an error of the system that names the place, whoever writes it.

    Raises:
        OSError: when the disk refuses.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(place)
        raise
    except SafetensorError as error:
        raise OSError(errno.EIO, first_line(error), str(place)) from error


@contextmanager
def whole_file(place: Path) -> Generator[Path]:
    """Gives the name to write a file under; once that has gone well, it takes its place, else it is gone."""
    try:
        with writing(place):
            yield beside(place)
            put_in_place(beside(place), place)
    except BaseException:
        beside(place).unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(place: Path, begin_with: Path | None = None) -> Generator[Path]:
    """Gives a folder to write into, empty or a copy; once that has gone well, it takes its place, else it is gone."""
    place = place.resolve()
    unfinished, replaced = beside(place), place.with_name(place.name + REPLACED)
    shutil.rmtree(unfinished, ignore_errors=True)
    if replaced.is_dir() and not place.exists():
        # A run was killed between the two renames of `put_in_place`.
        replaced.rename(place)
    try:
        with writing(place):
            if begin_with:
                shutil.copytree(begin_with.resolve(), unfinished, symlinks=True)
            else:
                unfinished.mkdir(parents=True)
            yield unfinished
            put_in_place(unfinished, place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def write_json(file: Path, plain: dict) -> None:
    """Writes plain values, whole or not at all."""
    write_text(file, json.dumps(plain, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with whole_file(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


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
        return _reader(kind).validate_python(told)
    except (ValidationError, RecursionError) as error:
        raise CheckpointError(f"{where} is none of ours ({_first(error)})") from error


@lru_cache
def _reader(kind: Any) -> TypeAdapter:
    """Gives what reads a type: made once, as that takes a hundred times as long as reading with it."""
    return TypeAdapter(kind)


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return first_line(error)
    wrong = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"


def check_safetensors(file: Path) -> None:
    """Checks that a safetensors file does not begin with far more names than any network has; its reader takes all.

    Raises:
        CheckpointError: when it does.
    """
    try:
        with file.open("rb") as opened:
            header = int.from_bytes(opened.read(8), "little")
    except OSError:
        # Which its reader tells.
        return
    if header > MOST_BYTES:
        raise CheckpointError(
            f"{file} is no safetensors file of a network ({header:,} bytes of names, of {MOST_BYTES:,} that it may "
            "have); fetch it again"
        )
