"""Any image-classification data set, as train, validation and test, and loaders that yield images in [0, 1]."""

from robust_hub.data.builtin import BUILTIN
from robust_hub.data.datasets import Augmentation, Data, Source, load_data, split_sha256, subset
from robust_hub.data.loaders import Loader, evaluation_loader, training_loader
from robust_hub.data.streaming import Shard

__all__ = [
    "BUILTIN",
    "Augmentation",
    "Data",
    "Loader",
    "Shard",
    "Source",
    "evaluation_loader",
    "load_data",
    "split_sha256",
    "subset",
    "training_loader",
]
