"""Model folders: saved whole or not at all, checked by loading them with timm, and loaded again."""

import hashlib
import json
import shutil
from copy import deepcopy
from pathlib import Path

import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from timm.models import save_for_hf

from robust_hub.architectures import create_classifier
from robust_hub.cards import Facts, write_card
from robust_hub.classifiers import PixelClassifier
from robust_hub.messages import close_names, first_line

SOURCES = ("hf-hub:", "local-dir:")


def load(name: str, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a checkpoint.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, local-dir:FOLDER, or the name of weights that timm knows.
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        ValueError: when there is no such checkpoint, or it can't be loaded.
    """
    config = _config(name)
    fresh_head = {} if num_classes is None else {"num_classes": num_classes}
    try:
        model = timm.create_model(name, pretrained=True, **fresh_head)
    except (RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise ValueError(
            f"{name} can't be loaded ({first_line(error)}); check its config.json and model.safetensors, or its name"
        ) from error
    # timm writes the number of classes there itself, and a new head may have changed it.
    model_args = {key: value for key, value in config.get("model_args", {}).items() if key != "num_classes"}
    return PixelClassifier(model, model_args)


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
    if name.startswith(SOURCES):
        if model_args:
            raise ValueError(f"{name} is a checkpoint and brings its own arguments; leave --student-args away")
        return load(name, num_classes=num_classes)
    return create_classifier(name, model_args, num_classes=num_classes, image_shape=image_shape)


def read_facts(name: str) -> dict:
    """Reads what a checkpoint's config.json tells of its robustness; empty where it tells nothing."""
    return _config(name).get("robustness", {})


def fingerprint(name: str) -> str:
    """Computes the sha256 of a checkpoint's weights."""
    return hashlib.sha256(_file(name, "model.safetensors").read_bytes()).hexdigest()


def save(
    folder: Path, classifier: PixelClassifier, facts: Facts, *, label_names: list[str], pictures: list[Path]
) -> None:
    """Writes a model folder beside its place, checks that timm loads it, and only then puts it in place.

    Args:
        folder: where it goes; a folder that is there already is replaced.
        classifier: what is saved; of a student, nothing that helped to train it.
        facts: for config.json, evaluation.json and README.md.
        label_names: class names in the order of the logits.
        pictures: plots that the facts name, copied into the folder.

    Raises:
        RuntimeError: when what was written does not give the same logits again.
    """
    beside = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    model = deepcopy(classifier.model).cpu().to(memory_format=torch.contiguous_format).eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": model.num_classes, "label_names": label_names}
    save_for_hf(
        model,
        str(beside),
        model_args=classifier.model_args,
        model_config={"label_names": label_names, "robustness": facts.summary()},
        safe_serialization=True,
    )
    (beside / "evaluation.json").write_text(json.dumps(facts.full(), indent=2) + "\n")
    (beside / "README.md").write_text(write_card(facts, stock=is_stock(facts.architecture)))
    for picture in pictures:
        shutil.copy(picture, beside)
    _check_same_logits(beside, model, classifier.input_size)
    replaced = folder.with_name(folder.name + ".replaced")
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    beside.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def is_stock(architecture: str) -> bool:
    """Tells whether timm alone knows an architecture."""
    return timm.model_entrypoint(architecture).__module__.startswith("timm.")


def _check_same_logits(folder: Path, model: torch.nn.Module, input_size: tuple[int, int, int]) -> None:
    images = torch.rand(2, *input_size)
    with torch.no_grad():
        same = torch.equal(timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images), model(images))
    if not same:
        raise RuntimeError(f"timm does not load {folder} back to the same logits; nothing was put in place")


def _config(name: str) -> dict:
    if not name.startswith(SOURCES) and timm.is_model(name):
        return {}
    file = _file(name, "config.json")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not readable JSON ({error}); fetch the checkpoint again") from error


def _file(name: str, filename: str) -> Path:
    if not name.startswith(SOURCES):
        raise ValueError(
            f"a checkpoint must be named hf-hub:ORG/NAME or local-dir:FOLDER, got '{name}'"
            + (f"; for this folder say local-dir:{name}" if Path(name).is_dir() else "")
        )
    source, _, place = name.partition(":")
    if source == "local-dir":
        file = Path(place).expanduser() / filename
        if not file.is_file():
            folders = [str(path.parent) for path in file.parents[1].glob("*/config.json")]
            near = close_names(str(file.parent), folders) or "; check the path"
            raise ValueError(f"there is no model folder at {place} (no {filename} in it){near}")
        return file
    repo, _, revision = place.partition("@")
    try:
        return Path(hf_hub_download(repo, filename, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"the Hub did not give {place} ({first_line(error)}); check the name and the network"
        ) from error
