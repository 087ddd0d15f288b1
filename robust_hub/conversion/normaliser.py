"""The mean and the standard deviation of each channel, where a checkpoint holds them, or its user states them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

NORMALISERS = {"new_mean": "new_std", "mean": "std", "_mean": "_std", "mu": "sigma"}
MOST_CHANNELS = 4


@dataclass(frozen=True)
class Normaliser:
    """The mean and the standard deviation of each channel, in pixel units of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"--mean and --std must have a value for each channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(0 <= value <= 1 for value in self.mean) or not all(0 < value <= 1 for value in self.std):
            raise ValueError(
                f"mean must be in [0, 1] and std in (0, 1], got {self.mean} and {self.std}; "
                "divide by 255 what is meant for pixels up to 255"
            )


def normaliser_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Finds means and standard deviations of channels; gives the name of each mean with that of its partner."""
    found = {}
    for name in tensors:
        parent, dot, leaf = name.rpartition(".")
        partner = f"{parent}{dot}{NORMALISERS.get(leaf)}"
        if partner in tensors and _per_channel(tensors[name]) and _per_channel(tensors[partner]):
            found[name] = partner
    return found


def normaliser_of(mean: Tensor, std: Tensor) -> Normaliser:
    """Makes a normaliser of the tensors of a checkpoint."""
    return Normaliser(_shortest(mean), _shortest(std))


def _per_channel(tensor: Tensor) -> bool:
    return tensor.ndim in (1, 3, 4) and tensor.numel() == max(tensor.shape) <= MOST_CHANNELS


def _shortest(tensor: Tensor) -> tuple[float, ...]:
    """Gives the shortest decimal numbers that are these values in float32."""
    return tuple(float(str(value)) for value in tensor.float().flatten().numpy())
