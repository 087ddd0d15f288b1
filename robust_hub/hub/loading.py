"""Loads a model by its name."""

from robust_hub.data import Data
from robust_hub.hub.fetching import is_checkpoint, is_timms_own, open_folder
from robust_hub.model_folder import ModelFolder, create_pretrained, load_folder
from robust_hub.models import PixelClassifier, create_classifier


def load(name: str, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a model; nothing in it is executed or unpickled, and it comes from the cache where it can.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, local-dir:FOLDER, a name of the catalogue
            (architecture.method_threat_data), or of weights that timm knows, which timm itself fetches and reads.
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        CheckpointError: when there is no such model, or it can't be loaded.
    """
    if is_timms_own(name):
        return create_pretrained(name, name, {}, num_classes=num_classes)
    return load_folder(open_folder(name), num_classes=num_classes)


def load_with_folder(name: str) -> tuple[PixelClassifier, ModelFolder | None]:
    """Loads a model, see `load`, and gives its folder as well; timm's own weights have none."""
    if is_timms_own(name):
        return load(name), None
    folder = open_folder(name)
    return load_folder(folder), folder


def open_student(name: str, model_args: dict, data: Data) -> tuple[PixelClassifier, str]:
    """Loads a checkpoint to train on, or creates an untrained architecture, for the classes of the data.

    Args:
        name: of a checkpoint, see `load`, or of an architecture, see `create_classifier`.
        model_args: of an architecture.
        data: tells the classes and the images.

    Returns:
        The student, and the name of the checkpoint that it starts from, with its commit; empty for an architecture.

    Raises:
        ValueError: when it can't be loaded or created, or arguments are given to a checkpoint.
    """
    if not is_checkpoint(name):
        return create_classifier(name, model_args, num_classes=data.num_classes, image_shape=data.image_shape), ""
    if model_args:
        raise ValueError(f"{name} is a checkpoint and brings its own arguments; leave --student-args away")
    folder = open_folder(name)
    return load_folder(folder, num_classes=data.num_classes), folder.public_place
