"""Clean and robust accuracy with exact intervals and per-image masks, evidence for it, and reasons to doubt it.

`evaluate` (images at hand), `evaluate_loader` (one attack) and `evaluate_in_stages` (an ensemble) give an
`Evaluation`, the masks. `measure` does all there is, checks of honesty included, and gives a `Report`, which is
evaluation.json. `verify_evaluation` classifies again what a report's evidence keeps, and gives `Verified`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
