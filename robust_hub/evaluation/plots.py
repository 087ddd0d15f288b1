"""The pictures that people expect. Each function writes one file, whole or not at all."""

from collections.abc import Generator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.figure import Figure

from robust_hub.errors import first_line
from robust_hub.evaluation.accuracy import Accuracy
from robust_hub.evaluation.curve import Curve
from robust_hub.evaluation.lettering import legible, lettering
from robust_hub.evaluation.stress import Stress
from robust_hub.files import whole_file
from robust_hub.launch import tell
from robust_hub.types import Images

MOST_CLASSES = 50
SEVERITIES = ["1", "2", "3", "4", "5"]


@contextmanager
def dispensable(what: str) -> Generator[None]:
    """Lets a picture that can't be drawn, or put somewhere, cost no more than itself and a line that says why."""
    try:
        yield
    except Exception as error:  # whatever a name, a font or a full disk does to matplotlib, the numbers are there
        tell(f"warning: there is no {what} ({first_line(error)}); all else is kept")


@lettering()
def plot_accuracy_curves(path: Path, curves: dict[str, Curve], *, norm: str, reported: float) -> None:
    """Draws accuracy against eps.

    Args:
        path: the file, a PNG.
        curves: by the name of the model.
        norm: of the threat.
        reported: the radius of the table.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, curve), marker in zip(curves.items(), cycle("osD^v<>"), strict=False):
        percent = [100 * accuracy for accuracy in curve.accuracy]
        axes.plot(curve.eps, percent, marker=marker, label=legible(name))
    axes.axvline(reported, color="0.6", linestyle="--", linewidth=1, label="eps of the table", zorder=0)
    axes.set(xlabel=f"eps ({norm}, pixels in [0, 1])", ylabel="accuracy under PGD (%)", ylim=(-2, 102), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


@lettering()
def plot_input_gradients(path: Path, images: Images, gradients: dict[str, Images]) -> None:
    """Draws images above the loss gradients of several models; red raises the loss where it is made brighter.

    Args:
        path: the file, a PNG.
        images: one a column, in [0, 1].
        gradients: of the loss with respect to these images, by the name of the model.
    """
    figure = Figure(figsize=(1.1 * len(images) + 1, 1.15 * (len(gradients) + 1)), layout="constrained")
    rows = figure.subplots(len(gradients) + 1, len(images), squeeze=False)
    for axes, image in zip(rows[0], images, strict=True):
        axes.imshow(image.permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    for row, gradient in zip(rows[1:], gradients.values(), strict=True):
        for axes, one in zip(row, gradient, strict=True):
            shown = one.mean(0).cpu()
            # Gradients are heavy-tailed: the colour scale ends where all but one pixel in a hundred do.
            limit = torch.quantile(shown.abs(), 0.99).clamp_min(1e-12)
            axes.imshow(shown.numpy(), cmap="RdBu_r", vmin=-limit.item(), vmax=limit.item())
    for row, name in zip(rows, ["image", *gradients], strict=True):
        row[0].set_ylabel(legible(name), rotation=0, ha="right", va="center", fontsize=10)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    _save(figure, path)


@lettering()
def plot_survivors(path: Path, survivors: dict[str, Accuracy], *, threat: str) -> None:
    """Draws what each attack left standing, as bars from clean accuracy down.

    Args:
        path: the file, a PNG.
        survivors: accuracy as it is, under `clean`, and then after each attack and those before it.
        threat: what it is called.
    """
    figure = Figure(figsize=(1.2 * len(survivors) + 1.5, 4), layout="constrained")
    axes = figure.subplots()
    accuracies = list(survivors.values())
    colors = ["0.85", *["#9ecae1"] * (len(survivors) - 1)]
    axes.bar(list(survivors), [100 * one.value for one in accuracies], yerr=_error_bars(accuracies), color=colors)
    for place, accuracy in enumerate(accuracies):
        axes.annotate(f"{100 * accuracy.value:.1f}", (place, 1.5), ha="center", fontweight="bold")
    axes.set(ylabel=f"accuracy after the attack, {threat} (%)", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"n = {accuracies[0].n}, bars are 95 % intervals", fontsize=9, loc="left")
    _save(figure, path)


@lettering()
def plot_classes(path: Path, classes: dict[str, tuple[Accuracy, Accuracy]], *, threat: str) -> None:
    """Draws clean and robust accuracy of each class, the most robust at the top; of many only both ends.

    Args:
        path: the file, a PNG.
        classes: clean and robust accuracy by the name of the class.
        threat: what it is called.
    """
    ordered = sorted(classes.items(), key=lambda named: named[1][1].value)
    left_out, shown, places = len(ordered) - MOST_CLASSES, ordered, list(range(len(ordered)))
    if left_out > 0:
        end = MOST_CLASSES // 2
        shown = ordered[:end] + ordered[-end:]
        places = [*range(end), *range(end + 1, MOST_CLASSES + 1)]
    figure = Figure(figsize=(7, 0.3 * len(places) + 1.4), layout="constrained")
    axes = figure.subplots()
    if left_out > 0:
        between = f"{left_out:,} of {len(ordered):,} classes lie between"
        axes.text(50, MOST_CLASSES // 2, between, ha="center", va="center", fontsize=9, color="0.4")
    robust = [accuracies[1] for _, accuracies in shown]
    axes.barh(places, [100 * clean.value for _, (clean, _) in shown], color="0.85", label="clean")
    values = [100 * one.value for one in robust]
    axes.barh(places, values, height=0.5, xerr=_error_bars(robust), label=f"robust, {threat}")
    # By place, as two names that are shortened may look the same.
    axes.set_yticks(places, [f"{legible(name)} (n = {clean.n})" for name, (clean, _) in shown])
    axes.set(xlabel="accuracy (%), with 95 % intervals", xlim=(0, 100), ylim=(-0.6, max(places, default=0) + 0.6))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    _save(figure, path)


@lettering()
def plot_stress(path: Path, stress: Stress) -> None:
    """Draws accuracy under each kind of change, a row each, at its five strengths.

    Args:
        path: the file, a PNG.
        stress: what was measured.
    """
    percent = [[100 * accuracy for accuracy in strain.accuracy] for strain in stress.strains]
    figure = Figure(figsize=(7, 0.34 * len(percent) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(percent, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for row, (strain, values) in enumerate(zip(stress.strains, percent, strict=True)):
        for column, (strength, value) in enumerate(zip(strain.strengths, values, strict=True)):
            told = f"{value:.0f}" if strain.strengths == SEVERITIES else f"{value:.0f}  ({strength})"
            axes.text(column, row, told, ha="center", va="center", fontsize=8, color="black" if value > 60 else "white")
    axes.set_yticks(range(len(percent)), [legible(strain.name.replace("_", " ")) for strain in stress.strains])
    axes.set_xticks(range(len(SEVERITIES)), SEVERITIES)
    axes.set(xlabel="severity, or the strength in brackets")
    axes.tick_params(length=0)
    axes.set_title(f"accuracy (%), n = {stress.n}; as they are {100 * stress.clean:.0f}", fontsize=9, loc="left")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)


def _error_bars(accuracies: list[Accuracy]) -> list[list[float]]:
    return [
        [100 * (one.value - one.low) for one in accuracies],
        [100 * (one.high - one.value) for one in accuracies],
    ]
