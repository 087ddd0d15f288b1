import json
from dataclasses import replace

import pytest

from robust_hub.data import Rule, Source
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Curve, Report
from tests.made_up import NAMES, report


def test_what_evaluations_of_before_do_not_tell_is_not_told_where_it_is_as_it_was(tmp_path, student):
    report(student, NAMES).write(tmp_path)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(told["source"]) == ["data", "image_column", "label_column", "augmentation", "test_images"]
    assert not {"rule", "covered", "curve"} & told.keys()
    assert Report.read(tmp_path).expected_robustness is None


@pytest.mark.parametrize("changed", [{"tested": "all"}, {"group_by": r"^(\d+)_"}])
def test_how_the_tested_images_were_chosen_is_kept(tmp_path, student, changed):
    source, rule = Source("photos", **changed), Rule(held_out="by class")
    replace(report(student, NAMES), source=source, rule=rule).write(tmp_path)
    again = Report.read(tmp_path)
    assert (again.source, again.rule) == (source, rule)


# Of an accuracy that falls from 0.75 in a straight line, the mean is that in the middle, wherever the points are.
STRAIGHT = Curve(20, 4, [eps / 255 for eps in (0, 1, 2, 6, 8, 16)], [0.75 - eps / 32 for eps in (0, 1, 2, 6, 8, 16)])


def test_expected_robustness_is_the_mean_accuracy_from_0_to_the_eps_of_the_threat(student, tmp_path):
    kept = replace(report(student, NAMES), curve=STRAIGHT)
    kept.write(tmp_path)
    again = Report.read(tmp_path)
    assert again.curve == STRAIGHT
    assert again.expected_robustness == pytest.approx(0.75 - 4 / 32)
    told = (
        "expected robustness: 62.5 %, mean accuracy under PGD-20 over eps from 0 to 8/255, an upper bound; the first 4"
    )
    assert f"\n{told} images\n" in again.table()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accuracy": [0.75, 0.8, 0.7, 0.6, 0.5, 0.4]}, "none larger than the one before"),
        ({"accuracy": [1.5, 0.8, 0.7, 0.6, 0.5, 0.4]}, r"must be in \[0, 1\]"),
        ({"accuracy": [float("nan")] * 6}, r"must be in \[0, 1\]"),
        ({"accuracy": [0.75]}, "an accuracy at each of two radii"),
        ({"eps": [0, 0.02, 0.01, 8 / 255, 0.4, 0.5]}, "each larger than the one before"),
        ({"eps": [0, 0.01, 0.02, 8 / 255, 0.4, float("inf")]}, "must be finite"),
        ({"eps": [0.001, 0.01, 0.02, 8 / 255, 0.4, 0.5]}, "of which the first is 0"),
        ({"eps": [0, 0.01, 0.02, 0.03, 0.4, 0.5]}, "must tell of the eps of its threat"),
        ({"n": 5}, "of no more images than were tested"),
        ({"n": 0}, "at least 1 step and 1 image"),
    ],
)
def test_a_curve_that_can_not_be_is_refused(student, tmp_path, changed, message):
    replace(report(student, NAMES), curve=STRAIGHT).write(tmp_path)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps({**told, "curve": {**told["curve"], **changed}}))
    with pytest.raises(CheckpointError, match=message):
        Report.read(tmp_path)


@pytest.mark.parametrize("covered", [-1, 5])
def test_evidence_of_more_images_than_were_tested_is_refused(student, tmp_path, covered):
    replace(report(student, NAMES), covered=covered).write(tmp_path)
    with pytest.raises(CheckpointError, match="its evidence can't cover more images than were tested"):
        Report.read(tmp_path)
