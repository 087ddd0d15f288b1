"""Finds a model by its name and brings its files here: from a folder, the catalogue, the Hub, or the cache of that."""

import hashlib
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from robust_hub import model_folder
from robust_hub.errors import CheckpointError, close_names, first_line, without_secrets
from robust_hub.files import whole_folder
from robust_hub.hub import timms_own
from robust_hub.model_folder import ModelFolder, files_of, read_config
from robust_hub.names import CONFIG, ENTRIES, HUB_ID, SOURCES, STUDENT, WEIGHTS

ORGANISATION = "robust-hub"
# A checkout has the published folders at hand.
MODEL_CARDS = Path(__file__).resolve().parents[2] / "model_cards"
# architecture.method_threat_data
CATALOGUE_NAME = re.compile(r"\w+\.[\w-]+_(linf|l2)[\w.-]+")
# Names of git's blobs and of large files.
HEX = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
# By which older repositories of timm's hold their weights.
PICKLE = "pytorch_model.bin"
# Nothing else is copied from a repository: no other kind of file, and no name that leads out of the folder.
FILE_OF_OURS = re.compile(rf"\w[\w-]*\.(json|md|png|safetensors)|LICENSE|{re.escape(ENTRIES.as_posix())}")


def resolve(name: str) -> str:
    """Writes a model's name with its source: that of the catalogue is a folder of this checkout, or on the Hub.

    Weights that timm knows by architecture and tag are those of the repository that timm fetches them from.

    Raises:
        CheckpointError: when it is none.
    """
    if name.startswith(SOURCES):
        return name
    if CATALOGUE_NAME.fullmatch(name):
        near = MODEL_CARDS / name
        return f"local-dir:{near}" if (near / CONFIG).is_file() else f"hf-hub:{ORGANISATION}/{name}"
    if timms_own.is_timms_own(name):
        return f"hf-hub:{timms_own.repository_of(name)}"
    _refuse_run(name)
    raise CheckpointError(
        "a model must be named hf-hub:ORG/NAME, local-dir:FOLDER, as in the catalogue, or as timm's weights "
        f"(resnet18.a1_in1k), got '{name}'{_meant(name)}"
    )


def _meant(name: str) -> str:
    """Ends the sentence about a name that is none with what was probably meant; empty where nobody can tell."""
    if Path(name).is_dir():
        return f"; for this folder say local-dir:{name}"
    if Path(name).is_file():
        return "; recipes/convert.py makes the folder of a model of a checkpoint"
    repository = re.sub(r"https?://(www\.)?(huggingface\.co|hf\.co)/", "", name).rstrip("/")
    if HUB_ID.fullmatch(repository) and not name.startswith("."):
        return f"; for the repository on the Hub say hf-hub:{repository}"
    return timms_own.meant(name)


def is_model_name(name: str) -> bool:
    """Tells whether a name is that of a model to start from, and not of an architecture."""
    return name.startswith(SOURCES) or bool(CATALOGUE_NAME.fullmatch(name)) or timms_own.is_timms_own(name)


def open_folder(name: str, files: Sequence[str] = (CONFIG, WEIGHTS)) -> ModelFolder:
    """Opens a model's folder: its name is resolved once, and what is fetched is of one commit.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, local-dir:FOLDER, a name of the catalogue, or of weights that
            timm knows.
        files: at least these are in the folder.

    Raises:
        CheckpointError: when there is no such model, it lacks one of the files, or its config.json can't be used.
    """
    place = resolve(name)
    source, _, where = place.partition(":")
    if source == "local-dir":
        path = _local(where, files)
        return ModelFolder(name, place, path, read_config(path))
    try:
        return _fetch_folder(name, where, files)
    except CheckpointError:
        commit = timms_own.commit_in_cache(where) if timms_own.is_timms_own(name) else ""
        if not commit or not set(files) <= {CONFIG, WEIGHTS}:
            raise
        # timm itself fetches the weights alone.
        weights, sha256 = fetch_file(where, WEIGHTS, commit)
        path = timms_own.folder_around(name, weights)
        return ModelFolder(name, f"{place}@{commit}", path, read_config(path), sha256)


def _fetch_folder(name: str, where: str, files: Sequence[str]) -> ModelFolder:
    """Fetches files of a repository, all of one commit."""
    repository, _, revision = where.partition("@")
    checksums = {}
    for file in (CONFIG, *(file for file in files if file != CONFIG)):
        fetched, checksums[file] = fetch_file(repository, file, revision)
        # The others are of the same commit, whatever is pushed meanwhile.
        revision = fetched.parent.name
    pinned = f"hf-hub:{repository}@{revision}"
    return ModelFolder(name, pinned, fetched.parent, read_config(fetched.parent), checksums.get(WEIGHTS, ""))


