"""Finds a checkpoint that others wrote: a file of this machine, or one in a repository on the Hub."""

import re
from pathlib import Path, PurePosixPath

from robust_hub.errors import CheckpointError
from robust_hub.hub.fetching import fetch_file
from robust_hub.names import HUB_ID

IN_A_REPOSITORY = re.compile(rf"hf-hub:(?P<repository>{HUB_ID.pattern})(@(?P<revision>[\w./-]+))?:(?P<file>.+)")


def open_checkpoint(name: str) -> tuple[Path, str]:
    """Finds a checkpoint, and brings it here where it is on the Hub; nothing of it is read.

    Args:
        name: a path, or hf-hub:ORG/NAME:FILE, with @REVISION behind the NAME if wanted.

    Returns:
        Where it is, and what a card may call it: the file's name, or its place on the Hub with the commit.

    Raises:
        CheckpointError: when there is none, or it is named by an address.
    """
    if re.match(r"https?://", name):
        raise CheckpointError(
            f"{name} is an address, and nobody can tell what it gives tomorrow; download the file yourself, or name "
            "one on the Hub as hf-hub:ORG/NAME:FILE"
        )
    if not name.startswith("hf-hub:"):
        file = Path(name).expanduser()
        if not file.is_file():
            raise CheckpointError(f"there is no checkpoint {name}; give a file, or hf-hub:ORG/NAME:FILE")
        return file, file.name
    found = IN_A_REPOSITORY.fullmatch(name)
    if found is None or ".." in PurePosixPath(found["file"]).parts or found["file"].startswith("/"):
        raise CheckpointError(f"a checkpoint on the Hub must be named hf-hub:ORG/NAME:FILE, got {name}")
    place, _ = fetch_file(found["repository"], found["file"], found["revision"] or "")
    depth = len(PurePosixPath(found["file"]).parts)
    # The cache has a folder for each commit, and the file in it by its name in the repository.
    commit = place.parents[depth - 1].name
    return place, f"hf-hub:{found['repository']}@{commit}:{found['file']}"
