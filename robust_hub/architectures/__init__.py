"""Networks for small images that stock timm cannot express, registered on import; and one way to create any."""

from robust_hub.architectures import mlp_headed, preact_resnet_cifar, resnet_cifar, small_cnn_grey
from robust_hub.architectures.create import create_classifier

__all__ = ["create_classifier", "mlp_headed", "preact_resnet_cifar", "resnet_cifar", "small_cnn_grey"]