def download(name: str, to: Path) -> None:
    """Puts the files of a model's folder into a new one, whole or not at all; offline, those that the cache has.

    Args:
        name: see `open_folder`.
        to: the new folder.

    Raises:
        CheckpointError: when the folder is there already, or there is no such model.
    """
    if to.exists():
        raise CheckpointError(f"{to} is there already; choose another folder")
    folder = open_folder(name)
    if folder.place.startswith("local-dir:") or constants.is_offline_mode():
        names = files_of(folder.path)
    else:
        repository, _, commit = folder.place.removeprefix("hf-hub:").partition("@")
        with told_by_the_hub(f"the Hub did not give the files of {repository}"):
            names = HfApi().list_repo_files(repository, revision=commit)
    names = sorted({CONFIG, WEIGHTS, *filter(FILE_OF_OURS.fullmatch, names)})
    model_folder.check_weights(folder.path, folder.config)
    folder = open_folder(folder.place, names)
    with whole_folder(to) as beside:
        for file in names:
            (beside / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder.path / file, beside / file)


@contextmanager
def told_by_the_hub(failure: str, advice: str = "check name and network", **advice_by_status: str) -> Generator[None]:
    """Turns what goes wrong on the way to the Hub into one sentence, in which no token can stand.

    Args:
        failure: begins the sentence.
        advice: ends it.
        advice_by_status: another end for answers of one status, as in `status_401`.

    Raises:
        CheckpointError: when anything goes wrong.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # the client's own, those of its HTTP library, which quote headers, and the system's
        status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
        told = f"{failure} ({_why(error)}); {advice_by_status.get(f'status_{status}', advice)}"
        raise CheckpointError(without_secrets(told, get_token() or "")) from None


def _why(error: Exception) -> str:
    """Says in a few words why the Hub's client failed."""
    reasons = {
        LocalEntryNotFoundError: "it can't be reached, and the cache has none",
        OfflineModeIsEnabled: "it is not to be asked, and the cache has none",
        RepositoryNotFoundError: "there is no such repository, or it is private",
        RevisionNotFoundError: "there is no such revision",
        EntryNotFoundError: "there is no such file",
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), first_line(error))


def fetch_file(repository: str, file: str, revision: str) -> tuple[Path, str]:
    """Gives one file of a repository, from the cache where it can, and its sha256.

    The cache names a file by its checksum, which is compared: the client compares sizes only.
    """
    with told_by_the_hub(f"the Hub did not give {file} of {repository}"):
        try:
            place = Path(hf_hub_download(repository, file, revision=revision or None))
        except EntryNotFoundError as error:
            if file == WEIGHTS and not isinstance(error, LocalEntryNotFoundError):
                _refuse_pickle(repository, revision)
            raise
    blob = place.resolve()
    sha256, of_git = checksums(blob)
    if HEX.fullmatch(blob.name) and blob.name not in (sha256, of_git):
        blob.unlink()
        raise CheckpointError(f"{file} was damaged on its way from the Hub; what came is deleted, so try again")
    return place, sha256


def _refuse_pickle(repository: str, revision: str) -> None:
    """Says that the weights of a repository are a pickle, where they are."""
    if HfApi().file_exists(repository, PICKLE, revision=revision or None):
        raise CheckpointError(
            f"{repository} has its weights in {PICKLE} alone, a pickle, which is not read, and no {WEIGHTS}; download "
            "that file, and recipes/convert.py makes the folder of a model of it"
        ) from None


def checksums(file: Path) -> tuple[str, str]:
    """Computes the sha256 of a file and its name in git, by which the Hub knows large files and small ones."""
    sha256, of_git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as content:
        while part := content.read(2**20):
            sha256.update(part)
            of_git.update(part)
    return sha256.hexdigest(), of_git.hexdigest()


def _refuse_run(place: str) -> None:
    """Says where the model of a run is, where the folder is that of a run."""
    student = Path(place) / STUDENT
    if not (Path(place) / CONFIG).is_file() and (student / CONFIG).is_file():
        raise CheckpointError(f"{place} is the folder of a run and the model is in {student}; say local-dir:{student}")


def _local(place: str, files: Sequence[str]) -> Path:
    if not place.strip():
        raise CheckpointError("local-dir: must name the folder of a model, got nothing; write its path behind it")
    folder = Path(place).expanduser()
    _refuse_run(str(folder))
    if folder.is_file():
        whole = (folder.parent / CONFIG).is_file()
        advice = f"say local-dir:{folder.parent}" if whole else "recipes/convert.py makes one of a checkpoint"
        raise CheckpointError(f"local-dir: must name the folder of a model, got the file {place}; {advice}")
    for file in files:
        if not (folder / file).is_file() and file not in (CONFIG, WEIGHTS) and (folder / CONFIG).is_file():
            raise CheckpointError(f"{place} has no {file}; recipes/evaluate.py --update-card writes what is measured")
        if not (folder / file).is_file():
            folders = [str(path.parent) for path in folder.parent.glob(f"*/{CONFIG}")]
            near = close_names(str(folder), folders) or "; check the path"
            raise CheckpointError(f"there is no model folder at {place} (no {file} in it){near}")
    return folder
