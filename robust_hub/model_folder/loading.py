"""Loads the model of an opened folder; nothing in it is executed or unpickled."""

from typing import Any

import timm

from robust_hub.errors import CheckpointError, first_line
from robust_hub.model_folder.folder import ModelFolder
from robust_hub.model_folder.validation import bounded_by, check_weights
from robust_hub.models import PixelClassifier


def load_folder(folder: ModelFolder, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a model.

    Args:
        folder: of the model, with its weights.
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        CheckpointError: when it can't be loaded.
    """
    check_weights(folder.path, folder.config)
    # timm writes the number of classes there itself, and a new head may have changed it.
    model_args = {key: value for key, value in folder.config.get("model_args", {}).items() if key != "num_classes"}
    with bounded_by(folder.path):
        return create_pretrained(f"local-dir:{folder.path}", folder.name, model_args, num_classes=num_classes)


def load_with_new_head(folder: ModelFolder, num_classes: int) -> PixelClassifier:
    """Loads a model and puts an untrained head for that many classes in place of its own; see `load_folder`."""
    classifier = load_folder(folder)
    classifier.model.reset_classifier(num_classes)
    classifier.model.pretrained_cfg["label_names"] = None
    return classifier


def create_pretrained(place: str, name: str, model_args: dict, *, num_classes: int | None = None) -> PixelClassifier:
    """Lets timm load a model, and turns whatever goes wrong into one sentence.

    Args:
        place: as timm takes it.
        name: as its user named it.
        model_args: what it was built with, for the next config.json.
        num_classes: see `load_folder`.

    Raises:
        CheckpointError: when it can't be loaded.
    """
    fresh_head: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    try:
        return PixelClassifier(timm.create_model(place, pretrained=True, **fresh_head), model_args)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a foreign folder raises, the user needs the one sentence
        raise CheckpointError(
            f"{name} can't be loaded ({first_line(error)}); check its config.json and model.safetensors, or its name"
        ) from error
