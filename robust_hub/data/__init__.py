"""Any image-classification data set, as train, validation and test, and loaders that yield images in [0, 1]."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
