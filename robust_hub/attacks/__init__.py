"""Attacks: frozen dataclasses called with (classifier, images, labels) that return adversarial images.

An attack leaves parameter gradients and the train/eval mode as they were, and runs the classifier in eval mode.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
