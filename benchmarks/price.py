"""When transfer pays: each method against fast adversarial training of the same student, by price, on CIFAR-10.

    python benchmarks/price.py run CIFAR10 [--only NAME ...] [--seeds 3]
    python benchmarks/price.py table

The student is trained by N-FGSM for a quarter, half, once and twice the passes that made the small teacher, which gives
a line of clean and of robust accuracy against price; each method is a point beside it. A run is a line of
benchmarks/price.json; one that is there is not run again, and one that was killed goes on. `table` prints them, each
against N-FGSM at its price with the same seed, student and images, the better one where there are two, and draws
docs/price.png.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev

import tyro
from datasets import load_dataset
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running import ROOT, Trial, add_result, read_trials, run_missing
from benchmarks.search import ADAMW, ADVERSARIALLY, FAST, LARGE, LATE, SMALL, USUAL, resnet
from robust_hub.files import whole_folder

TRIALS, FIGURE = ROOT / "benchmarks" / "price.json", ROOT / "docs" / "price.png"
TESTED, COLOURS = 1_000, colormaps["tab20"]
# Passes of the small teacher's training, forward and backward.
TEACHERS = 2 * 1_797_120
NATURAL, PERTURBED = "natural images only", "few perturbed images"
NO_TEACHER = "adversarial training"
MARKERS = {NATURAL: "s", PERTURBED: "^", NO_TEACHER: "o"}
NO_FEATURES, FEATURES = ("--feature-weight", "0"), ("--feature-weight", "10")
RSLAD_GROWING = ("rslad", "--target", "once", "--eps-warmup", "0.3", *NO_FEATURES)
RSLAD_LATE = ("rslad", "--target", "once", "--eps-warmup", "0", *LATE)
IGAM_LATE = ("igam", *ADAMW, "--start", "0.33", "--weight", "3", *FEATURES)
LITTLE, OFTEN = 10_000, 5
WIDE = resnet(channels=[48, 96, 192, 384])
SHAPE = {"patch_size": 2, "dims": [32, 64, 128, 256], "depths": [2, 2, 4, 2]}
CONVNEXT = ("--student", "convnext_atto", "--student-args", json.dumps(SHAPE), *ADAMW)


@dataclass(frozen=True)
class Run:
    """A point.

    Attributes:
        name: of the method and its teacher.
        kind: what the student sees.
        words: of the command line.
        epochs: of training.
        teacher: its name; none where there is none.
        student: with its arguments.
        images: of the training set; all where there is no number.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    epochs: int
    teacher: str = ""
    student: tuple[str, ...] = USUAL
    images: int | None = None

    @property
    def command(self) -> list[str]:
        """The recipe and its options."""
        taught = ["--teacher", self.teacher] if self.teacher else []
        return [*self.words, *taught, *self.student, "--epochs", str(self.epochs), "--test-images", str(TESTED)]


def fast(epochs: int) -> Run:
    """A point of the line."""
    return Run(f"{FAST}, {epochs} epochs", NO_TEACHER, ADVERSARIALLY, epochs)


def taught(name: str, kind: str, epochs: int, *words: str) -> list[Run]:
    """A method with each of the two teachers."""
    command = ("transfer.py", *words)
    return [
        Run(f"{name}, {size} teacher", kind, command, epochs, teacher)
        for size, teacher in (("large", LARGE), ("small", SMALL))
    ]


RUNS = [
    fast(5),
    fast(10),
    # What helps one side may help the other.
    Run(f"{FAST}, attacked late, 12 epochs", NO_TEACHER, (*ADVERSARIALLY, *LATE), 12),
    *taught("RSLAD, asked once", PERTURBED, 9, *RSLAD_GROWING),
    *taught("RSLAD, asked once, a longer step", PERTURBED, 9, *RSLAD_GROWING, "--step-size", "1.5"),
    *taught("RSLAD, asked once, attacked late", PERTURBED, 11, *RSLAD_LATE, *NO_FEATURES, "--step-size", "1.25"),
    *taught("RSLAD, asked once, attacked late, features", PERTURBED, 11, *RSLAD_LATE, *FEATURES, "--step-size", "1.25"),
    *taught("RSLAD, asked once, attacked late by eps, features", PERTURBED, 11, *RSLAD_LATE, *FEATURES),
    *taught("RSLAD", PERTURBED, 8, "rslad", *NO_FEATURES, "--eps-warmup", "0.3"),
    *taught("RRM", NATURAL, 13, "rrm", "--projection"),
    *taught("MixACM", NATURAL, 13, "mixacm"),
    *taught("two-point", PERTURBED, 5, "two-point", *ADAMW),
    *taught("IGAM", NATURAL, 6, "igam", *ADAMW, "--start", "0", "--weight", "1", *NO_FEATURES),
    *taught("IGAM, late, features", NATURAL, 8, *IGAM_LATE),
    *taught("IGAM, asked once, late, features", NATURAL, 10, *IGAM_LATE, "--target", "once"),
    *taught("PAG", NATURAL, 6, "pag", *ADAMW),
    fast(20),
    fast(40),
]
DECISIVE = [
    each for each in RUNS if each.name.startswith((f"{FAST}, 10 epochs", f"{FAST}, attacked late", "RSLAD, asked once"))
]
# The same with a student of twice the weights, and with one of another kind, which learns more slowly.
RUNS += [replace(each, name=f"wide, {each.name}", student=WIDE) for each in DECISIVE]
RUNS += [replace(each, name=f"ConvNeXt, {each.name}", student=CONVNEXT) for each in DECISIVE]
# The same price for people with fewer images, who see each of them more often.
RUNS += [
    replace(
        each,
        name=f"{LITTLE:,} images, {each.name.replace(f'{each.epochs} epochs', f'{OFTEN * each.epochs} epochs')}",
        epochs=OFTEN * each.epochs,
        images=LITTLE,
    )
    for each in DECISIVE
]


