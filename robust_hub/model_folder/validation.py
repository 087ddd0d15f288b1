"""What a downloaded model folder must hold, and how large its network may be, before timm builds it."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, no_type_check

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import get_pretrained_cfg
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from robust_hub.errors import CheckpointError, close_names, first_line, strange_name
from robust_hub.files import check_safetensors
from robust_hub.names import CONFIG, WEIGHTS

# Weights may be halves, and a file may lack what timm makes anew; a network of many times its file is none of its.
MOST_BYTES_A_BYTE = 4
SPARE_BYTES = 64 * 2**20
# Of all that is computed on the way to the weights; timm's networks take 3.1 times these.
MOST_COMPUTED_A_BYTE = 8
# For each tensor of the file; timm's networks have 5 modules and weights for each at most, and call 14 functions.
MOST_PARTS_A_TENSOR, SPARE_PARTS = 12, 512
MOST_CALLS_A_TENSOR, SPARE_CALLS = 128, 8192
# On the way of one image; the largest of timm's networks compute a tenth of that, 0.4 GB at once and 16 GB in all.
MOST_FLOPS = 2**45
MOST_BYTES_AT_ONCE, MOST_BYTES_IN_ALL = 2**30, 2**39
# Of a matrix that is inverted, so that patches fit another size; the next ones take seconds.
MOST_INVERTED = 2**20
# By which layers make their weights and buffers.
MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace}
# Which leave a network as large as timm's own is.
HARMLESS = {"num_classes", "in_chans", "drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate"}


def check_weights(folder: Path, config: dict) -> None:
    """Checks that timm knows the network, that the weights file is one, and that it has a tensor for each layer.

    Where a configuration departs from timm's, its network is first built, and shown an image, without memory for any
    tensor, so that nothing is taken before it is refused.

    Raises:
        CheckpointError: when it is not so.
    """
    file, architecture = folder / WEIGHTS, config["architecture"]
    if not timm.is_model(architecture):
        near = close_names(architecture, timm.list_models())
        raise CheckpointError(f"{folder / CONFIG}: timm knows no architecture '{architecture}'{near}; a newer timm may")
    tensors = _count_tensors(file)
    depths = [value for key, value in config.get("model_args", {}).items() if re.search("depth|layers|blocks", key)]
    if sum(number for value in depths for number in _numbers(value)) > tensors:
        raise CheckpointError(f"{folder / CONFIG} describes more layers than the {tensors} tensors of {file.name}")
    if _is_stock(config):
        return
    try:
        _check_size(json.dumps(config), tensors, file.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except Exception as error:  # whatever a foreign configuration raises, the user needs the one sentence
        raise CheckpointError(
            f"{folder} can't be loaded ({first_line(error)}); check its {CONFIG} and {WEIGHTS}"
        ) from error


def _count_tensors(file: Path) -> int:
    check_safetensors(file)
    try:
        with safe_open(file, "pt") as weights:
            names = list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is no safetensors file ({first_line(error)}); fetch it again") from error
    if strange := strange_name(names):
        raise CheckpointError(f"{file} must name its tensors so that they can be shown, got {strange}; do not trust it")
    return len(names)


def _is_stock(config: dict) -> bool:
    """Tells whether a network is as large as timm's of that name, and its images are no larger."""
    stock, told = get_pretrained_cfg(config["architecture"]), config.get("pretrained_cfg", config)
    if stock is None or not HARMLESS.issuperset(config.get("model_args", {})):
        return False
    return all(side <= most for side, most in zip(told["input_size"][1:], stock.input_size[1:], strict=True))


@lru_cache(maxsize=64)
def _check_size(config: str, tensors: int, size: int) -> None:
    """Builds a network and shows it an image, all on a device that computes shapes alone; once for each config.json.

    Raises:
        CheckpointError: when it grows too large, or computes too much.
    """
    told = json.loads(config)
    with TemporaryDirectory() as folder, torch.device("meta"), torch.no_grad():
        Path(folder, CONFIG).write_text(config, encoding="utf-8")
        with _Unfilled(), _while_built(tensors, size):
            model = timm.create_model(f"local-dir:{folder}", pretrained=False).eval()
        with _while_run(tensors), _Arithmetic():
            model(torch.empty(1, *told.get("pretrained_cfg", told)["input_size"]))


