"""A classifier as one file for where there is no timm, checked against the classifier, and attacked once quantised."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
