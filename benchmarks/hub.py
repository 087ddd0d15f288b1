"""Publishing and loading over the bare calls of the Hub's clients that they need, in turns, in one run.

    python benchmarks/hub.py [FOLDER]

The Hub is the one that the tests start on this machine, so that nothing but the clients' and our own time is measured.
Bare publishing makes the repository and one commit of the same files; bare loading is timm's own, config and weights,
from an empty cache and then from a full one. What a folder's check takes before it is published is told beside.
Prints the ratios: wanted are at most 1.2.
"""

import atexit
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tyro

from robust_hub import hub, model_folder

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.loopback_hub.server import WRITE_TOKEN, HubServer  # noqa: E402

TURNS = 20
FOLDER = ROOT / "model_cards" / "vit_tiny_patch16_224.igam_linf0.1_digits"


def main(folder: tyro.conf.Positional[Path] = FOLDER) -> None:
    """Measures publishing, loading from the Hub and loading from the cache.

    Args:
        folder: of a model with its evaluation.
    """
    home = start_hub()
    import timm

    print(
        f"{folder.name}, the folder's check before it is published: {seconds(lambda: hub.check_folder(folder)):.1f} s"
    )
    sides = in_turns(
        lambda turn: hub.publish(folder, hub.Destination(f"tiny-org/ours{turn}")),
        lambda turn: bare_publish(folder, f"tiny-org/bare{turn}"),
    )
    report("publish over the bare calls", *sides)

    name = "hf-hub:tiny-org/ours0"
    sides = in_turns(
        lambda turn: (use_cache(home / f"ours{turn}"), hub.load(name)),
        lambda turn: (use_cache(home / f"bare{turn}"), timm.create_model(name, pretrained=True)),
    )
    report("load from the Hub over timm's", *sides)
    sides = in_turns(lambda turn: hub.load(name), lambda turn: timm.create_model(name, pretrained=True))
    report("load from the cache over timm's", *sides)


def start_hub() -> Path:
    """Starts a Hub on this machine, and gives the folder where its clients keep what they download.

    Must come before the client is imported, which reads once where the Hub is.
    """
    assert "huggingface_hub" not in sys.modules
    home, server = Path(tempfile.mkdtemp(prefix="robust_hub_benchmark_")), HubServer()
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_TOKEN": WRITE_TOKEN}
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["NO_PROXY"] = "127.0.0.1"
    return home


def bare_publish(folder: Path, repo_id: str) -> None:
    """Makes a repository and commits a folder's files with the client alone."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo_id)
    operations = [CommitOperationAdd(name, folder / name) for name in model_folder.files_of(folder)]
    api.create_commit(repo_id, operations, commit_message="Publish")


def seconds(call: Callable[[], object]) -> float:
    """Measures one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(ours: Callable[[int], object], bare: Callable[[int], object]) -> tuple[list[float], list[float]]:
    """Measures both one after the other, the first of each pair being the other one in the next."""
    measured: dict[Callable, list[float]] = {ours: [], bare: []}
    for turn in range(TURNS + 1):
        for side in (ours, bare) if turn % 2 else (bare, ours):
            measured[side].append(seconds(lambda side=side, turn=turn: side(turn)))
    # The first turn warms up.
    return measured[ours][1:], measured[bare][1:]


def report(what: str, ours: list[float], bare: list[float]) -> None:
    """Prints the ratio of the medians, and the quartiles of the pairs' ratios."""
    low, _, high = statistics.quantiles([a / b for a, b in zip(ours, bare, strict=True)], n=4)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"{what}: {ratio:.2f} (quartiles of {TURNS} turns {low:.2f} to {high:.2f}), "
        f"{1000 * statistics.median(ours):.0f} ms over {1000 * statistics.median(bare):.0f} ms"
    )


def use_cache(folder: Path) -> None:
    """Lets the client keep what it downloads in a folder."""
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(folder)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
