"""Reads checkpoints that others wrote: their tensors and nothing else, whatever stands around them."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robust_hub.conversion.caution import check_archive, check_legacy
from robust_hub.conversion.layouts import of_images
from robust_hub.conversion.normaliser import Normaliser, normaliser_names, normaliser_of
from robust_hub.errors import CheckpointError, close_names, first_line, printable, strange_name
from robust_hub.files import check_safetensors

# What this field calls the weights, the usual names first, then the file itself; an average only where it is alone.
PREFERRED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "")
# Of dictionaries in dictionaries; one may hold itself.
DEEPEST = 6
# Of all dictionaries, wherever they are met; an optimizer is not looked into.
MOST_SEEN = 250_000
# The largest networks have thousands, whose names have 12 parts.
MOST_TENSORS, DEEPEST_NAME = 100_000, 50
# Of all bytes; one network may stand there twice or three times, which share their tensors.
MOST_COPIES = 8
MOST_COMPARED = 1_000
UNREADABLE = (SafetensorError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, OSError)
NO_WEIGHTS = ("optim", "sched", "scaler")
# DataParallel, torch.compile, and the classes of MadryLab's robustness put these in front of every name.
WRAPPERS = ("module", "model", "attacker", "_orig_mod")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Foreign:
    """What a foreign checkpoint holds.

    Attributes:
        key: where in the file the weights are; empty where they are the file.
        others: where else it holds weights.
        prefixes: what stood in front of the names.
        left_out: how many tensors belong to no network for images: those of a tower for texts, and tables of places.
        weights: each tensor of the network once, without prefixes and without the normaliser.
        normaliser: mean and std, where the file holds them.
        ordered: whether the order of the names is that in which the network registers them; not where it is that of
            the alphabet, as names are that went through a safetensors file.
    """

    key: str
    others: tuple[str, ...]
    prefixes: tuple[str, ...]
    left_out: int
    weights: dict[str, Tensor]
    normaliser: Normaliser | None
    ordered: bool

    def __str__(self) -> str:
        """Tells what was found, line by line."""
        others = f"; also there, and left: {', '.join(self.others)} (--key takes one of them)" if self.others else ""
        left_out = f"left out, as they see no images: {self.left_out} tensors\n" * (self.left_out > 0)
        return (
            f"weights: {len(self.weights)} tensors, {self.key or 'the file itself'}{others}\n{left_out}"
            f"prefixes taken off: {', '.join(self.prefixes) or 'none'}\n"
            f"normaliser in the file: {self.normaliser or 'none'}"
        )

    def in_order_of(self, original: nn.Module) -> "Foreign":
        """Puts the weights into the order in which the original module registers them, where it names them all."""
        names = [name for name in bare_names(original.state_dict()).values() if name in self.weights]
        if len(names) < len(self.weights):
            return self
        return replace(self, weights={name: self.weights[name] for name in names}, ordered=True)


def read_checkpoint(file: Path, *, key: str = "", without: Sequence[str] = ()) -> Foreign:
    """Reads a checkpoint without running anything that it brings.

    Args:
        file: a .safetensors file, or whatever torch.save wrote.
        key: which of the file's state dicts, its keys joined by dots; empty to choose by rule.
        without: beginnings of names to leave out, for parts that the network never uses.

    Raises:
        CheckpointError: when the file can't be read, needs code, or does not hold the weights of one network.
    """
    candidates = _state_dicts(_load(file), file)
    chosen = _choose(candidates, key, file)
    raw = _only_tensors(candidates[chosen], without, file)
    bare, weights, whence = bare_names(raw), {}, {}
    for name, short in bare.items():
        if short in weights and not _equal(weights[short], raw[name]):
            raise CheckpointError(
                f"{file} holds two different networks ({whence[short]} is not {name}); leave one of them out "
                f"with --without {name.removesuffix(short).rstrip('.')}"
            )
        weights.setdefault(short, raw[name])
        whence.setdefault(short, name)
    if not weights:
        raise CheckpointError(f"{file} holds nothing but a normaliser; choose other weights with --key")
    return Foreign(
        key=chosen,
        others=tuple(other or "the file itself" for other in candidates if other != chosen),
        prefixes=tuple(dict.fromkeys(name.removesuffix(short) for name, short in bare.items() if name != short)),
        left_out=len(raw) - len(bare) - len({name for pair in normaliser_names(raw).items() for name in pair}),
        weights=weights,
        normaliser=_normaliser(raw, file),
        ordered=not _is_safetensors(file) and list(weights) != sorted(weights),
    )


def bare_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Takes wrappers, and what all names begin with, off each name.

    Leaves out what is no network for images: a normaliser's tensors, and the tower for texts beside one for images.
    """
    normalisers = {name for pair in normaliser_names(tensors).items() for name in pair}
    bare = of_images({name: _unwrapped(name) for name in tensors if name not in normalisers})
    parts = {name: short.split(".") for name, short in bare.items()}
    if not parts:
        return bare
    # What the first and the last in order share, all do.
    pairs = zip(min(parts.values()), max(parts.values()), strict=False)
    shared = len(list(takewhile(lambda words: words[0] == words[1], pairs)))
    lengths = [len(words) for words in parts.values()]
    # Something must be left of each, and a layer's name of one.
    taken = max(0, min(shared, min(lengths) - 1, max(lengths) - 2))
    return {name: ".".join(words[taken:]) for name, words in parts.items()}


