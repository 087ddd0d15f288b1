"""Looks for the best form of each method, on images held out of CIFAR-10's training set.

    python benchmarks/search.py run CIFAR10 [--only NAME ...] [--seeds 3]
    python benchmarks/search.py table

Every variant learns from the same 10,000 training images for about as many passes, forward and backward of all
networks together, and is tested on the same 1,000 others of the training set. The test set is not touched. Each trial
is a line of benchmarks/search.json, of which benchmarks/LOG.md is written; a trial that is there is not run again, and
one that was killed goes on. What it is held against is fast adversarial training of the same student at the same price,
on the same images.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from datasets import load_dataset
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running import ROOT, Trial, add_result, read_trials, run_missing, verdict
from robust_hub.files import whole_folder, write_text

TRIALS, LOG = ROOT / "benchmarks" / "search.json", ROOT / "benchmarks" / "LOG.md"
TRAINING, HELD_OUT = 10_000, 1_000
# Passes for each training image, forward and backward, of student and teacher together.
BUDGET = 40
SMALL = "local-dir:" + str(ROOT / "model_cards" / "resnet18_cifar.nfgsm_linf8_cifar10")
LARGE = "local-dir:" + str(ROOT / "model_cards" / "preact_resnet18_cifar.trades_linf8_cifar10")
ADAMW = ("--optimizer", "adamw", "--lr", "0.003", "--weight-decay", "0.05")
# A third of the steps shows the student images as they are, for half the price.
LATE = ("--delay", "0.33")
FAST, ADVERSARIALLY = "N-FGSM", ("adversarial_training.py", "n-fgsm")
ABOUT = (
    f"Each variant of benchmarks/search.py learns from the same {TRAINING:,} images of CIFAR-10's training set for "
    f"about {BUDGET} passes an image, forward and backward of all networks together, and is tested on {HELD_OUT:,} "
    f"others of the training set. Differences are to {FAST} adversarial training of the usual student with the same "
    "seed, on the same images, with paired 95 % intervals; the verdict is what these say."
)
MEASURED = [
    "seed",
    "clean",
    "PGD-50",
    "1000 passes",
    "s",
    f"clean, against {FAST}",
    f"robust, against {FAST}",
    "verdict",
]


def resnet(**model_args: object) -> tuple[str, ...]:
    """The student with other arguments."""
    usual = {"channels": [32, 64, 128, 256], "output_stride": 8}
    return "--student", "resnet10t", "--student-args", json.dumps({**usual, **model_args})


USUAL = resnet()


@dataclass(frozen=True)
class Variant:
    """A row of the log.

    Attributes:
        name: of the method and what is special.
        why: what was expected of it.
        words: of the recipe's command line.
        price: passes that an image takes in one epoch, of all networks; those of the budget are divided by it.
        teacher: to learn from; none where the recipe takes none.
        student: to teach.
    """

    name: str
    why: str
    words: tuple[str, ...]
    price: float
    teacher: str = LARGE
    student: tuple[str, ...] = USUAL

    @property
    def epochs(self) -> int:
        """So many as the budget buys."""
        return max(1, round(BUDGET / self.price))

    @property
    def command(self) -> list[str]:
        """The recipe and its options."""
        taught = ["--teacher", self.teacher] if self.teacher else []
        return [*self.words, *taught, *self.student, "--epochs", str(self.epochs)]


def rslad(
    name: str,
    why: str,
    *words: str,
    price: float = 5,
    warmup: float = 0,
    features: float = 0,
    teacher: str = LARGE,
    student: tuple[str, ...] = USUAL,
) -> Variant:
    """A variant of one-step distillation, with the whole eps at once and by predictions alone unless it is said."""
    command = ("transfer.py", "rslad", "--eps-warmup", str(warmup), "--feature-weight", str(features), *words)
    return Variant(f"rslad, {name}", why, command, price, teacher, student)


def two_point(name: str, why: str, *words: str) -> Variant:
    """A variant of two-point matching."""
    return Variant(f"two-point, {name}", why, ("transfer.py", "two-point", *ADAMW, *words), 8)


def igam(
    name: str, why: str, *words: str, price: float = 6, weight: float = 1, start: float = 0, features: float = 0
) -> Variant:
    """A variant of input gradient matching, at every step and by predictions beside them unless it is said."""
    settings = ("--weight", str(weight), "--start", str(start), "--feature-weight", str(features))
    return Variant(f"igam, {name}", why, ("transfer.py", "igam", *ADAMW, *settings, *words), price)


def rrm(name: str, why: str, *words: str) -> Variant:
    """A variant of feature matching, behind a projection."""
    return Variant(f"rrm, {name}", why, ("transfer.py", "rrm", "--projection", *words), 3)


VARIANTS = [
    Variant(FAST, "what everything else is held against", ADVERSARIALLY, 4, teacher=""),
    Variant(
        f"{FAST}, eps grows",
        "what helps one side may help the other",
        (*ADVERSARIALLY, "--eps-warmup", "0.3"),
        4,
        teacher="",
    ),
    Variant(
        f"{FAST}, attacked late",
        "a third of the steps for half the price",
        (*ADVERSARIALLY, *LATE),
        10 / 3,
        teacher="",
    ),
    rslad("eps at once", "the teacher's clean prediction, up the divergence"),
    rslad("of the small teacher", "whether a better teacher is worth its passes", teacher=SMALL),
    rslad("up the labels' loss", "the step of N-FGSM, the target of a teacher", "--direction", "labels"),
    rslad("target at the perturbed image", "more accurate, less robust", "--target", "perturbed", price=6),
    rslad("less noise", "the step reaches further from the image", "--noise", "1"),
    rslad("a clean term", "Zi et al. weigh it by a sixth", "--clean-weight", "0.2", price=7),
    rslad("temperature 2", "softer targets tell more of the other classes", "--temperature", "2"),
    rslad("eps grows", "the student learns the task first; the default since", warmup=0.3),
    rslad("asked once", "a step without the teacher, though crops share its target", "--target", "once", price=4),
    rslad("asked once, eps grows", "both of these", "--target", "once", price=4, warmup=0.3),
    rslad("asked once, eps grows slowly", "more of the same", "--target", "once", price=4, warmup=0.6),
    rslad(
        "asked once, a longer step",
        "trades clean accuracy for robustness",
        *("--target", "once", "--step-size", "1.5"),
        price=4,
        warmup=0.3,
    ),
    rslad(
        "asked once, attacked late",
        "a third of the steps for half the price",
        *("--target", "once", *LATE),
        price=10 / 3,
    ),
    rslad(
        "asked once, attacked late, a longer step",
        "what is won in clean accuracy, traded for robustness",
        *("--target", "once", *LATE, "--step-size", "1.25"),
        price=10 / 3,
    ),
    rslad(
        "asked once, attacked late, features",
        "they say more of an image than ten logits",
        *("--target", "once", *LATE),
        price=10 / 3,
        features=10,
    ),
    rslad(
        "asked once, attacked late, features, a longer step",
        "what is won in clean accuracy, traded for robustness",
        *("--target", "once", *LATE, "--step-size", "1.25"),
        price=10 / 3,
        features=10,
    ),
    rslad("AdamW", "the gradient terms need it; does this?", *ADAMW),
    rslad("SiLU", "a smooth student follows a step better", student=resnet(act_layer="silu")),
    rslad("half as wide again", "a larger student at the same passes", student=resnet(channels=[48, 96, 192, 384])),
    two_point("default", "IGAM's gradient distance without second derivatives"),
    two_point("weight 3", "gradients count more", "--weight", "3"),
    two_point("weight 10", "gradients count far more", "--weight", "10"),
    two_point("radius 8/255", "slopes over the whole ball", "--radius", "0.0314"),
    igam("at every step", "gradients of random logits, the teacher's predictions and a little of the labels"),
    igam("weight 3", "gradients count more", weight=3),
    igam("weight 10", "gradients count far more", weight=10),
    igam("every second step", "half of the second derivatives", "--period", "2", price=4.5),
    igam("from a third on", "the task first", start=0.33, price=5),
    igam("features", "288 numbers an image beside 10, for no pass", features=10),
    igam("from a third on, features", "both", start=0.33, features=10, price=5),
    igam(
        "from a third on, weight 3, features",
        "all three, the default since",
        weight=3,
        start=0.33,
        features=10,
        price=5,
    ),
    igam("low frequencies", "those that can be learnt", "--pool", "2"),
    rrm("as published", "features of natural images alone"),
    rrm("the teacher's head", "nothing learnt is thrown away", "--head", "teacher"),
    rrm("noise", "features stay in a small ball as well", "--noise", "0.0627"),
    rrm("mixup", "between the images as well", "--mixup", "1"),
    Variant("mixacm, as published", "channels of natural images alone", ("transfer.py", "mixacm"), 3),
    Variant("mixacm, maps", "places count as well", ("transfer.py", "mixacm", "--side", "4"), 3),
    Variant("pag, lengths", "they count as well", ("transfer.py", "pag", "--distance", "relative", *ADAMW), 6),
]


def run(
    cifar10: tyro.conf.Positional[Path],
    output: Path = Path("runs/search"),
    *,
    only: tuple[str, ...] = (),
    seeds: int = 1,
) -> None:
    """Runs what is missing.

    Args:
        cifar10: folder of CIFAR-10.
        output: where the runs write.
        only: variants, by the beginning of their names; all where there is none.
        seeds: how many of each.
    """
    data = output / "data"
    split(cifar10, data)
    wanted = {variant.name: variant for variant in VARIANTS if not only or variant.name.startswith(only)}
    commands = {name: [*variant.command, "--test-images", str(HELD_OUT)] for name, variant in wanted.items()}
    for trial in run_missing(commands, TRIALS, output, data=data, seeds=seeds):
        add_result(TRIALS, trial)
        write_log()


def table() -> None:
    """Prints the trials, the most robust first."""
    rows = [row(trial) for trial in sorted(read_trials(TRIALS), key=lambda trial: -trial.robust.count("1"))]
    print(tabulate(rows, ["variant", *MEASURED], tablefmt="github", disable_numparse=True))


def split(cifar10: Path, folder: Path) -> None:
    """Writes a data set whose training and test images are both of the training set."""
    if folder.is_dir():
        return
    rows = load_dataset(str(cifar10), split="train").shuffle(seed=0)
    parts = {"train": range(TRAINING), "test": range(TRAINING, TRAINING + HELD_OUT)}
    with whole_folder(folder) as place:
        for name, numbers in parts.items():
            rows.select(numbers).to_parquet(str(place / f"{name}-00000-of-00001.parquet"))


def row(trial: Trial) -> list[str]:
    """Writes a trial for the log, beside fast adversarial training with the same seed."""
    shares = [f"{100 * accuracy.value:.1f}" for accuracy in trial.accuracies]
    cells = [trial.name, str(trial.seed), *shares, f"{trial.passes / 1000:.0f}", str(trial.seconds)]
    same_seed = {other.name: other for other in read_trials(TRIALS) if other.seed == trial.seed}
    if FAST not in same_seed or trial.name == FAST:
        return [*cells, "", "", ""]
    clean, robust = trial.against(same_seed[FAST])
    return [*cells, str(clean), str(robust), f"{verdict(clean)} clean, {verdict(robust)} robust"]


def write_log() -> None:
    """Writes all trials with what was expected of them, in the order in which they were run."""
    why, rows = {variant.name: variant.why for variant in VARIANTS}, map(row, read_trials(TRIALS))
    told = [[name, why.get(name, "no longer tried"), *cells] for name, *cells in rows]
    table = tabulate(told, ["variant", "why", *MEASURED], tablefmt="github", disable_numparse=True)
    write_text(LOG, f"# Trials\n\n{ABOUT}\n\n{table}\n")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
