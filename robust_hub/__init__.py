"""Robust image classifiers for timm, and recipes that pass robustness on, by natural images or one perturbed each.

Importing this package loads nothing heavy. It registers its architectures with timm as soon as that is imported.
"""

import lazy_loader
import wrapt

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("timm")
def _register_architectures(_: object) -> None:
    from robust_hub.models import mlp_headed, preact_resnet_cifar, resnet_cifar, small_cnn_grey  # noqa: F401
