"""Clean and robust accuracy with exact intervals and per-image masks, evidence for it, and reasons to doubt it.

`evaluate` (images at hand), `evaluate_loader` (one attack) and `evaluate_in_stages` (an ensemble) give an
`Evaluation`, the masks. `measure` does all there is, checks of honesty included, and gives a `Report`, which is
evaluation.json. `verify_evaluation` classifies again what a report's evidence keeps, and gives `Verified`.
"""

from .accuracy import SPOTS as SPOTS
from .accuracy import Accuracy as Accuracy
from .accuracy import Check as Check
from .accuracy import Cost as Cost
from .accuracy import Difference as Difference
from .accuracy import Evaluation as Evaluation
from .class_order import ClassOrder as ClassOrder
from .class_order import find_class_order as find_class_order
from .class_order import in_order_of as in_order_of
from .class_order import reorder_logits as reorder_logits
from .curve import Curve as Curve
from .evidence import Evidence as Evidence
from .honesty import check_honesty as check_honesty
from .in_memory import evaluate as evaluate
from .journal import Journal as Journal
from .lettering import shortened as shortened
from .measurement import finish as finish
from .measurement import measure as measure
from .measurement import report_on as report_on
from .perturbations import Perturbations as Perturbations
from .perturbations import confirm as confirm
from .plots import dispensable as dispensable
from .plots import plot_accuracy_curves as plot_accuracy_curves
from .plots import plot_input_gradients as plot_input_gradients
from .portions import Portion as Portion
from .portions import seeded as seeded
from .report import Report as Report
from .report import SearchPrecision as SearchPrecision
from .robust_accuracy import accuracy_curve as accuracy_curve
from .robust_accuracy import evaluate_loader as evaluate_loader
from .robust_accuracy import pgd_curve as pgd_curve
from .robust_accuracy import right as right
from .search import search_classifier as search_classifier
from .stages import evaluate_in_stages as evaluate_in_stages
from .stress_panel import check_stress as check_stress
from .stress_panel import measure_stress as measure_stress
from .surrogate import train_surrogate as train_surrogate
from .verification import Verified as Verified
from .verification import source_at as source_at
from .verification import verify_evaluation as verify_evaluation
