"""Brings robust checkpoints that others trained into our form: read without running code, mapped, proven."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
