"""Loads the model of an opened folder; nothing in it is executed or unpickled."""

from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg

from robust_hub.errors import CheckpointError, first_line
from robust_hub.model_folder.folder import ModelFolder
from robust_hub.model_folder.validation import bounded_by, check_weights
from robust_hub.models import PixelClassifier, check_arguments, images_for

# All else would ask for weights that a file does not have.
ADAPTABLE = ("drop_path_rate", "drop_rate", "img_size", "in_chans", "output_stride", "act_layer")


def load_folder(folder: ModelFolder, *, num_classes: int | None = None) -> PixelClassifier:
    """Loads a model.

    Args:
        folder: of the model, with its weights.
        num_classes: gives it a fresh classifier layer of that width where its own differs.

    Raises:
        CheckpointError: when it can't be loaded.
    """
    check_weights(folder.path, folder.config)
    return _load(folder, {}, num_classes=num_classes)


def load_with_new_head(folder: ModelFolder, num_classes: int) -> PixelClassifier:
    """Loads a model and puts an untrained head for that many classes in place of its own; see `load_folder`."""
    classifier = load_folder(folder)
    classifier.model.reset_classifier(num_classes)
    classifier.model.pretrained_cfg["label_names"] = None
    return classifier


def check_adaptable(name: str, model_args: dict) -> None:
    """Checks that arguments for the network of a model are those to which its weights may be adapted.

    Raises:
        ValueError: when one is another.
    """
    for argument in model_args:
        if argument not in ADAPTABLE:
            raise ValueError(
                f"{name} has weights, and beside them only {', '.join(ADAPTABLE)} can be chosen, got '{argument}'; "
                "leave it away, or train an untrained network"
            )


def load_adapted(folder: ModelFolder, model_args: dict, *, num_classes: int) -> PixelClassifier:
    """Loads a model's weights into a network that is built with other arguments; timm adapts them where they must be.

    These are position embeddings, to another size of images, and the first convolution, to other channels.

    Args:
        folder: of the model, with its weights.
        model_args: for timm's create_model, beside those that the folder has; see `check_adaptable`.
        num_classes: see `load_folder`.

    Raises:
        ValueError: when the weights can't be adapted to an argument, or the network has none of that name.
    """
    check_weights(folder.path, folder.config)
    check_arguments(folder.config["architecture"], model_args)
    classifier = _load(folder, model_args, num_classes=num_classes)
    if lacking := _lacking(classifier, folder, model_args):
        raise ValueError(
            f"timm can't adapt the weights of {folder.name} to {model_args}: they have none for {lacking}; leave the "
            "argument away, or choose another model"
        )
    told = classifier.model.pretrained_cfg
    images = images_for(told["input_size"], told["mean"], told["std"], model_args)
    told.update(images, pool_size=None, test_input_size=None, test_pool_size=None)
    return PixelClassifier(classifier.model, classifier.model_args)


def _lacking(classifier: PixelClassifier, folder: ModelFolder, model_args: dict) -> str:
    """Names weights below the head of an adapted network that are not the file's; empty where there are none.

    They are new, as without the arguments there are none, or drawn at random, as they differ when drawn again.
    """
    num_classes = classifier.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() + 1)
        again, before = (_load(folder, given, num_classes=num_classes).model for given in (model_args, {}))
    drawn, known = again.state_dict(), before.state_dict()
    heads = {id(weight) for layer in classifier.classifier_layers for weight in layer.parameters()}
    for name, weight in classifier.model.named_parameters():
        if id(weight) not in heads and (name not in known or not torch.equal(weight, drawn[name])):
            return name
    return ""


def _load(folder: ModelFolder, model_args: dict, *, num_classes: int | None) -> PixelClassifier:
    """Lets timm load a model, and turns whatever goes wrong into one sentence."""
    changes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    cfg = get_pretrained_cfg(folder.config["architecture"])
    if "in_chans" in model_args and cfg is not None and cfg.first_conv:
        # Folders of ours do not tell which layer it is.
        changes["pretrained_cfg_overlay"] = {"first_conv": cfg.first_conv}
    # timm writes the number of classes there itself, and a new head may have changed it.
    known = {key: value for key, value in folder.config.get("model_args", {}).items() if key != "num_classes"}
    try:
        with bounded_by(folder.path):
            model = timm.create_model(f"local-dir:{folder.path}", pretrained=True, **changes, **model_args)
        return PixelClassifier(model, {**known, **model_args})
    except CheckpointError:
        raise
    except Exception as error:  # whatever a foreign folder raises, the user needs the one sentence
        how, advice = (
            (f" with {model_args}", "leave the argument away, or choose another model")
            if model_args
            else ("", "check its config.json and model.safetensors, or its name")
        )
        raise CheckpointError(f"{folder.name} can't be loaded{how} ({first_line(error)}); {advice}") from error
