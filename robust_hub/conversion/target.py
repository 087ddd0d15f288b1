"""The classifier that takes the place of a foreign one: its classes, its normaliser, its weights."""

import re
from collections.abc import Sequence

from timm.models import get_pretrained_cfg
from torch import Tensor

from robust_hub.conversion.mapping import Mapping
from robust_hub.conversion.normaliser import Normaliser
from robust_hub.errors import CheckpointError
from robust_hub.models import PixelClassifier, create_classifier

# The largest sets have 30,000; a layer of so many takes 0.5 GB.
MOST_CLASSES = 2**16
LAST_LAYERS = {"fc", "linear", "logits", "head", "classifier"}


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


def _is_linear(tensor: Tensor) -> bool:
    return tensor.ndim == 2 or (tensor.ndim == 4 and tensor.shape[2:] == (1, 1))


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def create_target(
    architecture: str, model_args: dict, *, num_classes: int, normaliser: Normaliser, image_size: int
) -> PixelClassifier:
    """Creates an untrained classifier that normalises as the checkpoint wants it.

    Args:
        architecture: a timm name, without a pretrained tag.
        model_args: arguments for timm's create_model.
        num_classes: number of logits.
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
    classifier = create_classifier(architecture, model_args, num_classes=num_classes, image_shape=shape)
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
    return PixelClassifier(classifier.model.eval(), classifier.model_args)


def fill(classifier: PixelClassifier, weights: dict[str, Tensor], mapping: Mapping) -> None:
    """Gives a classifier the weights of a checkpoint, in its own precision and shapes."""
    state = classifier.model.state_dict()
    for name, target in mapping.names.items():
        if target in state:
            state[target] = weights[name].to(state[target].dtype).reshape(state[target].shape)
    classifier.model.load_state_dict(state, strict=True)