def run(
    cifar10: tyro.conf.Positional[Path],
    output: Path = Path("runs/price"),
    *,
    only: tuple[str, ...] = (),
    seeds: int = 1,
) -> None:
    """Runs what is missing.

    Args:
        cifar10: folder of CIFAR-10.
        output: where the runs write.
        only: runs, by the beginning of their names; all where there is none.
        seeds: how many of each.
    """
    wanted = [each for each in RUNS if not only or each.name.startswith(only)]
    for images in (None, LITTLE):
        data = part(cifar10, images, output / "data") if images else cifar10
        commands = {each.name: each.command for each in wanted if each.images == images}
        for trial in run_missing(commands, TRIALS, output, data=data, seeds=seeds):
            add_result(TRIALS, trial)


def part(cifar10: Path, images: int, folder: Path) -> Path:
    """Writes a data set of some of the training images and of all test images."""
    if not folder.is_dir():
        rows = load_dataset(str(cifar10))
        with whole_folder(folder) as place:
            some = rows["train"].shuffle(seed=0).select(range(images))
            some.to_parquet(str(place / "train-00000-of-00001.parquet"))
            rows["test"].to_parquet(str(place / "test-00000-of-00001.parquet"))
    return folder


def table() -> None:
    """Prints the table and draws the figure."""
    trials, runs = read_trials(TRIALS), {each.name: each for each in RUNS}
    rows = []
    for trial in trials:
        this, (clean, robust) = runs[trial.name], trial.accuracies
        cells = [trial.name, this.kind, trial.seed, str(clean), str(robust)]
        cells += [f"{trial.passes / TEACHERS:.2f}", f"{trial.seconds:,}"]
        alone = {name for name, each in runs.items() if each.kind == NO_TEACHER and same_task(each, this)}
        line = [other for other in trials if other.name in alone and other.seed == trial.seed]
        if this.kind == NO_TEACHER or not line:
            rows.append([*cells, "", "", ""])
            continue
        rival = best_at_its_price(line, trial)
        rows.append([*cells, rival.name, *map(str, trial.against(rival))])
    headers = ["method", "the student sees", "seed", "clean %", "PGD-50 %", "passes over the small teacher's", "s"]
    print(tabulate(rows, [*headers, "against", "clean", "robust"], tablefmt="github", disable_numparse=True))
    draw([trial for trial in trials if same_task(runs[trial.name], RUNS[0])], runs)


def best_at_its_price(line: list[Trial], trial: Trial) -> Trial:
    """Chooses of those that come nearest in passes, to a twentieth, the one with the highest sum of both accuracies."""
    gaps = [abs(other.passes - trial.passes) for other in line]
    near = [other for other, gap in zip(line, gaps, strict=True) if gap <= min(gaps) + trial.passes / 20]
    return max(near, key=lambda other: sum(accuracy.value for accuracy in other.accuracies))


def same_task(one: Run, other: Run) -> bool:
    """Tells whether two runs taught the same student from the same images."""
    return (one.student, one.images) == (other.student, other.images)


def points_of(trials: list[Trial], place: int) -> dict[str, tuple[float, float, float]]:
    """Gives the price of each run, and mean and standard deviation of an accuracy over its seeds, in percent."""
    points = {}
    for name in {trial.name for trial in trials}:
        runs = [trial for trial in trials if trial.name == name]
        values = [100 * run.accuracies[place].value for run in runs]
        points[name] = (mean(run.passes for run in runs) / TEACHERS, mean(values), pstdev(values))
    return points


def draw(trials: list[Trial], runs: dict[str, Run]) -> None:
    """Draws clean and robust accuracy against price."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 2))
    for panel, place, what in zip(panels, (0, 1), ("clean", "robust, PGD-50 at linf 8/255"), strict=True):
        points = points_of(trials, place)
        line = sorted(point for name, point in points.items() if runs[name].words == ADVERSARIALLY)
        prices, values, spreads = zip(*line, strict=True)
        panel.errorbar(prices, values, spreads, color="black", marker="o", label=FAST)
        others = [name for name in runs if name in points and runs[name].words != ADVERSARIALLY]
        for number, name in enumerate(others):
            price, value, spread = points[name]
            marker, colour = MARKERS[runs[name].kind], COLOURS(number)
            panel.errorbar(price, value, spread, marker=marker, color=colour, linestyle="", label=name)
        panel.set_xscale("log")
        panel.set_xticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
        panel.minorticks_off()
        panel.set(xlabel="passes over those of the small teacher", ylabel=f"{what} (%)")
        panel.grid(alpha=0.3)
    names = panels[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, fontsize="small", title="squares: natural images only")
    figure.savefig(FIGURE, dpi=120)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
