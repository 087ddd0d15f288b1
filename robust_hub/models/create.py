"""Creates an untrained classifier of any architecture timm knows, shaped for the images and classes at hand."""

from collections.abc import Sequence
from copy import deepcopy
from inspect import signature
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg

from robust_hub.errors import close_names, first_line
from robust_hub.models.arguments import describes_network
from robust_hub.models.mlp_headed import MlpHeaded
from robust_hub.models.pixel_classifier import PixelClassifier

# Of no network.
NO_ARGUMENT = "an_argument_of_no_network"
# Of ImageNet, where timm tells nothing.
USUAL_SIZE = 224
OTHER_ARGUMENTS = """give it other arguments, for example '{"img_size": 32, "patch_size": 4}' for a ViT"""


def create_classifier(
    architecture: str, model_args: dict, *, num_classes: int, image_shape: tuple[int, int, int]
) -> PixelClassifier:
    """Creates an untrained classifier.

    The image size is the architecture's own where it is fixed (`img_size` in model_args, else timm's default), and
    that of the data where the architecture takes any. Channels are the data's unless `in_chans` says otherwise.

    Args:
        architecture: a timm name, without a pretrained tag.
        model_args: arguments for timm's create_model, as recorded in config.json.
        num_classes: number of logits.
        image_shape: channels, height and width of the data's images.

    Raises:
        ValueError: when timm does not know the architecture or an argument, or it can't take images of that size, or
            weights are named.
    """
    if "." in architecture:
        _refuse_weights(architecture)
    if not timm.is_model(architecture):
        near = close_names(architecture, timm.list_models()) or "; timm.list_models() lists what it knows"
        raise ValueError(f"timm knows no architecture '{architecture}'{near}")
    check_arguments(architecture, model_args)
    cfg = get_pretrained_cfg(architecture)
    assert cfg is not None
    height, width = cfg.input_size[1:] if cfg.fixed_input_size else image_shape[1:]
    images = images_for((image_shape[0], height, width), cfg.mean, cfg.std, model_args)
    overlay = {
        **images,
        "num_classes": num_classes,
        "label_names": None,
        "test_input_size": None,
        "test_pool_size": None,
        "pool_size": None,
        "first_conv": None,
        "crop_pct": 1.0,
        "test_crop_pct": None,
        "license": None,
        "tag": "",
    }
    model_args = {**model_args, "in_chans": images["input_size"][0]}
    shape = "x".join(map(str, images["input_size"]))
    try:
        model = timm.create_model(architecture, num_classes=num_classes, pretrained_cfg_overlay=overlay, **model_args)
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, *images["input_size"]))
    except Exception as error:  # whatever a foreign architecture raises, the user needs the one sentence
        other = "leave what it does not know away" if "unexpected keyword argument" in str(error) else OTHER_ARGUMENTS
        raise ValueError(
            f"{architecture} can't be built for {shape} images with {model_args} ({first_line(error)}); {other}"
        ) from error
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"{architecture} returns {tuple(logits.shape)} for 2 {shape} images, expected (2, {num_classes})"
        )
    return PixelClassifier(model.train(), model_args)


def _refuse_weights(name: str) -> None:
    architecture = name.partition(".")[0]
    known = timm.list_pretrained(f"{architecture}.*")
    if name in known:
        raise ValueError(f"{name} names weights, not an untrained network; {architecture} alone is one")
    near = close_names(name, known) or close_names(architecture, timm.list_models())
    told = f"; {architecture} alone is an untrained network" if timm.is_model(architecture) else ""
    raise ValueError(f"timm knows no weights '{name}'{near}{told}")


