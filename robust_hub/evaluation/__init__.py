"""Clean and robust accuracy with exact intervals and per-image masks."""

from robust_hub.evaluation.accuracy import Accuracy, Evaluation, Scores, accuracy_curve, evaluate

__all__ = ["Accuracy", "Evaluation", "Scores", "accuracy_curve", "evaluate"]
