"""A small convolutional network for grey images of 28 to 32 px, with timm's model interface."""

from collections.abc import Sequence
from itertools import pairwise

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

default_cfgs = generate_default_cfgs(
    {
        "small_cnn_grey": {
            "url": "",
            "num_classes": 10,
            "input_size": (1, 32, 32),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": (0.5,),
            "std": (0.5,),
            "first_conv": "features.0",
            "classifier": "fc",
        }
    }
)


class SmallCnnGrey(nn.Module):
    """Three strided convolutions and one linear layer; smooth, since its input gradients are what it teaches."""

    def __init__(self, num_classes: int = 10, in_chans: int = 1, channels: Sequence[int] = (32, 64, 128)):
        super().__init__()
        widths = (in_chans, *channels)
        layers = [[nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()] for before, after in pairwise(widths)]
        self.features = nn.Sequential(*(module for layer in layers for module in layer))
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (layer + 1), "module": f"features.{2 * layer + 1}"}
            for layer, width in enumerate(channels)
        ]
        self.num_features = self.head_hidden_size = 4 * channels[-1]
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Returns the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh last layer in place."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the last feature map."""
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pools the feature map and classifies it."""
        pooled = self.pool(x).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies normalised images."""
        return self.forward_head(self.forward_features(x))


@register_model
def small_cnn_grey(pretrained=False, **kwargs) -> SmallCnnGrey:
    """A network of 98 k parameters for MNIST-sized grey images."""
    return build_model_with_cfg(SmallCnnGrey, "small_cnn_grey", pretrained, **kwargs)