def _is_safetensors(file: Path) -> bool:
    return file.suffix == ".safetensors"


def _load(file: Path) -> object:
    if not file.is_file():
        near = close_names(str(file), map(str, file.parent.glob("*"))) or "; check the path"
        raise CheckpointError(f"there is no file {file}{near}")
    try:
        return _read_safetensors(file) if _is_safetensors(file) else _read_pickled(file)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        if wanted:
            raise CheckpointError(
                f"{file} is refused, since it can't be unpickled without running code ({wanted[1]}); load it once in a "
                "sandbox with the library that wrote it, and save its state_dict alone as safetensors"
            ) from error
        unread = error
    except UNREADABLE as error:
        unread = error
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", str(unread))
    raise CheckpointError(
        f"{file} can't be read ({printable(reason[1] if reason else first_line(unread)):.200}); expected a whole file "
        "written by torch.save or safetensors, so fetch it again"
    ) from unread


def _read_safetensors(file: Path) -> object:
    check_safetensors(file)
    return load_file(file)


def _read_pickled(file: Path) -> object:
    with file.open("rb") as opened:
        is_archive = opened.read(4) == b"PK\3\4"
    (check_archive if is_archive else check_legacy)(file)
    with warnings.catch_warnings():
        # Of torch's, to whoever calls it.
        warnings.simplefilter("ignore")
        # An archive is mapped, so that nothing is unpacked.
        return torch.load(file, weights_only=True, map_location="cpu", mmap=is_archive)


def _state_dicts(content: object, file: Path) -> dict[str, Mapping]:
    """Finds dictionaries that hold a matrix or a kernel: those of a network, not an optimizer's or the file's own."""
    found: dict[str, Mapping] = {}
    left: list[tuple[tuple[str, ...], object]] = [((), content)]
    seen = 0
    while left:
        path, inside = left.pop()
        if len(path) > DEEPEST or not isinstance(inside, Mapping):
            continue
        # One may stand in many places, by many ways.
        seen += 1 + len(inside)
        if seen > MOST_SEEN:
            raise CheckpointError(f"{file} holds more than {MOST_SEEN:,} names; save the model's state_dict alone")
        if not all(isinstance(name, str) for name in inside):
            continue
        if any(isinstance(value, Tensor) and value.ndim > 1 for value in inside.values()):
            found[_checked(".".join(path), file)] = inside
        below = [(name, value) for name, value in inside.items() if isinstance(value, Mapping)]
        for name, value in reversed(below):
            if not any(word in name.lower() for word in NO_WEIGHTS):
                left.append(((*path, name), value))
    return found


