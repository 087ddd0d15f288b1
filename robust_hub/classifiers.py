"""Classifiers of images in [0, 1]. Mean and std live here and nowhere else, so eps has one unit everywhere."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_hub.types import Features, Images, Logits


@dataclass
class Passes:
    """Images sent through a network, counted as they go.

    A forward pass is one image through the network; a backward pass is one image's gradient through the network. A
    double backward counts one backward pass for the gradient and one more for going back through it.
    """

    forward: int = 0
    backward: int = 0


class PixelClassifier(nn.Module):
    """A timm model that normalises its images itself.

    Args:
        model: a timm model; its `pretrained_cfg` holds mean, std and input_size.
        model_args: what timm's create_model was given to build it; travels into config.json.

    Raises:
        ValueError: when the model's classifier is not one linear layer.
    """

    def __init__(self, model: nn.Module, model_args: dict):
        super().__init__()
        self.model = model
        self.model_args = model_args
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.passes = Passes()
        if not isinstance(self._classifier, nn.Linear | nn.Conv2d):
            raise ValueError(
                f"{self.architecture} must end in one linear classifier layer, got {type(self._classifier).__name__}; "
                "choose another architecture or its variant with a plain head"
            )

    @property
    def architecture(self) -> str:
        """The name timm knows the model by."""
        return self.model.pretrained_cfg["architecture"]

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the images the model takes."""
        return tuple(self.model.pretrained_cfg["input_size"])

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.model.num_classes

    @property
    def num_features(self) -> int:
        """The width of the features that enter the classifier layer."""
        classifier = self._classifier
        return classifier.in_features if isinstance(classifier, nn.Linear) else classifier.in_channels

    @property
    def label_names(self) -> list[str]:
        """The class names in the order of the logits; empty when the checkpoint does not tell."""
        return list(self.model.pretrained_cfg.get("label_names") or [])

    @property
    def _classifier(self) -> nn.Module:
        return self.model.get_classifier()

    def fingerprint(self) -> str:
        """Computes the sha256 of all weights and of mean and std, by name, wherever they came from and live."""
        digest = hashlib.sha256()
        for name, tensor in sorted({**self.state_dict(), "mean": self.mean, "std": self.std}.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1]."""
        logits = _at_least_float32(self.model((images - self.mean) / self.std))
        self.passes.forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(self.count_backward)
        return logits

    def forward_with_features(self, images: Images) -> tuple[Logits, Features]:
        """Classifies images and returns what entered the classifier layer as well, in one pass."""
        captured: list[Tensor] = []
        with self._classifier.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0])):
            logits = self(images)
        return logits, _at_least_float32(captured[0].flatten(1))

    def count_backward(self, gradient: Tensor) -> None:
        """Counts one backward pass for each image of the gradient; a hook for a tensor that a backward goes through."""
        self.passes.backward += len(gradient)


def _at_least_float32(values: Tensor) -> Tensor:
    """Leaves the precision of the network: losses of logits and features lose too much in bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Teacher(nn.Module):
    """A classifier that never learns: no parameter requires a gradient and `train()` leaves it in eval mode."""

    def __init__(self, classifier: PixelClassifier):
        super().__init__()
        self.classifier = classifier.requires_grad_(False).eval()

    @property
    def passes(self) -> Passes:
        """What the teacher has cost so far."""
        return self.classifier.passes

    def train(self, mode: bool = True) -> "Teacher":
        """Keeps the classifier in eval mode whatever is asked for."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1]."""
        return self.classifier(images)

    def forward_with_features(self, images: Images) -> tuple[Logits, Features]:
        """Classifies images and returns what entered the classifier layer as well."""
        return self.classifier.forward_with_features(images)
