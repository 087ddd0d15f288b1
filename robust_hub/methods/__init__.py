"""Training objectives, one paper a file. Each is a module whose forward(images, labels) returns the loss."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
