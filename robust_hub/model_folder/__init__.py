"""The folder of a published model: where it comes from, what it claims, its card; read, checked, loaded, written."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
