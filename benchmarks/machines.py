"""Whether two machines train what one does, and what is left when one of them dies.

    python benchmarks/machines.py same
    python benchmarks/machines.py kill [--times 20]

The machines are two launchers of Accelerate, in network namespaces joined by a pair of virtual cards where the system
allows that. `same` trains a small ViT on digits by a first-order and by a second-order method, on one machine and on
two with the same global batch, and prints by how much the published weights differ. `kill` ends one machine at a random
moment of a run on two, once they have met, waits for the other to end by itself, goes on alone, and compares with an
undisturbed run.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.machines import Network, kill, network, processes_of, weights_of  # noqa: E402

TEACHER = f"local-dir:{ROOT / 'model_cards' / 'small_cnn_grey.trades_linf0.1_digits'}"
NETWORK = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2}
STUDENT = ("--student", "vit_tiny_patch16_224", "--student-args", json.dumps(NETWORK))
SHARED = ("--data", "digits", "--threat", "linf:0.1", "--batch-size", "64", "--test-images", "40", "--teacher", TEACHER)
METHODS = {"kd": (), "igam": ("--noise", "0")}
ENDS_WITHIN = 60
# What a run writes first.
BEGUN = "run.json"


def same(epochs: int = 3) -> None:
    """Trains on one machine and on two, and prints a table.

    Args:
        epochs: of each run.
    """
    rows = []
    with network() as between, tempfile.TemporaryDirectory() as place:
        for method in METHODS:
            weights = {}
            for machines in (1, 2):
                begun, folder = time.perf_counter(), Path(place) / f"{method}-{machines}"
                # So that as many images are looked at together, of which some methods take a mean.
                parts = ("--gradient-accumulation-steps", str(2 // machines))
                run(between, [*words(method, epochs, folder), *parts], folder, machines)
                weights[machines] = weights_of(folder)
                seconds = time.perf_counter() - begun
                difference = (weights[machines] - weights[1]).abs().max() / weights[1].abs().max()
                rows.append([method, machines, f"{difference:.1e}", f"{seconds:.0f}"])
        print(f"{epochs} epochs, two machines on {between.told}, torch {torch.__version__}\n")
    headers = ["method", "machines", "largest difference of a weight, over the largest weight", "s"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def kill_one(times: int = 20, epochs: int = 8, seed: int = 0) -> None:
    """Ends one of two machines at a random moment, again and again, and prints a table.

    Args:
        times: how often.
        epochs: of each run.
        seed: of the moments.
    """
    moments, rows = random.Random(seed), []
    with network() as between, tempfile.TemporaryDirectory() as place:
        undisturbed = Path(place) / "undisturbed"
        begun = time.perf_counter()
        machines = between.start_all(words("kd", epochs, undisturbed), undisturbed)
        wait_for(undisturbed / BEGUN)
        met = time.perf_counter()
        if any(machine.wait() for machine in machines):
            raise RuntimeError("the undisturbed run failed")
        whole, learning = time.perf_counter() - begun, time.perf_counter() - met
        for number in tqdm(range(times), desc="kills"):
            folder = Path(place) / f"kill-{number}"
            victim, moment = moments.randrange(2), learning * moments.random()
            machines = between.start_all(words("kd", epochs, folder), folder)
            wait_for(folder / BEGUN)
            time.sleep(moment)
            had_ended = machines[victim].poll() is not None
            kill(machines[victim])
            killed = time.perf_counter()
            survivor = machines[1 - victim]
            try:
                survivor.wait(timeout=ENDS_WITHIN)
                ended = f"{time.perf_counter() - killed:.1f}"
            except subprocess.TimeoutExpired:
                # The launcher of a run that is over waits for the other launcher, for torch's five minutes.
                if processes_of(survivor):
                    raise
                kill(survivor)
                ended = "was over"
            told = folder.with_suffix(f".{1 - victim}").read_text()
            on = 1 + number % 2
            run(between, [*words("kd", epochs, folder), *(["--resume"] if folder.exists() else [])], folder, on)
            difference = (weights_of(folder) - weights_of(undisturbed)).abs().max() / weights_of(
                undisturbed
            ).abs().max()
            said = "had ended" if had_ended else "yes" if "another process of this run is gone" in told else "no"
            rows.append([number + 1, victim, f"{moment:.1f}", ended, said, on, f"{difference:.1e}"])
        print(f"two machines on {between.told}; an undisturbed run takes {whole:.0f} s\n")
    headers = ["", "killed", "after s", "other ends after s", "in a sentence", "goes on on", "difference"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def wait_for(file: Path) -> None:
    """Waits until the machines have met and begun: before, a launcher of Accelerate waits 15 minutes for the other."""
    while not file.is_file():
        time.sleep(0.1)


def words(method: str, epochs: int, folder: Path) -> list[str]:
    """Writes the command that is run."""
    given = (*SHARED, *STUDENT, *METHODS[method], "--epochs", str(epochs), "--output", str(folder))
    return ["recipes/transfer.py", method, *given]


def run(between: Network, command: Sequence[str], folder: Path, machines: int) -> None:
    """Runs a command to its end.

    Raises:
        RuntimeError: when a machine fails.
    """
    for rank, machine in enumerate(between.start_all(command, folder, on=machines)):
        if machine.wait():
            raise RuntimeError(f"machine {rank} failed:\n{folder.with_suffix(f'.{rank}').read_text()[-3000:]}")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"same": same, "kill": kill_one})
