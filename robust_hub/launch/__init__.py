"""How a recipe is started: its command line, its output folder, and what it runs on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
