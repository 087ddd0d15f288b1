import json
from dataclasses import replace

import pytest

from robust_hub.data import Rule, Source
from robust_hub.evaluation import Report
from tests.made_up import NAMES, report


def test_what_evaluations_of_before_do_not_tell_is_not_told_where_it_is_as_it_was(tmp_path, student):
    report(student, NAMES).write(tmp_path)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(told["source"]) == ["data", "image_column", "label_column", "augmentation", "test_images"]
    assert "rule" not in told


@pytest.mark.parametrize("changed", [{"tested": "all"}, {"group_by": r"^(\d+)_"}])
def test_how_the_tested_images_were_chosen_is_kept(tmp_path, student, changed):
    source, rule = Source("photos", **changed), Rule(held_out="by class")
    replace(report(student, NAMES), source=source, rule=rule).write(tmp_path)
    again = Report.read(tmp_path)
    assert (again.source, again.rule) == (source, rule)
