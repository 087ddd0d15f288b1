"""The pictures that people expect. Each function writes one file."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from robust_hub.types import Images


def plot_accuracy_curves(
    path: Path, eps: list[float], curves: dict[str, list[float]], *, norm: str, reported: float
) -> None:
    """Draws accuracy against eps.

    Args:
        path: the file, a PNG.
        eps: radii in pixel units.
        curves: accuracy at each radius as fractions, by the name of the model.
        norm: of the threat.
        reported: the radius of the table.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, curve), marker in zip(curves.items(), "osD^v<>", strict=False):
        axes.plot(eps, [100 * accuracy for accuracy in curve], marker=marker, label=name)
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
