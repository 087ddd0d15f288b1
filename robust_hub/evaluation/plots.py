"""The pictures that people expect. Each function writes one file."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from robust_hub.evaluation.accuracy import Accuracy
from robust_hub.types import Images

MOST_CLASSES = 50


def plot_accuracy_curves(path: Path, curves: dict[str, dict[float, float]], *, norm: str, reported: float) -> None:
    """Draws accuracy against eps.

    Args:
        path: the file, a PNG.
        curves: accuracy as a fraction by the radius in pixel units, by the name of the model.
        norm: of the threat.
        reported: the radius of the table.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, curve), marker in zip(curves.items(), "osD^v<>", strict=False):
        axes.plot(list(curve), [100 * accuracy for accuracy in curve.values()], marker=marker, label=name)
    axes.axvline(reported, color="0.6", linestyle="--", linewidth=1, label="eps of the table", zorder=0)
    axes.set(xlabel=f"eps ({norm}, pixels in [0, 1])", ylabel="accuracy under PGD (%)", ylim=(-2, 102), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


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
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


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
    figure.savefig(path, dpi=150)


def plot_classes(path: Path, classes: dict[str, tuple[Accuracy, Accuracy]], *, threat: str) -> None:
    """Draws clean and robust accuracy of each class, the most robust at the top.

    Args:
        path: the file, a PNG.
        classes: clean and robust accuracy by the name of the class; only the 50 least robust are drawn.
        threat: what it is called.
    """
    shown = sorted(classes.items(), key=lambda named: named[1][1].value)[:MOST_CLASSES]
    figure = Figure(figsize=(6, 0.3 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{name} (n = {clean.n})" for name, (clean, _) in shown]
    axes.barh(names, [100 * clean.value for _, (clean, _) in shown], color="0.85", label="clean")
    robust = [accuracies[1] for _, accuracies in shown]
    values = [100 * one.value for one in robust]
    axes.barh(names, values, height=0.5, xerr=_error_bars(robust), label=f"robust, {threat}")
    axes.set(xlabel="accuracy (%), with 95 % intervals", xlim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=150)


def _error_bars(accuracies: list[Accuracy]) -> list[list[float]]:
    return [
        [100 * (one.value - one.low) for one in accuracies],
        [100 * (one.high - one.value) for one in accuracies],
    ]
