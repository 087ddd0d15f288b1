"""What the weights of a downloaded model folder must look like before timm builds their network."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from robust_hub.errors import CheckpointError, close_names, first_line
from robust_hub.names import CONFIG, WEIGHTS

# Weights may be halves, and a file may lack what timm makes anew; a network of many times its file is none of its.
MOST_BYTES_A_BYTE = 4
SPARE_BYTES = 64 * 2**20
# By which layers make their weights and buffers.
MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace}


def check_weights(folder: Path, config: dict) -> None:
    """Checks that timm knows the network, that the weights file is one, and that it has a tensor for each layer.

    Raises:
        CheckpointError: when it is not so.
    """
    file, architecture = folder / WEIGHTS, config["architecture"]
    if not timm.is_model(architecture):
        near = close_names(architecture, timm.list_models())
        raise CheckpointError(f"{folder / CONFIG}: timm knows no architecture '{architecture}'{near}; a newer timm may")
    try:
        with safe_open(file, "pt") as weights:
            tensors = len(weights.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is no safetensors file ({first_line(error)}); fetch it again") from error
    depths = [value for key, value in config.get("model_args", {}).items() if re.search("depth|layers|blocks", key)]
    if sum(number for value in depths for number in _numbers(value)) > tensors:
        raise CheckpointError(f"{folder / CONFIG} describes more layers than the {tensors} tensors of {file.name}")


class Bounded(TorchFunctionMode):
    """Stops a network that grows far larger than its weights file while it is built, before memory is taken for it.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self._folder, self._bytes = folder, 0
        self._most = MOST_BYTES_A_BYTE * (folder / WEIGHTS).stat().st_size + SPARE_BYTES

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Calls a function of torch's; counts what it makes, if it makes tensors, and refuses what is too much."""
        kwargs = kwargs or {}
        if func in MAKERS:
            self._bytes += func(*args, **{**kwargs, "device": "meta"}).nbytes
            if self._bytes > self._most:
                raise CheckpointError(
                    f"{self._folder / CONFIG} describes a network of more than {self._most:,} bytes, far more than "
                    f"{WEIGHTS} has"
                )
        return func(*args, **kwargs)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif type(value) is int:
        yield abs(value)
