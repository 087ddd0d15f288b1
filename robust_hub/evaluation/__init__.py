"""Clean and robust accuracy with exact intervals and per-image masks, evidence for it, and reasons to doubt it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
