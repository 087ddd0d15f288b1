"""A page on which people see, on a picture of their own, what a model withstands."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