def bounded_by(folder: Path) -> "Bounded":
    """Makes what stops a network that grows far larger than the weights file of its folder, while it is built."""
    return _while_built(_count_tensors(folder / WEIGHTS), (folder / WEIGHTS).stat().st_size)


def _while_built(tensors: int, size: int) -> "Bounded":
    made = MOST_BYTES_A_BYTE * size + SPARE_BYTES
    return Bounded(tensors, made=made, at_once=MOST_COMPUTED_A_BYTE * made, in_all=MOST_COMPUTED_A_BYTE * made)


def _while_run(tensors: int) -> "Bounded":
    return Bounded(tensors, made=MOST_BYTES_IN_ALL, at_once=MOST_BYTES_AT_ONCE, in_all=MOST_BYTES_IN_ALL)


class Bounded(TorchFunctionMode):
    """Stops a network that grows or computes too much, in the block that it is entered for and in this thread alone.

    Args:
        tensors: how many its weights file has; as many modules, weights and calls of functions belong to these.
        made: the most bytes that it may make for itself, known before memory is taken.
        at_once: the most bytes of one result.
        in_all: the most bytes of all results.
    """

    def __init__(self, tensors: int, *, made: int, at_once: int, in_all: int):
        super().__init__()
        self._most_made, self._most_at_once, self._most_in_all = made, at_once, in_all
        self._most_parts = MOST_PARTS_A_TENSOR * tensors + SPARE_PARTS
        self._most_calls = MOST_CALLS_A_TENSOR * tensors + SPARE_CALLS
        self._made = self._computed = self._parts = self._calls = 0
        self._thread, self._hooks = threading.get_ident(), ExitStack()

    def __enter__(self) -> "Bounded":
        """Begins to count."""
        for kind in ("module", "parameter", "buffer"):
            # Their handle keeps no module alive, and leaves when the block does.
            hook = getattr(module, f"register_module_{kind}_registration_hook")(self._count_part)
            self._hooks.callback(hook.remove)
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """Counts no more."""
        self._hooks.close()
        super().__exit__(exc_type, exc_val, exc_tb)

    # Called for every operation of torch's: where types are checked as functions run, this would be most of the time.
    @no_type_check
    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Calls a function of torch's; counts what it makes, and refuses what is too much."""
        kwargs = kwargs or {}
        self._calls += 1
        if self._calls > self._most_calls:
            raise _too_large(f"takes more than {self._most_calls:,} steps")
        if func in MAKERS:
            self._made += func(*args, **{**kwargs, "device": "meta"}).nbytes
            if self._made > self._most_made:
                raise _too_large(f"has more than {self._most_made:,} bytes")
        if func is torch.linalg.pinv and args[0].numel() > MOST_INVERTED:
            raise _too_large("brings large patches to another size")
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                computed = tensor.numel() * tensor.element_size()
                self._computed += computed
                if computed > self._most_at_once:
                    raise _too_large(f"computes {computed:,} bytes at once")
                if self._computed > self._most_in_all:
                    raise _too_large(f"computes more than {self._most_in_all:,} bytes")
        return result

    def _count_part(self, *_: object) -> None:
        # Hooks are everybody's: another thread may build a network of its own.
        if threading.get_ident() == self._thread:
            self._parts += 1
            if self._parts > self._most_parts:
                raise _too_large(f"has more than {self._most_parts:,} modules and weights")


class _Unfilled(TorchFunctionMode):
    """Leaves tensors without memory as they are where they would be filled, as shapes alone count."""

    @no_type_check
    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Calls a function of torch's, unless it would change its first argument and nothing else."""
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], torch.Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


class _Arithmetic(TorchDispatchMode):
    """Stops a network that would compute for minutes on one image."""

    def __init__(self):
        super().__init__()
        self._flops = 0

    def __torch_dispatch__(self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Calls an operator, and counts its multiplications and additions."""
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self._flops += count(*args, **(kwargs or {}), out_val=result)
            if self._flops > MOST_FLOPS:
                raise _too_large(f"computes more than {MOST_FLOPS:,} operations on one image")
        return result


def _too_large(what: str) -> CheckpointError:
    return CheckpointError(
        f"{CONFIG} describes a network that {what}, far more than {WEIGHTS} has or any network of timm's needs; do not "
        "trust it"
    )


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif type(value) is int:
        yield abs(value)
