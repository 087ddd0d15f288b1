"""The pictures of a run, which its model folder does not wait for: what can't be drawn is missing, and no more."""

import shutil
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from robust_hub.attacks import eval_mode, loss_and_gradient
from robust_hub.evaluation import Portion, dispensable, pgd_curve, plot_accuracy_curves, plot_input_gradients
from robust_hub.launch import progress
from robust_hub.losses import cross_entropy
from robust_hub.model_folder import add_pictures
from robust_hub.training.loaders import Loaders
from robust_hub.training.result import Result

# A curve of so many is smooth enough to look at, and of more takes longer than training a linear probe does.
PICTURED = 64


def draw_pictures(
    accelerator: Accelerator, results: list[Result], loaders: Loaders, folder: Path, student: Path
) -> None:
    """Draws accuracy against eps and the gallery of input gradients, and puts what can be drawn into a model's folder.

    Each process attacks the first 64 images of its share of the test split, or as many as there are.

    Args:
        accelerator: of the run.
        results: the models that are compared.
        loaders: of the images.
        folder: where the pictures are drawn.
        student: the folder of the model, written before, with its card.
    """
    threat = loaders.threat
    first = islice(loaders.test, 1)
    portions = [Portion(accelerator.process_index, images[:PICTURED], labels[:PICTURED]) for images, labels in first]
    curves = {
        result.name: pgd_curve(result.classifier, portions, threat, seed=0)
        for result in progress(results, desc="pictures")
    }
    drawn = curves[results[0].name]
    if accelerator.is_main_process:
        images, labels = (each[:8] for each in portions[0][1:])
        captions = {
            folder / "accuracy_against_eps.png": f"Accuracy under {drawn.attack} against eps, {drawn.n} test images.",
            folder / "input_gradients.png": "Test images, and the gradient of each model's loss with respect to them.",
        }
        curve, gallery = captions
        with dispensable(curve.name):
            # Not what a killed run has left.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            plot_accuracy_curves(curve, curves, norm=threat.name, reported=threat.eps)
        with dispensable(gallery.name):
            gradients = {result.name: _input_gradient(result.classifier, images, labels) for result in results}
            plot_input_gradients(gallery, images, gradients)
        with dispensable("picture on the card"):
            add_pictures(student, {picture: caption for picture, caption in captions.items() if picture.is_file()})
    accelerator.wait_for_everyone()


def _input_gradient(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with eval_mode(classifier):
        _, gradient = loss_and_gradient(lambda pixels: cross_entropy(classifier(pixels), labels), images)
    return gradient
