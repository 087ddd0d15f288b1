"""Opens the student of a run by its name: an untrained architecture, or a model, whoever its weights are of."""

import json

from robust_hub.data import Data
from robust_hub.evaluation import find_class_order, reorder_logits
from robust_hub.hub.fetching import is_model_name, open_folder
from robust_hub.model_folder import ModelFolder, check_adaptable, check_saving, load_adapted, load_folder
from robust_hub.models import PixelClassifier, check_channels, create_classifier, own_size


def open_student(
    name: str, model_args: dict, data: Data, *, image_size: int = 0
) -> tuple[PixelClassifier, ModelFolder | None]:
    """Loads a model to train on, or creates an untrained architecture, for the classes of the data.

    Unless it is as a folder of ours has it, it is saved to one and loaded again first, so that no run is lost at its
    end.

    Args:
        name: of a model, see `load`, or of an architecture, see `create_classifier`.
        model_args: of an architecture, or those that a model may be given, see `load_adapted`.
        data: tells the classes and the images.
        image_size: side in px of the images that an untrained architecture takes; 0 to choose by the data's.

    Returns:
        The student, and the folder of the model that it starts from; None for an architecture. A model that knows the
        data's classes has them as its `label_names`, in the data's order; the head of another is untrained.

    Raises:
        ValueError: when it can't be loaded, created or saved, or can't see the colours of the data.
    """
    if is_model_name(name):
        return _open_model(name, model_args, data, image_size)
    shape = _shape_of_images(name, data, image_size)
    student = create_classifier(name, model_args, num_classes=data.num_classes, image_shape=shape)
    if image_size and student.input_size[1:] != shape[1:]:
        raise ValueError(
            f"{name} takes images of {student.input_size[2]}x{student.input_size[1]} px, whatever --image-size "
            f"says; leave that away, or say --student-args '{{\"img_size\": {image_size}}}'"
        )
    check_saving(student)
    return student, None


def _open_model(name: str, model_args: dict, data: Data, image_size: int) -> tuple[PixelClassifier, ModelFolder]:
    if image_size:
        raise ValueError(
            f"{name} is a model and takes images of its own size; leave --image-size away, or, where its network is "
            f"built for a size, say --student-args '{_with(model_args, img_size=image_size)}'"
        )
    check_adaptable(name, model_args)
    folder = open_folder(name)
    if model_args:
        student = load_adapted(folder, model_args, num_classes=data.num_classes)
    else:
        student = load_folder(folder, num_classes=data.num_classes)
    check_channels(student)
    if "in_chans" not in model_args and student.input_size[0] < data.image_shape[0]:
        raise ValueError(
            f"{name} takes grey images and those of {data.name} are in colour; say --student-args "
            f"'{_with(model_args, in_chans=1)}' to show it grey ones{_colour_way(folder, model_args, data)}"
        )
    if model_args or folder.provenance is None:
        check_saving(student)
    _fit_head(student, folder, data)
    return student, folder


def _fit_head(student: PixelClassifier, folder: ModelFolder, data: Data) -> None:
    """Puts the logits of a model that knows the data's classes into their order, and gives another a new head."""
    told = {**folder.config.get("pretrained_cfg", {}), **folder.config}
    as_many = told.get("num_classes") == data.num_classes
    known = find_class_order(student, data).label_names if as_many else []
    if known:
        reorder_logits(student, known, data.label_names)
    elif as_many:
        student.model.reset_classifier(data.num_classes)
    student.model.pretrained_cfg["label_names"] = data.label_names if known else None


def _colour_way(folder: ModelFolder, model_args: dict, data: Data) -> str:
    """Tells how a grey model learns to see colours; empty where it can't be made to."""
    colour = _with(model_args, in_chans=data.image_shape[0])
    try:
        load_adapted(folder, json.loads(colour), num_classes=data.num_classes)
    except ValueError:
        return ""
    return f", or '{colour}' to adapt its first layer"


def _with(model_args: dict, **changes: int) -> str:
    return json.dumps({**model_args, **changes})


def _shape_of_images(architecture: str, data: Data, image_size: int) -> tuple[int, int, int]:
    """Chooses the images that an architecture which takes any is made for."""
    channels, height, width = data.image_shape
    if image_size:
        return channels, image_size, image_size
    if data.has_one_size:
        return channels, height, width
    side = min(height, own_size(architecture))
    return channels, side, side
