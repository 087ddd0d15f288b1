"""The catalogue: published models, found by what they are and what they withstand."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import timm
from huggingface_hub import HfApi, constants, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from robust_hub.cards import KEY, TAG, short_name
from robust_hub.claims import Claim
from robust_hub.folders import CLAIM, REPLACED
from robust_hub.messages import CheckpointError, first_line
from robust_hub.records import UNFINISHED
from robust_hub.safety import CONFIG, read_config
from robust_hub.safety import KEY as CONFIG_KEY
from robust_hub.threats import Threat, parse_threat

SOURCES = ("hf-hub:", "local-dir:")
ORGANISATION = "robust-hub"
# A checkout has the published folders at hand.
MODEL_CARDS = Path(__file__).resolve().parents[1] / "model_cards"


@dataclass(frozen=True)
class Listed:
    """A model of a list.

    Attributes:
        place: hf-hub:ORG/NAME or local-dir:FOLDER.
        claim: what its publisher says of it; `robust_hub verify` confirms it.
    """

    place: str
    claim: Claim


def list_models(
    *,
    data: str = "",
    threat: str = "",
    method: str = "",
    architecture: str = "",
    min_robust: float = 0.0,
    max_parameters: int = 0,
    folder: Path | None = None,
) -> list[Listed]:
    """Lists models, those that withstand most first; those of the cache where the Hub is not to be asked.

    Args:
        data: the data set; any where empty, as below.
        threat: linf, l2, or with a radius, as in linf:8/255.
        method: its short name, as in igam.
        architecture: timm's name, or a pattern such as resnet*.
        min_robust: least robust accuracy, a fraction.
        max_parameters: most weights; 0 for any number.
        folder: lists the model folders in it, and asks nobody.

    Raises:
        CheckpointError: when the Hub does not answer.
        ValueError: when the threat is none.
    """
    if not 0 <= min_robust <= 1:
        raise ValueError(f"the least robust accuracy is a fraction in [0, 1], got {min_robust}; 40 % is 0.4")
    if threat:
        parse_threat(threat if ":" in threat else f"{threat}:0.1")
    if folder is not None:
        listed = _of_folders(sorted(folder.glob("*/")))
    elif constants.is_offline_mode():
        listed = _of_cache()
    else:
        listed = _of_hub()
    found = [
        model
        for model in listed
        if data.lower() in ("", model.claim.data.lower())
        and _withstands(model.claim, threat)
        and method.lower() in ("", short_name(model.claim.method))
        and fnmatch(model.claim.architecture, architecture or "*")
        and model.claim.robust_accuracy.value >= min_robust
        and (not max_parameters or model.claim.parameters <= max_parameters)
    ]
    return sorted(found, key=lambda model: (model.claim.data, model.claim.threat, -model.claim.robust_accuracy.value))


def resolve(name: str) -> str:
    """Writes a checkpoint's name with its source: that of the catalogue is a folder of this checkout, or on the Hub.

    Raises:
        CheckpointError: when it is none.
    """
    if name.startswith(SOURCES):
        return name
    if "." in name and "/" not in name and timm.is_model(name):
        near = MODEL_CARDS / name
        return f"local-dir:{near}" if (near / CONFIG).is_file() else f"hf-hub:{ORGANISATION}/{name}"
    hint = f"; for this folder say local-dir:{name}" if Path(name).is_dir() else ""
    raise CheckpointError(
        f"a checkpoint must be named hf-hub:ORG/NAME, local-dir:FOLDER or as in the catalogue, got '{name}'{hint}"
    )


def why(error: Exception) -> str:
    """Says in a few words why the Hub's client failed."""
    reasons = {
        LocalEntryNotFoundError: "it can't be reached, and the cache has none",
        OfflineModeIsEnabled: "it is not to be asked, and the cache has none",
        RepositoryNotFoundError: "there is no such repository, or it is private",
        RevisionNotFoundError: "there is no such revision",
        EntryNotFoundError: "there is no such file",
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), first_line(error))


def _of_hub() -> Iterator[Listed]:
    try:
        models = list(HfApi().list_models(filter=TAG, cardData=True))
    except Exception as error:  # the client's own, those of its HTTP library and those of the system
        raise CheckpointError(f"the Hub does not tell its models ({why(error)}); check the network") from error
    for model in models:
        told = model.card_data.to_dict() if model.card_data else {}
        yield from _listed(f"hf-hub:{model.id}", told.get(KEY))


def _of_cache() -> Iterator[Listed]:
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repository in repositories:
        for revision in repository.revisions:
            place = f"hf-hub:{repository.repo_id}@{revision.commit_hash}"
            for listed in _of_folders([revision.snapshot_path]):
                yield Listed(place, listed.claim)


def _of_folders(folders: Iterable[Path]) -> Iterator[Listed]:
    for folder in folders:
        if (folder / CONFIG).is_file() and folder.suffix not in (UNFINISHED, REPLACED):
            try:
                told = read_config(folder).get(CONFIG_KEY, {})
            except CheckpointError:
                continue
            yield from _listed(f"local-dir:{folder}", told.get(CLAIM))


def _listed(place: str, told: object) -> Iterator[Listed]:
    """Gives a model; none where it claims nothing, or what is not a claim of ours: a stranger can't break a list."""
    try:
        claim = Claim.read(told, place)
        parse_threat(claim.threat)
    except ValueError:
        return
    yield Listed(place, claim)


def _withstands(claim: Claim, wanted: str) -> bool:
    known: Threat = parse_threat(claim.threat)
    if ":" not in wanted:
        return wanted in ("", known.name)
    return parse_threat(wanted) == known
