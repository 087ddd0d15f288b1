"""Robust image classifiers for timm, and recipes that pass their robustness on without adversarial training.

Importing this package registers its architectures with timm.
"""

from robust_hub import architectures

__all__ = ["architectures"]
