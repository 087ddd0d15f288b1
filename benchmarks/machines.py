"""Whether two machines train what one does, and what is left when one of them dies.

    python benchmarks/machines.py same
    python benchmarks/machines.py kill [--times 20]
    python benchmarks/machines.py table

The machines are two launchers of Accelerate, in network namespaces joined by a pair of virtual cards where the system
allows that. `same` trains a small ViT on digits by a first-order and by a second-order method, on one machine and on
two with the same global batch, and prints by how much the published weights differ. `kill` ends one machine at a random
moment of a run on two, once they have met, waits for the other to end by itself, goes on on one or on two, and compares
with an undisturbed run; each kill is a line of benchmarks/kills.json, and one that is there is not done again. `table`
prints them.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running import ROOT, add_result, read_results
from tests.machines import Network, kill, network, processes_of, weights_of

TEACHER = f"local-dir:{ROOT / 'model_cards' / 'small_cnn_grey.trades_linf0.1_digits'}"
NETWORK = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2}
STUDENT = ("--student", "vit_tiny_patch16_224", "--student-args", json.dumps(NETWORK))
SHARED = ("--data", "digits", "--threat", "linf:0.1", "--batch-size", "64", "--test-images", "40", "--teacher", TEACHER)
METHODS = {"kd": (), "igam": ("--noise", "0", "--weight", "1", "--start", "0", "--feature-weight", "0")}
ENDS_WITHIN = 60
KILLS = ROOT / "benchmarks" / "kills.json"
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


@dataclass(frozen=True)
class Killed:
    """What came of a run of which one machine was killed.

    Attributes:
        number: of the kill, which draws its moment.
        victim: the machine's number.
        moment: seconds after the machines had met.
        ended: seconds after which the other machine had ended; none where the run was over, and its launcher waited.
        told: whether it said in a sentence how to go on.
        resumed_on: so many machines.
        difference: of a published weight from the undisturbed run's, the largest, over the largest weight.
    """

    number: int
    victim: int
    moment: float
    ended: float | None
    told: bool
    resumed_on: int
    difference: float


def kill_one(times: int = 20, epochs: int = 4) -> None:
    """Ends one of two machines at a random moment, until that was done so often; each is a line of KILLS.

    Args:
        times: how often.
        epochs: of each run.
    """
    missing = range(len(read_results(Killed, KILLS)), times)
    with network() as between, tempfile.TemporaryDirectory() as place:
        undisturbed = Path(place) / "undisturbed"
        machines = between.start_all(words("kd", epochs, undisturbed), undisturbed)
        wait_for(undisturbed / BEGUN)
        met = time.perf_counter()
        # Launchers notice after seconds that their process has ended.
        while any(map(processes_of, machines)):
            time.sleep(0.1)
        seconds = time.perf_counter() - met
        if any(machine.wait() for machine in machines):
            raise RuntimeError("the undisturbed run failed")
        for number in tqdm(missing, desc="kills"):
            moments, folder = random.Random(number), Path(place) / f"kill-{number}"
            victim, moment = moments.randrange(2), seconds * moments.random()
            machines = between.start_all(words("kd", epochs, folder), folder)
            wait_for(folder / BEGUN)
            time.sleep(moment)
            kill(machines[victim])
            ended = seconds_until_end(machines[1 - victim])
            told = "another process of this run is gone" in folder.with_suffix(f".{1 - victim}").read_text()
            resumed_on = 1 + number % 2
            run(between, [*words("kd", epochs, folder), "--resume"], folder, resumed_on)
            wanted = weights_of(undisturbed)
            difference = float((weights_of(folder) - wanted).abs().max() / wanted.abs().max())
            add_result(KILLS, Killed(number, victim, round(moment, 1), ended, told, resumed_on, difference))
    print_kills()


def seconds_until_end(survivor: subprocess.Popen) -> float | None:
    """Waits for a machine to end by itself; gives None where its run is over, and its launcher waits for the other's.

    Raises:
        TimeoutExpired: when it is still running after a minute.
    """
    begun = time.perf_counter()
    try:
        survivor.wait(timeout=ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        # Torch's launcher waits for five minutes.
        if processes_of(survivor):
            raise
        kill(survivor)
        return None
    return round(time.perf_counter() - begun, 1)


def print_kills() -> None:
    """Prints the table of kills so far."""
    kills = read_results(Killed, KILLS)
    rows = [
        [
            each.number + 1,
            each.victim,
            each.moment,
            "the run was over" if each.ended is None else each.ended,
            "yes" if each.told else "no",
            each.resumed_on,
            f"{each.difference:.1e}",
        ]
        for each in kills
    ]
    headers = ["", "killed", "after s", "other ends after s", "in a sentence", "resumed on", "difference"]
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
    tyro.extras.subcommand_cli_from_dict({"same": same, "kill": kill_one, "table": print_kills})
