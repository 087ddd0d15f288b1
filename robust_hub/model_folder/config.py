"""Reads config.json as strictly as what a stranger wrote must be: plain values, within bounds, and no code."""

import math
import re
from pathlib import Path
from typing import Any

from robust_hub.errors import CheckpointError, strange_name
from robust_hub.files import read_json
from robust_hub.models import CROP_MODES, Preprocessing, describes_network
from robust_hub.names import CONFIG, CONFIG_KEY, WEIGHTS

MOST_CLASSES = 2**20
# Wider than any layer or image timm knows.
MOST_OF_ANYTHING = 2**15
MOST_CHANNELS = 64
# Of one image; one of 3 channels may be 1182 px wide and high.
MOST_VALUES = 2**22
NAME = re.compile(r"[A-Za-z][\w]*")
# No separator of paths, sources or addresses.
PLAIN_TEXT = re.compile(r"[\w .,+-]*")


def read_config(folder: Path) -> dict:
    """Reads config.json and checks all that timm will act upon; `check_weights` asks timm for the architecture.

    Raises:
        CheckpointError: when an argument is not a plain value within bounds.
    """
    file = folder / CONFIG
    config = read_json(file)
    architecture, model_args = config.get("architecture"), config.get("model_args", {})
    if not isinstance(architecture, str) or not NAME.fullmatch(architecture):
        raise CheckpointError(f"{file} must name an architecture of timm's, got {architecture!r:.80}")
    if not isinstance(model_args, dict):
        raise CheckpointError(f"{file}: model_args must be an object, got {type(model_args).__name__}")
    if not isinstance(config.get(CONFIG_KEY, {}), dict):
        raise CheckpointError(f"{file}: {CONFIG_KEY} must be an object, got {type(config[CONFIG_KEY]).__name__}")
    for key, value in model_args.items():
        _check_argument(file, key, value)
    # Older folders of timm's have no level of their own for it.
    _check_images(file, config.get("pretrained_cfg", config))
    _check_channels(file, model_args, config.get("pretrained_cfg", config))
    _check_classes(file, config)
    return config


def _check_argument(file: Path, key: str, value: Any) -> None:
    if not NAME.fullmatch(key) or not describes_network(key):
        raise CheckpointError(
            f"{file}: model_args may not have {key!r:.80}; it must describe a network and nothing else"
        )
    if isinstance(value, dict):
        for inner, argument in value.items():
            _check_argument(file, inner, argument)
    elif isinstance(value, list):
        for argument in value[: MOST_CHANNELS + 1]:
            _check_argument(file, key, argument)
    most = MOST_CLASSES if key == "num_classes" else MOST_OF_ANYTHING
    fits = {
        str: lambda: bool(PLAIN_TEXT.fullmatch(value)),
        int: lambda: abs(value) <= most,
        float: lambda: math.isfinite(value) and abs(value) <= most,
        list: lambda: len(value) <= MOST_CHANNELS,
        dict: lambda: len(value) <= MOST_CHANNELS,
        bool: lambda: True,
        type(None): lambda: True,
    }
    if not fits[type(value)]():
        raise CheckpointError(
            f"{file}: model_args['{key}'] must be a plain value up to {most:,}, without a path, got {value!r:.80}"
        )


def _check_images(file: Path, told: Any) -> None:
    """Checks what is told of the images, and that no weights of another format are asked for."""
    if not isinstance(told, dict):
        raise CheckpointError(f"{file}: pretrained_cfg must be an object, got {type(told).__name__}")
    size, mean, std = (told.get(key) for key in ("input_size", "mean", "std"))
    fits = isinstance(size, list) and len(size) == 3 and all(type(n) is int and 0 < n <= MOST_OF_ANYTHING for n in size)
    if not fits or size[0] > MOST_CHANNELS or math.prod(size) > MOST_VALUES:
        raise CheckpointError(f"{file}: input_size must be channels, height and width, got {size!r:.80}")
    for name, values in (("mean", mean), ("std", std)):
        numbers = isinstance(values, list) and all(type(n) in (int, float) and math.isfinite(n) for n in values)
        if not numbers or len(values) != size[0] or (name == "std" and min(values) <= 0):
            raise CheckpointError(f"{file}: {name} must be {size[0]} numbers, one a channel, got {values!r:.80}")
    _check_preprocessing(file, told)
    if told.get("custom_load") == "hf" or told.get("state_dict"):
        raise CheckpointError(f"{file} asks for weights in a format of its own; only {WEIGHTS} is read")


def _check_preprocessing(file: Path, told: dict) -> None:
    """Checks how photos are brought to the size, as far as it is told."""
    usual: dict[str, Any] = {"crop_pct": 1.0, "crop_mode": CROP_MODES[0], "interpolation": "bilinear"}
    crop_pct, crop_mode, interpolation = (told[key] if told.get(key) is not None else usual[key] for key in usual)
    if type(crop_pct) not in (int, float):
        raise CheckpointError(f"{file}: crop_pct must be a number, got {crop_pct!r:.80}")
    if crop_mode not in CROP_MODES:
        raise CheckpointError(f"{file}: crop_mode must be one of {', '.join(CROP_MODES)}, got {crop_mode!r:.80}")
    try:
        Preprocessing(tuple(told["input_size"]), float(crop_pct), crop_mode, str(interpolation))
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _check_channels(file: Path, model_args: dict, told: dict) -> None:
    """Checks that the network is built for the channels of its images, as mean and std are."""
    built, shown = model_args.get("in_chans"), told["input_size"][0]
    if built is not None and built != shown:
        raise CheckpointError(
            f"{file}: in_chans is {built!r:.80} and input_size has {shown} channels; write that number, and as many of "
            "mean and std, into both"
        )


def _check_classes(file: Path, config: dict) -> None:
    told = config.get("pretrained_cfg", config)
    for place in (config, told):
        classes, names = place.get("num_classes", 1), place.get("label_names") or []
        if type(classes) is not int or not 0 <= classes <= MOST_CLASSES:
            raise CheckpointError(f"{file}: num_classes must be a number up to {MOST_CLASSES:,}, got {classes!r:.80}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{file}: label_names must be a list of names, got {names!r:.80}")
        if strange := strange_name(names):
            raise CheckpointError(f"{file}: label_names must be names that can be shown, got {strange}; rewrite it")
        if names and "num_classes" in place and len(names) != classes:
            raise CheckpointError(f"{file}: {len(names)} label_names do not fit {classes} classes")
