"""Brings robust checkpoints that others trained into our form: read without running code, mapped, proven."""

from robust_hub.foreign.mapping import Mapping, Pair, find_mapping
from robust_hub.foreign.proof import import_original, prove, stock_original
from robust_hub.foreign.reading import Foreign, Normaliser, read_checkpoint
from robust_hub.foreign.target import count_classes, create_target, fill, settle_normaliser

__all__ = [
    "Foreign",
    "Mapping",
    "Normaliser",
    "Pair",
    "count_classes",
    "create_target",
    "fill",
    "find_mapping",
    "import_original",
    "prove",
    "read_checkpoint",
    "settle_normaliser",
    "stock_original",
]
