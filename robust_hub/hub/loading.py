"""Loads a model by its name."""

from robust_hub.hub.fetching import open_folder
from robust_hub.model_folder import ModelFolder, load_folder
from robust_hub.models import PixelClassifier


def load(name: str, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a model; nothing in it is executed or unpickled, and it comes from the cache where it can.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, local-dir:FOLDER, a name of the catalogue
            (architecture.method_threat_data), or of weights that timm knows (resnet18.a1_in1k).
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        CheckpointError: when there is no such model, or it can't be loaded.
    """
    return load_folder(open_folder(name), num_classes=num_classes)


def load_with_folder(name: str) -> tuple[PixelClassifier, ModelFolder]:
    """Loads a model, see `load`, and gives its folder as well."""
    folder = open_folder(name)
    return load_folder(folder), folder
