"""An opened model folder: what loading, lineage, provenance and lists read of a model is read here, once."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robust_hub.errors import CheckpointError
from robust_hub.model_folder.config import read_config
from robust_hub.model_folder.info import ModelInfo
from robust_hub.model_folder.provenance import Lineage, Provenance
from robust_hub.names import CONFIG, CONFIG_KEY, INFO_KEY, WEIGHTS, public


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder on this machine, with its config.json read.

    Attributes:
        name: as its user named it.
        place: hf-hub:ORG/NAME@COMMIT or local-dir:FOLDER; on the Hub it names these very weights for ever.
        path: of the folder; files that nobody asked for may be absent.
        config: what config.json holds, checked.
        known_sha256: of the weights file, where fetching it has computed that.
    """

    name: str
    place: str
    path: Path
    config: dict
    known_sha256: str = ""

    @classmethod
    def at(cls, path: Path) -> "ModelFolder":
        """Opens a folder by its path.

        Raises:
            CheckpointError: when its config.json is missing or can't be used.
        """
        return cls(f"local-dir:{path}", f"local-dir:{path}", path, read_config(path))

    @property
    def public_place(self) -> str:
        """The place as a card tells it."""
        return public(self.place)

    @property
    def described(self) -> str:
        """The place with what its weights are, in a few words."""
        return f"{self.public_place}, weights of sha256 {self.sha256[:12]}"

    @cached_property
    def sha256(self) -> str:
        """The checksum of the weights file."""
        return self.known_sha256 or hashlib.sha256((self.path / WEIGHTS).read_bytes()).hexdigest()

    @cached_property
    def provenance(self) -> Provenance | None:
        """Where the model comes from; None where robust_hub did not write the folder.

        Raises:
            CheckpointError: when what it tells can't be read.
        """
        if CONFIG_KEY not in self.config:
            return None
        file = self.path / CONFIG
        provenance = Provenance.read(self.config[CONFIG_KEY], str(file))
        if provenance.architecture != self.config["architecture"]:
            raise CheckpointError(f"{file} tells two architectures, {provenance.architecture!r:.80} in {CONFIG_KEY}")
        return provenance

    @cached_property
    def info(self) -> ModelInfo | None:
        """What the model claims to withstand; None where it claims nothing."""
        told = self.config.get(CONFIG_KEY, {}).get(INFO_KEY)
        return None if told is None else ModelInfo.read(told, str(self.path / CONFIG))

    def lineage(self) -> Lineage:
        """Collects what the card of a student tells of this model."""
        provenance, info = self.provenance, self.info
        license = provenance.license if provenance else self.config.get("pretrained_cfg", {}).get("license")
        return Lineage(
            name=self.public_place,
            sha256=self.sha256,
            license=license if isinstance(license, str) else "",
            protocol=f"{info.protocol}, {info.threat}" if info else "",
            clean_accuracy=info.clean_accuracy if info else None,
            robust_accuracy=info.robust_accuracy if info else None,
            seconds=provenance.seconds_with_teacher if provenance else None,
        )


def require_provenance(path: Path) -> Provenance:
    """Reads where the model of a folder comes from.

    Raises:
        CheckpointError: when robust_hub did not write the folder, or what it tells can't be read.
    """
    provenance = ModelFolder.at(path).provenance
    if provenance is None:
        raise CheckpointError(f"{path} was not written by robust_hub and has no card; see recipes/convert.py")
    return provenance


def files_of(path: Path) -> list[str]:
    """Lists the files of a model folder, as the Hub names them."""
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
