"""Pre-activation and wide ResNets for 32 px images: a 3x3 stem of stride 1 and no max-pool, otherwise timm's ResNetV2.

Source: He et al., ECCV 2016, arXiv 1603.05027; Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146.
"""

from functools import partial

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import ResNetV2
from torch import nn

from robust_hub.models.resnet_cifar import CIFAR_CFG

default_cfgs = generate_default_cfgs(
    {
        name: {**CIFAR_CFG, "first_conv": "stem.conv", "classifier": "head.fc"}
        for name in ("preact_resnet18_cifar", "wide_resnet28_10_cifar", "wide_resnet34_10_cifar")
    }
)


class PreActResNetCifar(ResNetV2):
    """timm's pre-activation ResNet with basic blocks, BatchNorm and the stem replaced; `channels` sets all widths."""

    def __init__(self, layers, channels, *, in_chans=3, stem_chs=64, **kwargs):
        super().__init__(
            layers,
            channels,
            in_chans=in_chans,
            stem_chs=stem_chs,
            basic=True,
            bottle_ratio=1.0,
            norm_layer=BatchNormAct2d,
            conv_layer=partial(create_conv2d),
            **kwargs,
        )
        conv = nn.Conv2d(in_chans, stem_chs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.stem = nn.Sequential()
        self.stem.add_module("conv", conv)
        for info in self.feature_info:
            info["reduction"] = max(1, int(info["reduction"]) // 4)


def _build(name: str, pretrained: bool, **kwargs) -> nn.Module:
    stages = range(len(kwargs["layers"]) + 1)
    feature_cfg = {"flatten_sequential": True, "out_indices": tuple(stages)}
    return build_model_with_cfg(PreActResNetCifar, name, pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def preact_resnet18_cifar(pretrained=False, **kwargs) -> nn.Module:
    """Pre-activation ResNet-18 for 32 px images, 11.2 M parameters."""
    shape = {"layers": (2, 2, 2, 2), "channels": (64, 128, 256, 512)}
    return _build("preact_resnet18_cifar", pretrained, **{**shape, **kwargs})


@register_model
def wide_resnet28_10_cifar(pretrained=False, **kwargs) -> nn.Module:
    """Wide ResNet-28-10 for 32 px images, 36.5 M parameters."""
    shape = {"layers": (4, 4, 4), "channels": (160, 320, 640), "stem_chs": 16}
    return _build("wide_resnet28_10_cifar", pretrained, **{**shape, **kwargs})


@register_model
def wide_resnet34_10_cifar(pretrained=False, **kwargs) -> nn.Module:
    """Wide ResNet-34-10 for 32 px images, 46.2 M parameters."""
    shape = {"layers": (5, 5, 5), "channels": (160, 320, 640), "stem_chs": 16}
    return _build("wide_resnet34_10_cifar", pretrained, **{**shape, **kwargs})
