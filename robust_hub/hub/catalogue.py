"""The catalogue: published models, found by what they are and what they withstand."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from robust_hub.errors import first_line, shortened
from robust_hub.files import REPLACED, UNFINISHED
from robust_hub.hub.fetching import told_by_the_hub
from robust_hub.model_folder import ModelFolder, ModelInfo, short_name
from robust_hub.names import CONFIG, TAG
from robust_hub.threats import parse_threat

# What reading a folder may raise, whatever a stranger put into it.
UNREADABLE = (ValueError, OSError, RecursionError)
# Of the sentence that tells why a folder is left out.
LONGEST_REASON = 300


def list_models(
    *,
    data: str = "",
    threat: str = "",
    method: str = "",
    architecture: str = "",
    min_robust: float = 0.0,
    max_parameters: int = 0,
    folder: Path | None = None,
) -> dict[str, ModelInfo]:
    """Lists models, those that withstand most first; those of the cache where the Hub is not to be asked.

    Args:
        data: the data set; any where empty, as below.
        threat: linf, l2, or with a radius, as in linf:8/255.
        method: its short name, as in igam.
        architecture: timm's name, or a pattern such as resnet*.
        min_robust: least robust accuracy, a fraction.
        max_parameters: most weights; 0 for any number.
        folder: lists the model folders in it, and asks nobody.

    Returns:
        What each claims, by its name (hf-hub:ORG/NAME or local-dir:FOLDER); `robust_hub verify NAME` checks it.

    Raises:
        CheckpointError: when the Hub does not answer.
        ValueError: when the threat is none.
    """
    if not 0 <= min_robust <= 1:
        raise ValueError(f"the least robust accuracy is a fraction in [0, 1], got {min_robust}; 40 % is 0.4")
    if threat:
        parse_threat(threat if ":" in threat else f"{threat}:0.1")
    if folder is not None:
        listed = _of_folders(_model_folders(folder))
    elif constants.is_offline_mode():
        listed = _of_cache()
    else:
        listed = _of_hub()
    found = {
        place: info
        for place, info in listed
        if data.lower() in ("", info.data.lower())
        and _withstands(info, threat)
        and method.lower() in ("", short_name(info.method))
        and fnmatch(info.architecture, architecture or "*")
        and info.robust_accuracy.value >= min_robust
        and (not max_parameters or info.parameters <= max_parameters)
    }
    order = sorted(
        found, key=lambda place: (found[place].data, found[place].threat, -found[place].robust_accuracy.value)
    )
    return {place: found[place] for place in order}


def left_out(folder: Path) -> dict[str, str]:
    """Tells which model folders in a folder `list_models` leaves out, and why, in a few words by their names."""
    reasons = {}
    for place in _model_folders(folder):
        try:
            if _claim(place) is None:
                reasons[place.name] = "nobody has evaluated it yet"
        except RecursionError:
            reasons[place.name] = f"{CONFIG} is nested too deep"
        except (ValueError, OSError) as error:
            # A page that is published tells no folders of this machine.
            reasons[place.name] = shortened(first_line(error).replace(f"{place}{os.sep}", ""), LONGEST_REASON)
    return reasons


def _of_hub() -> Iterator[tuple[str, ModelInfo]]:
    with told_by_the_hub("the Hub does not tell its models", "check the network"):
        models = list(HfApi().list_models(filter=TAG, cardData=True))
    for model in models:
        told = model.card_data.to_dict() if model.card_data else {}
        yield from _listed(f"hf-hub:{model.id}", told.get(TAG))


def _of_cache() -> Iterator[tuple[str, ModelInfo]]:
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repository in repositories:
        for revision in repository.revisions:
            for _, info in _of_folders([revision.snapshot_path]):
                yield f"hf-hub:{repository.repo_id}@{revision.commit_hash}", info


def _of_folders(folders: Iterable[Path]) -> Iterator[tuple[str, ModelInfo]]:
    for folder in folders:
        # A stranger can't break a list; `left_out` tells what is wrong.
        with suppress(*UNREADABLE):
            info = _claim(folder)
            if info is not None:
                yield f"local-dir:{folder}", info


def _model_folders(folder: Path) -> list[Path]:
    """Lists the folders in a folder that have a config.json and are in place."""
    places = sorted(folder.glob("*/"))
    return [place for place in places if place.suffix not in (UNFINISHED, REPLACED) and _has_config(place)]


def _has_config(folder: Path) -> bool:
    try:
        return (folder / CONFIG).is_file()
    except OSError:
        # It may be there: whoever reads it learns why that can't be.
        return True


def _claim(folder: Path) -> ModelInfo | None:
    """Reads what a folder claims; None where it claims nothing.

    Raises:
        ValueError: when it is nothing of our form.
    """
    info = ModelFolder.at(folder).info
    if info is not None:
        parse_threat(info.threat)
    return info


def _listed(place: str, told: object) -> Iterator[tuple[str, ModelInfo]]:
    """Gives a model of the Hub; none where it claims nothing, or nothing of our form: a stranger can't break a list."""
    with suppress(ValueError):
        info = ModelInfo.read(told, place)
        parse_threat(info.threat)
        yield place, info


def _withstands(info: ModelInfo, wanted: str) -> bool:
    known = parse_threat(info.threat)
    if ":" not in wanted:
        return wanted in ("", known.name)
    return parse_threat(wanted) == known
