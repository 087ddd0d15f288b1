"""Opens the student of a run by its name: an untrained architecture, a model, or weights of timm's own."""

from robust_hub.data import Data
from robust_hub.errors import CheckpointError
from robust_hub.hub.fetching import is_model_name, is_timms_own, open_folder, told_by_the_hub
from robust_hub.hub.loading import load
from robust_hub.model_folder import check_saving, load_folder
from robust_hub.models import PixelClassifier, check_channels, create_classifier, own_size


def open_student(name: str, model_args: dict, data: Data, *, image_size: int = 0) -> tuple[PixelClassifier, str]:
    """Loads a model to train on, or creates an untrained architecture, for the classes of the data.

    What was not read from a model folder is saved to one and loaded again first, so that no run is lost at its end.

    Args:
        name: of a model, of weights that timm knows, see `load`, or of an architecture, see `create_classifier`.
        model_args: of an architecture.
        data: tells the classes and the images.
        image_size: side in px of the images that an untrained architecture takes; 0 to choose by the data's.

    Returns:
        The student, and the name of the model that it starts from, with its commit; empty for an architecture.

    Raises:
        ValueError: when it can't be loaded, created or saved, or arguments are given to a model.
    """
    if not is_model_name(name) and not is_timms_own(name):
        shape = _shape_of_images(name, data, image_size)
        student = create_classifier(name, model_args, num_classes=data.num_classes, image_shape=shape)
        if image_size and student.input_size[1:] != shape[1:]:
            raise ValueError(
                f"{name} takes images of {student.input_size[2]}x{student.input_size[1]} px, whatever --image-size "
                f"says; leave that away, or say --student-args '{{\"img_size\": {image_size}}}'"
            )
        check_saving(student)
        return student, ""
    if image_size:
        raise ValueError(f"{name} is a model and takes images of its own size; leave --image-size away")
    if model_args:
        raise ValueError(f"{name} is a model and brings its own arguments; leave --student-args away")
    if is_timms_own(name):
        student = _load_timms_own(name, data.num_classes)
        check_channels(student)
        check_saving(student)
        return student, name
    folder = open_folder(name)
    student = load_folder(folder, num_classes=data.num_classes)
    check_channels(student)
    return student, folder.public_place


def _shape_of_images(architecture: str, data: Data, image_size: int) -> tuple[int, int, int]:
    """Chooses the images that an architecture which takes any is made for."""
    channels, height, width = data.image_shape
    if image_size:
        return channels, image_size, image_size
    if data.has_one_size:
        return channels, height, width
    side = min(height, own_size(architecture))
    return channels, side, side


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
            raise (error.__cause__ or error) from None
