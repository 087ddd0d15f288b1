"""Checkpoints by name: on the Hub, in a folder, in the catalogue; fetched, pinned, checked and loaded."""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import timm
from huggingface_hub import HfApi, constants, hf_hub_download
from timm.models import is_model_pretrained

from robust_hub.architectures import create_classifier
from robust_hub.catalogue import MODEL_CARDS, SOURCES, resolve, why
from robust_hub.catalogue import list_models as list_models
from robust_hub.claims import Claim
from robust_hub.classifiers import PixelClassifier
from robust_hub.facts import Facts, Lineage
from robust_hub.folders import CLAIM, ENTRIES, files_of, put_in_place
from robust_hub.folders import read_facts as read_folder_facts
from robust_hub.messages import CheckpointError, close_names, first_line, public
from robust_hub.safety import CONFIG, KEY, WEIGHTS, Bounded, check_weights, read_config

# Names of git's blobs and of large files.
HEX = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
# Nothing else is copied from a repository: no other kind of file, and no name that leads out of the folder.
FILE_OF_OURS = re.compile(rf"\w[\w-]*\.(json|md|png|safetensors)|LICENSE|{re.escape(ENTRIES.as_posix())}")


def load(name: str, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a checkpoint; nothing in it is executed or unpickled, and it comes from the cache where it can.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, local-dir:FOLDER, a name of the catalogue
            (architecture.method_threat_data), or of weights that timm knows, which timm itself fetches and reads.
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        CheckpointError: when there is no such checkpoint, or it can't be loaded.
    """
    if is_model_pretrained(name):
        return _create(name, name, {}, num_classes)
    folder = fetch(name)
    config = read_config(folder)
    check_weights(folder, config)
    with Bounded(folder):
        return _create(name, f"local-dir:{folder}", config, num_classes)


def _create(name: str, place: str, config: dict, num_classes: int | None) -> PixelClassifier:
    fresh_head = {} if num_classes is None else {"num_classes": num_classes}
    # timm writes the number of classes there itself, and a new head may have changed it.
    model_args = {key: value for key, value in config.get("model_args", {}).items() if key != "num_classes"}
    try:
        return PixelClassifier(timm.create_model(place, pretrained=True, **fresh_head), model_args)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a foreign checkpoint raises, the user needs the one sentence
        raise CheckpointError(
            f"{name} can't be loaded ({first_line(error)}); check its config.json and model.safetensors, or its name"
        ) from error


def load_with_new_head(name: str, num_classes: int) -> PixelClassifier:
    """Loads a checkpoint and puts an untrained head for that many classes in place of its own; see `load`."""
    classifier = load(name)
    classifier.model.reset_classifier(num_classes)
    classifier.model.pretrained_cfg["label_names"] = None
    return classifier


def knows_label_names(classifier: PixelClassifier, label_names: list[str]) -> bool:
    """Tells whether a checkpoint knows the classes of the data, in the same order, as far as it tells."""
    known = classifier.label_names or label_names
    return classifier.num_classes == len(label_names) and known == label_names


def check_label_names(classifier: PixelClassifier, label_names: list[str]) -> None:
    """Checks that a checkpoint knows the classes of the data.

    Raises:
        ValueError: when it does not.
    """
    if not knows_label_names(classifier, label_names):
        known = classifier.label_names or label_names
        raise ValueError(
            f"the checkpoint knows {classifier.num_classes} classes ({', '.join(known[:3])}, ...) and the data has "
            f"{len(label_names)} ({', '.join(label_names[:3])}, ...); choose a checkpoint of this data set"
        )


def open_student(
    name: str, model_args: dict, *, num_classes: int, image_shape: tuple[int, int, int]
) -> PixelClassifier:
    """Loads a checkpoint to train on, or creates an untrained architecture; see `load` and `create_classifier`."""
    if is_checkpoint(name):
        if model_args:
            raise ValueError(f"{name} is a checkpoint and brings its own arguments; leave --student-args away")
        return load(name, num_classes=num_classes)
    return create_classifier(name, model_args, num_classes=num_classes, image_shape=image_shape)


def is_checkpoint(name: str) -> bool:
    """Tells whether a student is named by a checkpoint to start from, and not by an architecture."""
    return name.startswith(SOURCES) or (MODEL_CARDS / name / CONFIG).is_file()


def fetch(name: str, files: Sequence[str] = (CONFIG, WEIGHTS)) -> Path:
    """Gives a folder with files of a checkpoint, from the cache where it can.

    Args:
        name: see `load`; weights that timm knows have no folder.
        files: at least these are in the folder.

    Raises:
        CheckpointError: when there is no such checkpoint, or it lacks one of them.
    """
    source, _, place = resolve(name).partition(":")
    if source == "local-dir":
        return _local(place, files)
    repository, _, revision = place.partition("@")
    folder = fetch_file(repository, files[0], revision).parent
    for file in files[1:]:
        # Of the same commit, whatever is pushed meanwhile.
        fetch_file(repository, file, folder.name)
    return folder


def download(name: str, to: Path) -> None:
    """Puts the files of a checkpoint's folder into a new one, whole or not at all; offline, those that the cache has.

    Args:
        name: see `load`.
        to: the new folder.

    Raises:
        CheckpointError: when the folder is there already, or there is no such checkpoint.
    """
    if to.exists():
        raise CheckpointError(f"{to} is there already; choose another folder")
    source, _, place = resolve(pin(name)).partition(":")
    if source == "local-dir":
        names = [file for file in files_of(fetch(name)) if FILE_OF_OURS.fullmatch(file)]
    else:
        repository, _, revision = place.partition("@")
        names = [file for file in _names(repository, revision) if FILE_OF_OURS.fullmatch(file)]
    files = sorted({CONFIG, WEIGHTS, *names})
    folder = fetch(f"{source}:{place}", files)
    check_weights(folder, read_config(folder))
    with put_in_place(to) as beside:
        for file in files:
            (beside / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / file, beside / file)


def _names(repository: str, revision: str) -> list[str]:
    """Lists a repository's files; those of the cache where the Hub can't be asked."""
    if constants.is_offline_mode():
        return files_of(fetch_file(repository, CONFIG, revision).parent)
    with _told_by_the_hub(f"the files of {repository}"):
        return HfApi().list_repo_files(repository, revision=revision)


def fetch_file(repository: str, file: str, revision: str = "") -> Path:
    """Gives one file of a repository on the Hub, from the cache where it can.

    Raises:
        CheckpointError: when the Hub does not give it.
    """
    with _told_by_the_hub(f"{file} of {repository}"):
        place = Path(hf_hub_download(repository, file, revision=revision or None))
    _check_blob(place)
    return place


@contextmanager
def _told_by_the_hub(wanted: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client's own, those of its HTTP library and those of the system
        raise CheckpointError(f"the Hub did not give {wanted} ({why(error)}); check name and network") from error


def _check_blob(file: Path) -> None:
    """Compares a file of the cache with the checksum it is named by there; the client compares sizes only."""
    blob = file.resolve()
    if not HEX.fullmatch(blob.name):
        return
    checksum = hashlib.sha256()
    if len(blob.name) == 40:
        checksum = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    with blob.open("rb") as content:
        while part := content.read(2**20):
            checksum.update(part)
    if checksum.hexdigest() != blob.name:
        blob.unlink()
        raise CheckpointError(f"{file.name} was damaged on its way from the Hub; what came is deleted, so try again")


def pin(name: str) -> str:
    """Writes a checkpoint's name with the commit that is at hand, so that it names these very weights for ever."""
    if is_model_pretrained(name):
        return name
    place = resolve(name)
    return f"{place.partition('@')[0]}@{fetch(place, [CONFIG]).name}" if place.startswith("hf-hub:") else name


def read_facts(name: str) -> Facts | None:
    """Reads what a checkpoint tells of itself; None where robust_hub did not write it."""
    return None if is_model_pretrained(name) else read_folder_facts(fetch(name, [CONFIG]))


def read_claim(name: str) -> Claim | None:
    """Reads what a checkpoint claims to withstand; None where it claims nothing."""
    return _claim_in(fetch(name, [CONFIG]))


def lineage(name: str) -> Lineage:
    """Collects what a student's card tells of the checkpoint that taught it."""
    name = pin(name)
    folder = fetch(name)
    facts, claim = read_folder_facts(folder), _claim_in(folder)
    license = facts.license if facts else read_config(folder).get("pretrained_cfg", {}).get("license")
    return Lineage(
        name=public(name),
        sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        license=license if isinstance(license, str) else "",
        protocol=f"{claim.protocol}, {claim.threat}" if claim else "",
        clean_accuracy=claim.clean_accuracy if claim else None,
        robust_accuracy=claim.robust_accuracy if claim else None,
        seconds=facts.seconds_with_teacher if facts else None,
    )


def _claim_in(folder: Path) -> Claim | None:
    told = read_config(folder).get(KEY, {}).get(CLAIM)
    return None if told is None else Claim.read(told, str(folder / CONFIG))


def _local(place: str, files: Sequence[str]) -> Path:
    folder = Path(place).expanduser()
    for file in files:
        if not (folder / file).is_file() and file not in (CONFIG, WEIGHTS) and (folder / CONFIG).is_file():
            raise CheckpointError(f"{place} has no {file}; recipes/evaluate.py --update-card writes what is measured")
        if not (folder / file).is_file():
            folders = [str(path.parent) for path in folder.parent.glob(f"*/{CONFIG}")]
            near = close_names(str(folder), folders) or "; check the path"
            raise CheckpointError(f"there is no model folder at {place} (no {file} in it){near}")
    return folder
