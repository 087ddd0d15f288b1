"""Classifiers of images in [0, 1], the teacher among them, and networks for small images that timm lacks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
