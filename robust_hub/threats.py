"""Threat models: what an attacker may do to an image. All the geometry of the attacks is here, and nothing else."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from robust_hub.types import Images, PerExample


def __getattr__(name: str) -> object:
    """Gives the types of tensors to whoever asks for them at run time: lists of models need a threat, and no torch."""
    if name not in ("Images", "PerExample"):
        raise AttributeError(f"{__name__} has no {name}")
    from robust_hub import types

    return getattr(types, name)


@dataclass(frozen=True)
class Threat(ABC):
    """A ball of perturbations of radius eps, in pixel units, around an image."""

    name: ClassVar[str]
    eps: float

    @abstractmethod
    def project(self, delta: "Images") -> "Images":
        """Moves each perturbation to the nearest point of the ball."""

    @abstractmethod
    def sample(self, like: "Images") -> "Images":
        """Draws perturbations uniformly from the ball, shaped like the argument."""

    @abstractmethod
    def steepest_ascent(self, grad: "Images") -> "Images":
        """Gives the direction of unit norm along which a loss with this gradient grows fastest."""

    @abstractmethod
    def norm(self, delta: "Images") -> "PerExample":
        """Measures each perturbation, in pixel units."""

    def __str__(self) -> str:
        """Writes the threat as `parse_threat` reads it, for example linf:8/255."""
        return f"{self.name}:{_levels(self.eps) if self.name == 'linf' else _decimal(self.eps)}"


def _check_radius(eps: float) -> None:
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a finite number of at least 0, got {eps}; give it in pixel units, as 8 / 255")


@dataclass(frozen=True)
class Linf(Threat):
    """Every pixel value may change by at most eps."""

    name: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        _check_radius(self.eps)

    def project(self, delta: "Images") -> "Images":
        """See `Threat.project`."""
        return delta.clamp(-self.eps, self.eps)

    def sample(self, like: "Images") -> "Images":
        """See `Threat.sample`."""
        import torch

        return torch.empty_like(like).uniform_(-self.eps, self.eps)

    def steepest_ascent(self, grad: "Images") -> "Images":
        """See `Threat.steepest_ascent`."""
        return grad.sign()

    def norm(self, delta: "Images") -> "PerExample":
        """See `Threat.norm`."""
        return delta.abs().flatten(1).amax(1)


@dataclass(frozen=True)
class L2(Threat):
    """The Euclidean length of the change of the whole image is at most eps."""

    name: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        _check_radius(self.eps)

    def project(self, delta: "Images") -> "Images":
        """See `Threat.project`."""
        return delta * (self.eps / _column(self.norm(delta)).clamp_min(1e-12)).clamp_max(1)

    def sample(self, like: "Images") -> "Images":
        """See `Threat.sample`."""
        import torch

        dimensions = math.prod(like.shape[1:])
        radius = self.eps * torch.rand_like(like[:, :1, :1, :1]) ** (1 / dimensions)
        return radius * self.steepest_ascent(torch.randn_like(like))

    def steepest_ascent(self, grad: "Images") -> "Images":
        """See `Threat.steepest_ascent`."""
        import torch

        # Scaled first: squares of small gradients underflow in float32, and the step would shrink with them.
        largest = _column(grad.abs().flatten(1).amax(1))
        scaled = grad / torch.where(largest > 0, largest, 1)
        return scaled / _column(self.norm(scaled)).clamp_min(1)

    def norm(self, delta: "Images") -> "PerExample":
        """See `Threat.norm`."""
        return delta.flatten(1).norm(dim=1)


def _column(per_example: "PerExample") -> "Images":
    return per_example[:, None, None, None]


def _levels(eps: float) -> str:
    """Writes eps as a multiple of 1/255 where it is one, else as the decimal number that reads back to it."""
    levels = round(eps * 255)
    return f"{levels}/255" if levels and levels / 255 == eps else _decimal(eps)


def _decimal(eps: float) -> str:
    return repr(eps).removesuffix(".0")


def parse_threat(text: str) -> Linf | L2:
    """Reads a threat model from the command line, for example linf:8/255 or l2:0.5.

    Raises:
        ValueError: when the norm is unknown, or eps is no number, outside (0, 1) for linf, or not positive for l2.
    """
    threats: dict[str, type[Linf | L2]] = {"linf": Linf, "l2": L2}
    name, _, radius = text.partition(":")
    if name not in threats:
        raise ValueError(f"threat must be linf:EPS or l2:EPS, got '{text}'; for example linf:8/255")
    numerator, _, denominator = radius.partition("/")
    try:
        eps = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"eps must be a number or a fraction, got '{radius}' in '{text}'; for example 8/255") from None
    if not 0 < eps < (1 if name == "linf" else math.inf):
        bounds = "in (0, 1)" if name == "linf" else "positive"
        raise ValueError(f"eps must be {bounds}, got {radius}; pixels are in [0, 1], so 8 of 255 levels is 8/255")
    return threats[name](eps)
