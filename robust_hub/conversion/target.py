"""The classifier that takes the place of a foreign one: its classes, its normaliser, its weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor

from robust_hub.conversion.layouts import parts, projection_of, unified, with_classifier
from robust_hub.conversion.mapping import Mapping, fits
from robust_hub.conversion.normaliser import Normaliser
from robust_hub.errors import CheckpointError
from robust_hub.models import PixelClassifier, TimmModel, create_classifier, describes_network

# The largest sets have 30,000; a layer of so many takes 0.5 GB.
MOST_CLASSES = 2**16
LAST_LAYERS = {"fc", "linear", "logits", "head", "classifier"}


@dataclass(frozen=True)
class Outputs:
    """What a network gives for an image.

    Attributes:
        kind: logits of classes; the embedding of an image tower; or features, where there is no classifier.
        count: how many numbers.
    """

    kind: Literal["classes", "embedding", "features"]
    count: int

    def __str__(self) -> str:
        """Tells it, and what to do where it is no class."""
        if self.kind == "classes":
            return f"{self.count} classes"
        return (
            f"the checkpoint has no classes, and the logits of its folder are the {self.count} numbers of its "
            f"{self.kind}; train a head on it, as linear_probe.py does"
        )


def settle_normaliser(found: Normaliser | None, mean: Sequence[float], std: Sequence[float]) -> Normaliser:
    """Takes the normaliser of the file, or the one that was stated.

    Raises:
        ValueError: when there is neither, or they disagree.
    """
    if not mean and not std:
        if found is None:
            raise CheckpointError(
                "the checkpoint holds no normaliser; state it with --mean and --std, a value for each channel, "
                "--mean 0 0 0 --std 1 1 1 for a network that takes pixels in [0, 1] as they are"
            )
        return found
    stated = Normaliser(tuple(mean), tuple(std))
    if found not in (None, stated):
        raise CheckpointError(
            f"--mean and --std state {stated.mean} and {stated.std}, but the checkpoint holds {found.mean} and "
            f"{found.std}; leave them away"
        )
    return stated


def count_classes(weights: dict[str, Tensor]) -> int:
    """Counts the logits: the outputs of the last linear layer, of those called so where there are any.

    The least nested is the last, as a safetensors file does not keep the order.

    Raises:
        CheckpointError: when there is no linear layer, or it has more outputs than there are classes anywhere.
    """
    linear = [name for name, tensor in weights.items() if name.endswith("weight") and _is_linear(tensor)]
    if not linear:
        raise CheckpointError("the checkpoint has no linear layer that could give logits; convert the whole classifier")
    named = [name for name in linear if LAST_LAYERS & set(re.findall(r"[a-z]+", name))] or linear
    depth = min(name.count(".") for name in named)
    # Of equal numbers, the later.
    *_, last = sorted((name for name in named if name.count(".") == depth), key=_numbers)
    if len(weights[last]) > MOST_CLASSES:
        raise CheckpointError(
            f"the checkpoint's last layer {last} has {len(weights[last]):,} outputs, more than {MOST_CLASSES:,} "
            "classes; leave out with --without what is no classifier"
        )
    return len(weights[last])


def outputs_of(weights: dict[str, Tensor], architecture: str, model_args: dict, channels: int) -> Outputs:
    """Finds out what a checkpoint gives, and how much of it.

    Args:
        weights: the checkpoint's.
        architecture: a timm name, without a pretrained tag.
        model_args: arguments for timm's create_model.
        channels: of the images.

    Raises:
        CheckpointError: when it gives classes, and has no linear layer that could give logits, see `count_classes`.
    """
    if projection_of(weights):
        return Outputs("embedding", len(with_classifier(weights)[f"{projection_of(weights)}.bias"]))
    width = _width_without_classifier(weights, architecture, {"in_chans": channels, **model_args})
    return Outputs("features", width) if width else Outputs("classes", count_classes(weights))


def _width_without_classifier(weights: dict[str, Tensor], architecture: str, model_args: dict[str, Any]) -> int:
    """Tells how many features a checkpoint gives that has all of an architecture but a classifier; 0 for any other."""
    if not all(map(describes_network, model_args)):
        return 0
    headless: dict[str, Any] = {**model_args, "num_classes": 0}
    try:
        with torch.device("meta"):
            body = cast(TimmModel, timm.create_model(architecture, **headless))
    except Exception:  # whatever a foreign architecture raises, `create_target` tells
        return 0
    return body.head_hidden_size if fits(weights, body.state_dict()) else 0


def _is_linear(tensor: Tensor) -> bool:
    return tensor.ndim == 2 or (tensor.ndim == 4 and tensor.shape[2:] == (1, 1))


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def create_target(
    architecture: str, model_args: dict, *, outputs: Outputs, normaliser: Normaliser, image_size: int
) -> PixelClassifier:
    """Creates an untrained classifier that normalises as the checkpoint wants it.

    Where the checkpoint gives features, the classifier layer passes them on as they are.

    Args:
        architecture: a timm name, without a pretrained tag.
        model_args: arguments for timm's create_model.
        outputs: how many logits, and of what.
        normaliser: tells the number of channels as well.
        image_size: side of the images in px; 0 for the architecture's own.

    Raises:
        ValueError: when timm can't build it, its size is not the one asked for, or its channels are not the
            normaliser's.
    """
    # An architecture that timm does not know, or a name of weights, is told below.
    cfg = get_pretrained_cfg(architecture.partition(".")[0])
    size = image_size or (cfg.input_size[-1] if cfg else 1)
    shape = (len(normaliser.mean), size, size)
    classifier = create_classifier(architecture, model_args, num_classes=outputs.count, image_shape=shape)
    if image_size and classifier.input_size[1:] != (image_size, image_size):
        raise ValueError(
            f"{architecture} takes images of {classifier.input_size[2]}x{classifier.input_size[1]} px, whatever "
            f"--image-size says; leave that away, or say --model-args '{{\"img_size\": {image_size}}}' alone"
        )
    if classifier.input_size[0] != len(normaliser.mean):
        raise ValueError(
            f"{architecture} takes {classifier.input_size[0]} channels and the normaliser has {len(normaliser.mean)}; "
            "give --mean and --std a value for each channel"
        )
    classifier.model.pretrained_cfg.update(mean=normaliser.mean, std=normaliser.std)
    if outputs.kind == "features":
        _pass_features_on(classifier)
    return PixelClassifier(classifier.model.eval(), classifier.model_args)


def _pass_features_on(classifier: PixelClassifier) -> None:
    if len(classifier.classifier_layers) > 1 or classifier.num_features != classifier.num_classes:
        raise ValueError(
            f"the checkpoint has no classifier, and {classifier.architecture} has one that can't pass features on; "
            "choose an architecture with one linear classifier"
        )
    (layer,) = classifier.classifier_layers
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classifier.num_classes).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.zero_()


def weights_to_fill(classifier: PixelClassifier, outputs: Outputs) -> dict[str, Tensor]:
    """Gives the weights of a classifier that the checkpoint has; all but the last layer's where that gives features."""
    state = classifier.model.state_dict()
    if outputs.kind != "features":
        return state
    last = {
        f"{name}.{leaf}"
        for name, layer in classifier.model.named_modules()
        if layer in classifier.classifier_layers
        for leaf in ("weight", "bias")
    }
    return {name: tensor for name, tensor in state.items() if name not in last}


def fill(classifier: PixelClassifier, weights: dict[str, Tensor], mapping: Mapping) -> None:
    """Gives a classifier the weights of a checkpoint, in its own precision and shapes."""
    state, theirs = classifier.model.state_dict(), unified(with_classifier(weights))
    ours = parts(state)
    for name, target in mapping.names.items():
        together = ours.get(target, ())
        tensors = theirs[name].chunk(len(together)) if len(together) > 1 else [theirs[name]] * len(together)
        for part, tensor in zip(together, tensors, strict=True):
            state[part] = tensor.to(state[part].dtype).reshape(state[part].shape)
    classifier.model.load_state_dict(state, strict=True)
