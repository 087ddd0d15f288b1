"""Loads a model by its name."""

from robust_hub.data import Data
from robust_hub.errors import CheckpointError
from robust_hub.hub.fetching import is_model_name, is_timms_own, open_folder, told_by_the_hub
from robust_hub.model_folder import ModelFolder, check_saving, create_pretrained, load_folder
from robust_hub.models import PixelClassifier, create_classifier, own_size


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
    """Loads a model to train on, or creates an untrained architecture, for the classes of the data.

    What was not read from a model folder is saved to one and loaded again first, so that no run is lost at its end.

    Args:
        name: of a model, of weights that timm knows, see `load`, or of an architecture, see `create_classifier`.
        model_args: of an architecture.
        data: tells the classes and the images.

    Returns:
        The student, and the name of the model that it starts from, with its commit; empty for an architecture.

    Raises:
        ValueError: when it can't be loaded, created or saved, or arguments are given to a model.
    """
    if not is_model_name(name) and not is_timms_own(name):
        image_shape = data.image_shape
        if not data.has_one_size:
            side = min(image_shape[1], own_size(name))
            image_shape = image_shape[0], side, side
        student = create_classifier(name, model_args, num_classes=data.num_classes, image_shape=image_shape)
        check_saving(student)
        return student, ""
    if model_args:
        raise ValueError(f"{name} is a model and brings its own arguments; leave --student-args away")
    if is_timms_own(name):
        student = _load_timms_own(name, data.num_classes)
        check_saving(student)
        return student, name
    folder = open_folder(name)
    return load_folder(folder, num_classes=data.num_classes), folder.public_place


def _load_timms_own(name: str, num_classes: int) -> PixelClassifier:
    """Loads weights that timm knows; says what to do where they can't be had."""
    architecture = name.partition(".")[0]
    with told_by_the_hub(
        f"the student can't start from the weights {name}, which were looked for in timm's cache and on the Hub",
        f"check the network, or say {architecture}, without the tag, to train it from nothing",
    ):
        try:
            return load(name, num_classes=num_classes)
        except CheckpointError as error:
            raise error.__cause__ or error
