"""Creates an untrained classifier of any architecture timm knows, shaped for the images and classes at hand."""

import timm
import torch
from timm.models import get_pretrained_cfg

from robust_hub.classifiers import PixelClassifier
from robust_hub.messages import close_names, first_line


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
        ValueError: when timm does not know the architecture or an argument, or it can't take images of that size.
    """
    if not timm.is_model(architecture):
        near = close_names(architecture, timm.list_models()) or "; timm.list_models() lists what it knows"
        raise ValueError(f"timm knows no architecture '{architecture}'{near}")
    cfg = get_pretrained_cfg(architecture)
    channels = model_args.get("in_chans", image_shape[0])
    if "img_size" in model_args:
        size = _pair(model_args["img_size"])
    elif cfg.fixed_input_size:
        size = cfg.input_size[1:]
    else:
        size = image_shape[1:]
    overlay = {
        "input_size": (channels, *size),
        "mean": _per_channel(cfg.mean, channels),
        "std": _per_channel(cfg.std, channels),
        "num_classes": num_classes,
        "label_names": None,
        "test_input_size": None,
        "pool_size": None,
        "first_conv": None,
        "crop_pct": 1.0,
        "license": None,
        "tag": "",
    }
    model_args = {**model_args, "in_chans": channels}
    shape = "x".join(map(str, overlay["input_size"]))
    try:
        model = timm.create_model(architecture, num_classes=num_classes, pretrained_cfg_overlay=overlay, **model_args)
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, *overlay["input_size"]))
    except Exception as error:  # whatever a foreign architecture raises, the user needs the one sentence
        raise ValueError(
            f"{architecture} can't be built for {shape} images with {model_args} ({first_line(error)}); "
            'give it other arguments, for example \'{"img_size": 32, "patch_size": 4}\' for a ViT'
        ) from error
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"{architecture} returns {tuple(logits.shape)} for 2 {shape} images, expected (2, {num_classes})"
        )
    return PixelClassifier(model.train(), model_args)


def _pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