def check_arguments(architecture: str, model_args: dict) -> None:
    """Checks that a user's arguments describe a network, and that timm leaves none of them unread.

    Args:
        architecture: a timm name, without a tag.
        model_args: arguments for timm's create_model.

    Raises:
        ValueError: when one does not, or is left unread, or channels or size can't be.
    """
    for argument, value in model_args.items():
        if not describes_network(argument):
            raise ValueError(
                f"the argument '{argument}' does not describe a network, and a model folder may not have it; leave it "
                "away"
            )
        if argument == "num_classes":
            raise ValueError("the number of classes is that of the data; leave 'num_classes' away")
        if value is None:
            raise ValueError(f"timm leaves the argument '{argument}' out where it has no value; give it one")
    channels, sides = model_args.get("in_chans", 1), _pair(model_args.get("img_size", 1))
    if not _is_count(channels):
        raise ValueError(f"in_chans must be a number of channels, got {channels!r:.80}")
    if len(sides) != 2 or not all(map(_is_count, sides)):
        raise ValueError(f"img_size must be a side in px, or height and width, got {model_args['img_size']!r:.80}")
    unknown: dict[str, Any] = {NO_ARGUMENT: 1}
    try:
        with torch.device("meta"):
            network = timm.create_model(architecture, **unknown)
    except Exception:  # it knows its arguments, and refuses others itself
        return
    known = {name for kind in type(network).__mro__ for name in signature(kind.__init__).parameters}
    for argument in model_args:
        if argument not in known:
            near = close_names(argument, known) or "; leave it away"
            raise ValueError(f"{architecture} takes any argument, and would not read '{argument}'{near}")


def images_for(
    input_size: Sequence[int], mean: Sequence[float], std: Sequence[float], model_args: dict
) -> dict[str, tuple]:
    """Tells which images a network takes that is built with other arguments, as `pretrained_cfg` does.

    Args:
        input_size: channels, height and width without these arguments.
        mean: of each channel.
        std: of each channel.
        model_args: of which `in_chans` and `img_size` count.
    """
    channels = model_args.get("in_chans", input_size[0])
    sides = _pair(model_args.get("img_size", input_size[1:]))
    return {
        "input_size": (channels, *sides),
        "mean": _per_channel(mean, channels),
        "std": _per_channel(std, channels),
    }


def _pair(size: Any) -> tuple:
    return tuple(size) if isinstance(size, Sequence) else (size, size)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def own_size(architecture: str) -> int:
    """Tells the side in px of the images that an architecture is usually for; ImageNet's where timm tells none."""
    # Names of weights are refused where the network is made.
    cfg = get_pretrained_cfg(architecture.partition(".")[0])
    return cfg.input_size[-1] if cfg else USUAL_SIZE


def is_stock(architecture: str) -> bool:
    """Tells whether timm alone knows an architecture."""
    return timm.model_entrypoint(architecture).__module__.startswith("timm.")


def with_mlp_head(classifier: PixelClassifier, hidden: int, num_classes: int) -> PixelClassifier:
    """Copies a classifier's body and puts an untrained head of two layers on top.

    Args:
        classifier: gives the body with its weights, mean and std.
        hidden: width of the hidden layer.
        num_classes: number of logits.

    Raises:
        ValueError: when the body without its classifier does not give the features that enter it.
    """
    model_args = {**classifier.model_args, "body": classifier.architecture, "hidden": hidden}
    fresh = create_classifier("mlp_headed", model_args, num_classes=num_classes, image_shape=classifier.input_size)
    model, taught = fresh.model, classifier.model.pretrained_cfg
    assert isinstance(model, MlpHeaded)
    model.body.load_state_dict(classifier.model.state_dict(), strict=False)
    model.pretrained_cfg.update({key: taught[key] for key in ("mean", "std", "input_size")})
    model.pretrained_cfg.update(
        {key: getattr(classifier.preprocessing, key) for key in ("crop_pct", "crop_mode", "interpolation")}
    )
    copy = PixelClassifier(model.eval(), model_args)
    images = torch.rand(2, *classifier.input_size)
    with torch.no_grad():
        given = model.body((images - copy.mean) / copy.std)
        _, features = deepcopy(classifier).cpu().eval().forward_with_features(images)
    if given.shape != features.shape or not torch.allclose(given, features, rtol=1e-4, atol=1e-5):
        raise ValueError(
            f"{classifier.architecture} without its classifier does not give the features that enter it; choose a "
            "linear head or another architecture"
        )
    return copy
