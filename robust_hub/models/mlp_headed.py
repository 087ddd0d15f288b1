"""Any of timm's architectures with one hidden layer between its features and its classifier layer."""

from collections.abc import Sequence
from typing import cast

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from robust_hub.models.pixel_classifier import TimmModel

default_cfgs = generate_default_cfgs(
    {
        "mlp_headed": {
            "url": "",
            "num_classes": 10,
            "input_size": (3, 32, 32),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": None,
            "classifier": "head",
        }
    }
)


class MlpHeaded(nn.Module):
    """A body without a classifier, a hidden layer with GELU, and a linear classifier.

    Args:
        body: timm's name of the body.
        hidden: width of the hidden layer.
        num_classes: number of logits.
        in_chans: channels of the images.
        body_args: further arguments of the body.
    """

    def __init__(self, body: str, hidden: int, num_classes: int = 10, in_chans: int = 3, **body_args):
        super().__init__()
        self.body = cast(TimmModel, timm.create_model(body, num_classes=0, in_chans=in_chans, **body_args))
        self.hidden = nn.Sequential(nn.Linear(self.body.head_hidden_size, hidden), nn.GELU())
        self.feature_info = [{**info, "module": f"body.{info['module']}"} for info in self.body.feature_info]
        self.num_features = self.head_hidden_size = hidden
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Returns the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh last layer in place."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.head_hidden_size, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the body's last feature map."""
        return self.body.forward_features(x)

    def forward_intermediates(self, x: Tensor, **options) -> tuple[Tensor, Sequence[Tensor]]:
        """Computes the body's last feature map and one a stage, if the body can."""
        return self.body.forward_intermediates(x, **options)

    def forward_head(self, x: Tensor) -> Tensor:
        """Pools the feature map and classifies it."""
        return self.head(self.hidden(self.body.forward_head(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Classifies normalised images."""
        return self.forward_head(self.forward_features(x))


@register_model
def mlp_headed(pretrained=False, **kwargs) -> MlpHeaded:
    """A network of two linear layers on top of `body`, an architecture of timm's or ours."""
    return build_model_with_cfg(MlpHeaded, "mlp_headed", pretrained, **kwargs)
