"""Clean and robust accuracy with exact intervals and per-image masks, evidence for it, and reasons to doubt it."""

from robust_hub.evaluation.accuracy import Accuracy, Evaluation, Scores, accuracy_curve, evaluate
from robust_hub.evaluation.evidence import Evidence, confirm
from robust_hub.evaluation.honesty import Check, check_honesty
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.search import SearchPrecision, search_classifier
from robust_hub.evaluation.stages import Cost, evaluate_in_stages

__all__ = [
    "Accuracy",
    "Check",
    "Cost",
    "Evaluation",
    "Evidence",
    "Journal",
    "Scores",
    "SearchPrecision",
    "accuracy_curve",
    "check_honesty",
    "confirm",
    "evaluate",
    "evaluate_in_stages",
    "search_classifier",
]
