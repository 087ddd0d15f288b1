"""Trains any objective: the loop, resume, heads, cost, and the run from its first check to the model folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
