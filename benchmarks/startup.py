"""Seconds until the command lines answer, over those of `import torch` and of `import timm`.

    python benchmarks/startup.py

Each command is a process of its own that starts, answers or refuses, and ends. All take turns, so that a change of the
machine's speed meets each; a ratio is the median of the turns' own ratios, and seconds are medians. Wanted: what
`robust_hub` helps, lists, shows and refuses in under 1 s on two quiet cores, a recipe's help and its refusal of an
option at most 1.3 times `import torch`, and the refusal of a model's name at most 1.3 times `import timm`.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from tabulate import tabulate
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
TORCH, TIMM = "import torch", "import timm"
COMMAND_LINE = ("-m", "robust_hub")
REFUSED = 2


def main(turns: int = 3) -> None:
    """Times the commands and prints the table.

    Args:
        turns: how often each is started.
    """
    with tempfile.TemporaryDirectory() as place:
        commands = commands_for(Path(place) / "run")
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(turns):
            for name, (words, code) in tqdm(commands.items(), leave=False):
                seconds[name].append(answer(words, code))
    rows = [
        (name, statistics.median(measured), ratio(measured, seconds[TORCH]), ratio(measured, seconds[TIMM]))
        for name, measured in seconds.items()
    ]
    headers = ["command", "s", f"over {TORCH}", f"over {TIMM}"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".2f"))


def commands_for(output: Path) -> dict[str, tuple[tuple[str, ...], int]]:
    """Lists words for Python and the exit code to expect, by what a user would call the command."""
    recipes = sorted(file for file in (ROOT / "recipes").glob("*.py") if not file.stem.startswith("__"))
    transfer, evaluate = (str(ROOT / "recipes" / f"{name}.py") for name in ("transfer", "evaluate"))
    cards = ROOT / "model_cards"
    shown = min(file.parent.name for file in cards.glob("*/config.json"))
    unknown = ("--model", "resnt18", "--data", "synthetic", "--output", str(output))
    return {
        TORCH: (("-c", TORCH), 0),
        TIMM: (("-c", TIMM), 0),
        "robust_hub --help": ((*COMMAND_LINE, "--help"), 0),
        "robust_hub list --folder model_cards": ((*COMMAND_LINE, "list", "--folder", str(cards)), 0),
        f"robust_hub show {shown}": ((*COMMAND_LINE, "show", shown), 0),
        "robust_hub list --fodler": ((*COMMAND_LINE, "list", "--fodler"), REFUSED),
        **{f"{recipe.name} --help": ((str(recipe), "--help"), 0) for recipe in recipes},
        "transfer.py rrm --techer": ((transfer, "rrm", "--techer", "x"), REFUSED),
        "evaluate.py --model resnt18": ((evaluate, *unknown), REFUSED),
    }


def answer(words: tuple[str, ...], code: int) -> float:
    """Runs Python with these words and gives the seconds until it ended."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}, not {code}:\n{done.stderr}")
    return elapsed


def ratio(measured: list[float], over: list[float]) -> float:
    """Gives the median ratio of two commands' seconds in the same turns."""
    return statistics.median(a / b for a, b in zip(measured, over, strict=True))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