def _checked(name: str, file: Path) -> str:
    """Gives a name that people can be shown."""
    if strange_name([name]) or name.count(".") > DEEPEST_NAME:
        raise CheckpointError(
            f"{file} must name its tensors so that they can be shown, in up to {DEEPEST_NAME} parts, got "
            f"{name!a:.60}; do not trust it"
        )
    return name


def _choose(candidates: Mapping[str, Mapping], key: str, file: Path) -> str:
    if not candidates:
        raise CheckpointError(f"{file} holds no state dict, expected names with tensors; save the model's state_dict")
    if key and key not in candidates:
        known = ", ".join(path or "the file itself (leave --key away)" for path in candidates)
        raise CheckpointError(f"{file} holds no weights under --key {key}; where it does: {known}")
    if key or len(candidates) == 1:
        return key or next(iter(candidates))
    ranks = {path: _rank(path) for path in candidates}
    best = [path for path, rank in ranks.items() if rank == min(ranks.values())]
    if len(best) > 1:
        raise CheckpointError(f"{file} holds weights under {', '.join(candidates)}; choose one with --key")
    return best[0]


def _rank(path: str) -> tuple[int, int]:
    """Ranks a place of weights: usual names first, then the file itself, then all others."""
    words = path.split(".")
    return (PREFERRED.index(words[-1]) if words[-1] in PREFERRED else len(PREFERRED), len(words))


def _only_tensors(found: Mapping, without: Sequence[str], file: Path) -> dict[str, Tensor]:
    if len(found) > MOST_TENSORS:
        raise CheckpointError(f"{file} holds {len(found):,} tensors, more than {MOST_TENSORS:,}; choose with --key")
    for name in found:
        _checked(name, file)
    for part in without:
        if not any(_begins(name, part) for name in found):
            near = close_names(part, islice(found, MOST_COMPARED))
            raise CheckpointError(f"--without {part} names nothing in {file}{near}")
    kept = {name: value for name, value in found.items() if not any(_begins(name, part) for part in without)}
    strange = [name for name, value in kept.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"{_some(strange)} in {file} is no tensor; leave out with --without what is idle")
    odd = [name for name, value in kept.items() if not _is_plain(value)]
    if odd:
        raise CheckpointError(f"{_some(odd)} in {file} is not stored as plain numbers; save a plain state_dict")
    taken, size = sum(value.numel() * value.element_size() for value in kept.values()), file.stat().st_size
    if taken > MOST_COPIES * size:
        raise CheckpointError(
            f"{file} holds tensors of {taken:,} bytes in {size:,}, as if all were copies; save a plain state_dict"
        )
    broken = [name for name, value in kept.items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"{_some(broken)} in {file} holds values that are not finite; fetch the file again")
    return {name: value.detach() for name, value in kept.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Tells whether a tensor is dense, on this machine, and no larger than what is stored of it."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _begins(name: str, part: str) -> bool:
    return any(f"{each}.".startswith(f"{part.rstrip('.')}.") for each in (name, _unwrapped(name)))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _unwrapped(name: str) -> str:
    words = name.split(".")
    start = next((place for place, word in enumerate(words[:-1]) if word not in WRAPPERS), len(words) - 1)
    return ".".join(words[start:])


def _normaliser(tensors: dict[str, Tensor], file: Path) -> Normaliser | None:
    names = normaliser_names(tensors)
    found = {normaliser_of(tensors[mean], tensors[std]) for mean, std in names.items()}
    if len(found) > 1:
        raise CheckpointError(f"{file} holds different normalisers ({_some(names)}); leave all but one --without")
    return next(iter(found), None)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
