"""Evidence: the perturbations of an evaluation and what its images are known by, as one file to publish."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from robust_hub.data import Fingerprints
from robust_hub.errors import CheckpointError, first_line
from robust_hub.evaluation.perturbations import STEPS, Perturbations
from robust_hub.files import check_safetensors, whole_file

# Of indices, predicted, scale and perturbation, which has 16 bits before format 3.
KINDS = [[(torch.int64, 1), (torch.int64, 1), (torch.float32, 1), (steps, 4)] for steps in (STEPS, torch.int16)]
# A file that tells none has the first.
FORMATS = ("1", "2", "3")
# What anyone downloads who verifies a model, and a repository of many models holds of each.
MOST_BYTES, MOST_BYTES_OF_NAMES = 25 * 10**6, 4096


@dataclass(frozen=True)
class Evidence:
    """What evidence.safetensors holds: perturbations, and what the tested images are known by.

    Attributes:
        perturbations: of every image that was fooled among those covered.
        images: what each tested image is known by; None in evidence of before, whose images are known by their order.
        covered: of so many of the tested images, the first ones.
    """

    perturbations: Perturbations
    images: Fingerprints | None
    covered: int

    @classmethod
    def of(cls, perturbations: Perturbations, images: Fingerprints, *, most: int) -> "Evidence":
        """Keeps the perturbations of the first tested images.

        Args:
            perturbations: of all of them.
            images: what each is known by.
            most: so many are covered, or all where there are no more; see `as_many_as_fit`.
        """
        covered = min(most, len(images))
        return cls(perturbations.rows(perturbations.indices < covered), images, covered)

    def save(self, file: Path) -> None:
        """Writes a safetensors file, whole or not at all."""
        tensors, told = self.perturbations.tensors(), {}
        if self.images is not None:
            told = {"format": FORMATS[-1], "covered": str(self.covered)}
            tensors |= {name: torch.from_numpy(each.view(np.int64)) for name, each in vars(self.images).items()}
        with whole_file(file) as unfinished:
            save_file({name: each.cpu().contiguous() for name, each in tensors.items()}, unfinished, metadata=told)

    @classmethod
    def load(cls, file: Path, tested: int) -> "Evidence":
        """Reads what `save` wrote.

        Args:
            file: of the evidence.
            tested: how many images the evaluation tested.

        Raises:
            CheckpointError: when the file is something else.
        """
        check_safetensors(file)
        names = [field.name for field in fields(Fingerprints)]
        try:
            with safe_open(file, "pt") as opened:
                told = opened.metadata() or {}
                if (kept := told.get("format", "1")) not in FORMATS:
                    raise CheckpointError(f"{file} has format {kept:.20}, of a newer robust_hub; update that")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            known = {name: tensors.pop(name) for name in names} if "format" in told else {}
            perturbations, covered = Perturbations(**tensors), int(told.get("covered", tested))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{file} holds no evidence ({first_line(error)}); evaluate again") from error
        kinds = [(tensor.dtype, tensor.ndim) for tensor in perturbations.tensors().values()]
        lengths = {len(tensor) for tensor in perturbations.tensors().values() if tensor.ndim}
        if (
            kinds not in KINDS
            or len(lengths) != 1
            or not perturbations.scale.isfinite().all()
            or any(each.dtype != torch.int64 or each.shape != (tested,) for each in known.values())
            or not 0 < covered <= tested
        ):
            raise CheckpointError(f"{file} holds no evidence (its tensors are others than ours); evaluate again")
        hashes = {name: each.numpy().view(np.uint64) for name, each in known.items()}
        return cls(perturbations, Fingerprints(**hashes) if known else None, covered)


def as_many_as_fit(perturbations: Perturbations, tested: int) -> int:
    """Counts how many of the tested images, the first ones, evidence of 25 MB covers, and of one image at least.

    Args:
        perturbations: of all of them that were fooled, in their order.
        tested: how many were.
    """
    row = sum(tensor[:1].nbytes for tensor in perturbations.tensors().values())
    hashes = tested * len(fields(Fingerprints)) * np.dtype(np.uint64).itemsize
    fit = max(0, MOST_BYTES - MOST_BYTES_OF_NAMES - hashes) // max(1, row)
    # The first image whose perturbation does not fit is the first one that is not covered.
    return tested if len(perturbations) <= fit else max(1, int(perturbations.indices[fit]))
