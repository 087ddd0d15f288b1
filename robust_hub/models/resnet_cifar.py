"""ResNets for 32 px images: a 3x3 stem of stride 1 and no max-pool, otherwise timm's ResNet.

Source: He et al., CVPR 2016, arXiv 1512.03385; the stem is the one common in adversarial training on CIFAR.
"""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

CIFAR_CFG = {
    "url": "",
    "num_classes": 10,
    "input_size": (3, 32, 32),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}

default_cfgs = generate_default_cfgs(
    {name: {**CIFAR_CFG, "first_conv": "conv1", "classifier": "fc"} for name in ("resnet18_cifar", "resnet50_cifar")}
)


class ResNetCifar(ResNet):
    """timm's ResNet with the stem replaced; every argument of timm's class works, `channels` sets all widths."""

    def __init__(self, block, layers, *, in_chans=3, channels=(64, 128, 256, 512), **kwargs):
        # Only the deep stem lets the stem's width follow the first stage; it is replaced at once.
        width = channels[0] // 2
        super().__init__(
            block, layers, in_chans=in_chans, channels=channels, stem_type="deep", stem_width=width, **kwargs
        )
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, padding=1, bias=False)
        self.maxpool = nn.Identity()
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        for info in self.feature_info:
            info["reduction"] = max(1, int(info["reduction"]) // 4)


def _build(name: str, pretrained: bool, **kwargs) -> nn.Module:
    return build_model_with_cfg(ResNetCifar, name, pretrained, **kwargs)


@register_model
def resnet18_cifar(pretrained=False, **kwargs) -> nn.Module:
    """ResNet-18 for 32 px images, 11.2 M parameters."""
    return _build("resnet18_cifar", pretrained, **{"block": BasicBlock, "layers": (2, 2, 2, 2), **kwargs})


@register_model
def resnet50_cifar(pretrained=False, **kwargs) -> nn.Module:
    """ResNet-50 for 32 px images, 23.5 M parameters."""
    return _build("resnet50_cifar", pretrained, **{"block": Bottleneck, "layers": (3, 4, 6, 3), **kwargs})
