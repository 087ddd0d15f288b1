"""Validation costs a tenth of the training at most, unless that is less than one look at 64 images."""

from itertools import pairwise

import pytest

from robust_hub.training.validation import PASSES, Validation, is_due, plan_validation


@pytest.mark.parametrize("epochs", [1, 7, 30, 60])
@pytest.mark.parametrize("passes", [100_000, 1_000_000, 100_000_000])
@pytest.mark.parametrize("available", [80, 700])
def test_a_tenth_of_the_passes_pays_for_it(passes, available, epochs):
    plan = plan_validation(passes, available, epochs)
    assert plan.images * plan.times * PASSES <= 0.1 * passes or (plan.times == 1 and plan.images <= 64)
    assert 1 <= plan.times <= min(30, epochs)
    assert plan.images <= min(512, available)


def test_a_short_run_is_validated_once_on_a_few_images_and_a_long_one_often_on_many():
    assert plan_validation(1000, 500, 10) == Validation(64, 1)
    assert plan_validation(1_000_000_000, 5000, 100) == Validation(512, 30)
    assert plan_validation(1_000_000_000, 0, 100).images == 0


@pytest.mark.parametrize("times", [1, 3, 10, 30])
def test_epochs_that_are_due_are_as_many_as_planned_evenly_and_the_last_is_one(times):
    due = [epoch for epoch in range(1, 31) if is_due(epoch, 30, times)]
    assert len(due) == times
    assert due[-1] == 30
    assert {later - earlier for earlier, later in pairwise(due)} <= {30 // times}
