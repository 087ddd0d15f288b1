"""Where classes differ in size, balanced accuracy stands beside accuracy; elsewhere nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from robust_hub.data import DataFacts
from robust_hub.data.facts import SplitFacts
from robust_hub.evaluation import Evaluation, Report
from robust_hub.files import read_json
from robust_hub.model_folder.card import write_card
from robust_hub.names import EVALUATION
from tests.made_up import NAMES, provenance, report


def facts(*counts: int) -> DataFacts:
    classes = dict(zip(NAMES, counts, strict=True))
    split = SplitFacts(sum(counts), "split test", classes, again=2, left_out=0, copies=0)
    return DataFacts("set", {"test": split}, 1, (8, 8), 8, (8, 8), {"RGB": sum(counts)}).shown_to((3, 8, 8))


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.choice(4, 60, p=[0.6, 0.2, 0.15, 0.05]), rng.integers(4, size=60)
    right = labels == predicted
    evaluation = Evaluation("PGD", labels, right, {}, 1.0)
    # Rounding of a mean of four.
    assert evaluation.balanced(right) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)


def measured(student, *counts: int) -> Report:
    """Eight of nine images of one class are right, and half of the rest."""
    labels = np.array([0] * 9 + [1, 1, 2, 2])
    clean = np.array([1] * 8 + [0] + [1, 0] * 2, dtype=bool)
    evaluation = Evaluation("PGD(steps=50)", labels, clean, {"pgd": clean & (np.arange(13) < 4)}, 1.0)
    return replace(report(student, NAMES), evaluation=evaluation, facts=facts(*counts))


def test_of_an_imbalanced_set_balanced_accuracy_is_in_table_and_card(student):
    told = measured(student, 90, 20, 20)
    # (8/9 + 1/2 + 1/2) / 3 and (4/9 + 0 + 0) / 3.
    for text in (told.table(), write_card(provenance("resnet18"), told)):
        assert "balanced" in text
        assert "63.0" in text
        assert "14.8" in text


def test_of_a_balanced_set_nothing_changes(student):
    told = measured(student, 22, 20, 20)
    assert told.table() == replace(told, facts=None).table()
    assert "balanced" not in write_card(provenance("resnet18"), told)


def test_facts_are_kept_and_told_on_the_card(tmp_path, student):
    told = measured(student, 22, 20, 20)
    told.write(tmp_path)
    assert Report.read(tmp_path).facts == told.facts
    card = write_card(provenance("resnet18"), told)
    assert "| test | 62 | split test | 20 to 22 | 2 |" in card


def test_a_report_without_facts_is_written_as_before(tmp_path, student):
    report(student, NAMES).write(tmp_path)
    assert "facts" not in read_json(tmp_path / EVALUATION)
    assert Report.read(tmp_path).facts is None
