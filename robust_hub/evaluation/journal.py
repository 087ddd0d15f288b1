"""The journal of an evaluation: what is finished lies on disk, so that a killed run goes on where it was."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from robust_hub.files import whole_file


@dataclass(frozen=True)
class Journal:
    """One file for each batch and stage of an evaluation, whole or absent. Processes share the folder.

    Attributes:
        folder: where the files are.
    """

    folder: Path

    def read(self, first: int, stage: str) -> dict[str, Tensor] | None:
        """Reads what a stage made of the batch that begins with image `first`; None when it has not finished."""
        file = self._file(first, stage)
        return load_file(file) if file.is_file() else None

    def write(self, first: int, stage: str, tensors: dict[str, Tensor]) -> None:
        """Writes what a stage made of a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self._file(first, stage)) as unfinished:
            unfinished.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))

    def collect(self, stage: str) -> dict[str, Tensor]:
        """Joins what a stage made of all batches, row by row; empty where there is none."""
        batches = [load_file(file) for file in sorted(self.folder.glob(f"*.{stage}.safetensors"))]
        return {name: torch.cat([batch[name] for batch in batches]) for name in (batches[0] if batches else {})}

    def _file(self, first: int, stage: str) -> Path:
        return self.folder / f"{first:08d}.{stage}.safetensors"
