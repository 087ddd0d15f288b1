"""Classifiers of images in [0, 1]. Mean and std live here and nowhere else, so eps has one unit everywhere."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_hub.models.preprocessing import Preprocessing
from robust_hub.types import Features, Images, Logits


@dataclass
class Passes:
    """Images sent through a network, counted as they go.

    A forward pass is one image through the network; a backward pass is one image's gradient through the network. A
    double backward counts one backward pass for the gradient and one more for going back through it.
    """

    forward: int = 0
    backward: int = 0

    @property
    def total(self) -> int:
        """Passes of both kinds."""
        return self.forward + self.backward


class TimmModel(nn.Module):
    """What we use of timm's models, which share no class that tells it: for annotations, nothing is made of it."""

    pretrained_cfg: dict[str, Any]
    num_classes: int
    head_hidden_size: int
    feature_info: Sequence[dict[str, Any]]
    get_classifier: Callable[[], nn.Module | Sequence[nn.Module]]
    reset_classifier: Callable[[int], None]
    forward_features: Callable[[Tensor], Tensor]
    forward_intermediates: Callable[..., tuple[Tensor, Sequence[Tensor]]]
    forward_head: Callable[[Tensor], Tensor]


class PixelClassifier(nn.Module):
    """A timm model that normalises its images itself.

    Args:
        model: a timm model; its `pretrained_cfg` holds mean, std and input_size.
        model_args: what timm's create_model was given to build it; travels into config.json.

    Raises:
        ValueError: when the model does not end in linear layers.
    """

    model: TimmModel
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, model_args: dict):
        super().__init__()
        self.model = cast(TimmModel, model)
        self.model_args = model_args
        mean, std = (torch.tensor(self.model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.passes = Passes()
        if not self.classifier_layers:
            got = type(self.model.get_classifier()).__name__
            raise ValueError(
                f"{self.architecture} must end in a linear classifier layer, got {got}; choose another architecture or "
                "its variant with a plain head"
            )

    @property
    def architecture(self) -> str:
        """The name timm knows the model by."""
        return self.model.pretrained_cfg["architecture"]

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the images the model takes."""
        channels, height, width = self.model.pretrained_cfg["input_size"]
        return channels, height, width

    @property
    def preprocessing(self) -> Preprocessing:
        """How photos become the images the model takes; timm's defaults where its `pretrained_cfg` tells nothing."""
        # Here, as timm lets our networks be imported, which import this module.
        from timm.data import resolve_data_config

        wanted = resolve_data_config(pretrained_cfg=self.model.pretrained_cfg)
        fill = tuple(round(255 * level) for level in wanted["mean"]) if wanted["crop_mode"] == "border" else ()
        return Preprocessing(
            self.input_size, float(wanted["crop_pct"]), wanted["crop_mode"], wanted["interpolation"], fill
        )

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.model.num_classes

    @property
    def classifier_layers(self) -> list[nn.Linear | nn.Conv2d]:
        """The linear layers that give logits: one in most models, two or more in those with several heads."""
        heads = self.model.get_classifier()
        modules = nn.ModuleList([heads] if isinstance(heads, nn.Module) else heads).modules()
        linear = (layer for layer in modules if isinstance(layer, nn.Linear | nn.Conv2d))
        return [layer for layer in linear if _out_features(layer) == self.num_classes]

    @property
    def num_features(self) -> int:
        """The width of the features that enter the classifier layer, of all of them where there are several."""
        return sum(
            layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels for layer in self.classifier_layers
        )

    @property
    def stages(self) -> list[str]:
        """The names of the stages, from the image to the classifier; empty where the model tells none."""
        return [info["module"] for info in getattr(self.model, "feature_info", [])]

    @property
    def label_names(self) -> list[str]:
        """The class names in the order of the logits; empty when the model does not tell."""
        return list(self.model.pretrained_cfg.get("label_names") or [])

    def checkpoint_gradients(self) -> None:
        """Lets backward passes compute activations again, which takes time and saves memory.

        Raises:
            ValueError: when the network can't.
        """
        enable = getattr(self.model, "set_grad_checkpointing", None)
        try:
            assert callable(enable)
            enable(True)
        except AssertionError as error:  # timm's, of networks that have the method and not what it does
            raise ValueError(f"{self.architecture} knows no --grad-checkpointing; drop it") from error

    def fingerprint(self) -> str:
        """Computes the sha256 of all weights and of mean and std, by name, wherever they came from and live."""
        digest = hashlib.sha256()
        for name, tensor in sorted({**self.state_dict(), "mean": self.mean, "std": self.std}.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1]."""
        return self._counted(self.model(self._normalised(images)))

    def forward_with_features(self, images: Images) -> tuple[Logits, Features]:
        """Classifies images and returns what entered the classifier layer as well, in one pass.

        Several layers' inputs stand one after the other; inputs with places, of a layer before pooling, are averaged.
        """
        layers, captured = self.classifier_layers, {}
        hooks = [
            layer.register_forward_pre_hook(lambda layer, inputs: captured.update({layer: _pooled(layer, inputs[0])}))
            for layer in layers
        ]
        try:
            logits = self(images)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, _at_least_float32(torch.cat([captured[layer] for layer in layers], 1))

    def forward_intermediates(self, images: Images) -> tuple[Logits, list[Tensor]]:
        """Classifies images and returns the map that each stage gives as well, n c h w, in one pass.

        Raises:
            ValueError: when the model has no stages.
        """
        if not self.stages:
            raise ValueError(f"{self.architecture} tells no stages; choose an architecture with timm's feature_info")
        if not hasattr(self.model, "forward_intermediates"):
            return self._forward_with_stage_hooks(images)
        features, maps = self.model.forward_intermediates(self._normalised(images), output_fmt="NCHW")
        return self._counted(self.model.forward_head(features)), list(maps)

    def _forward_with_stage_hooks(self, images: Images) -> tuple[Logits, list[Tensor]]:
        maps: list[Tensor] = []
        stages = [self.model.get_submodule(stage) for stage in self.stages]
        hooks = [stage.register_forward_hook(lambda _module, _inputs, output: maps.append(output)) for stage in stages]
        try:
            return self(images), maps
        finally:
            for hook in hooks:
                hook.remove()

    def _normalised(self, images: Images) -> Images:
        return (images - self.mean) / self.std

    def _counted(self, logits: Tensor) -> Logits:
        logits = _at_least_float32(logits)
        self.passes.forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(self.count_backward)
        return logits

    def count_backward(self, gradient: Tensor) -> None:
        """Counts one backward pass for each image of the gradient; a hook for a tensor that a backward goes through."""
        self.passes.backward += len(gradient)


def _out_features(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _pooled(layer: nn.Linear | nn.Conv2d, features: Tensor) -> Features:
    """Averages a layer's input over its places: those before the channels of a Linear, after them of a Conv2d."""
    if isinstance(layer, nn.Conv2d):
        return features.flatten(2).mean(2)
    return features if features.ndim == 2 else features.flatten(1, -2).mean(1)


def _at_least_float32(values: Tensor) -> Tensor:
    """Leaves the precision of the network: losses of logits and features lose too much in bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_channels(classifier: PixelClassifier) -> None:
    """Checks that a model takes what images are brought to: grey or colour.

    Raises:
        ValueError: when it does not.
    """
    channels = classifier.input_size[0]
    if channels not in (1, 3):
        raise ValueError(
            f"{classifier.architecture} must take grey or colour images, of 1 or 3 channels, got {channels}; leave "
            "in_chans away, or choose another model"
        )
