"""What a stranger claims is refused where it can't be."""

import math
from pathlib import Path

import pytest

from robust_hub.errors import CheckpointError
from robust_hub.model_folder import ModelInfo
from tests.made_up import told_in

FOLDER = Path(__file__).parents[2] / "model_cards" / "small_cnn_grey.trades_linf0.1_digits"


@pytest.fixture
def told() -> dict:
    return told_in(FOLDER / "config.json")["robustness"]["claim"]


def test_a_claim_of_ours_is_read_and_written_again(told):
    assert ModelInfo.read(told, "here").plain() == told


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", -1.0),
        ("seconds", 1e308),
        ("seconds_with_teacher", math.inf),
        ("seconds_with_teacher", math.nan),
        ("parameters", -5),
        ("parameters", 10**300),
        ("flagged", 16),
        ("checks", -1),
        ("name", "escape\x1b[2J"),
        ("data", "x" * 120_000),
        ("robust_accuracy", {"value": 0.9, "low": 0.3, "high": 0.5, "n": 100}),
        ("robust_accuracy", {"value": 0.2, "low": 0.3, "high": 0.5, "n": 100}),
        ("clean_accuracy", {"value": 1.5, "low": 0.3, "high": 1.6, "n": 100}),
        ("clean_accuracy", {"value": 0.4, "low": 0.3, "high": 0.5, "n": -1}),
        ("clean_accuracy", {"value": math.nan, "low": 0.3, "high": 0.5, "n": 10}),
    ],
)
def test_what_can_not_be_is_refused(told, field, value):
    with pytest.raises(CheckpointError, match=r"^here"):
        ModelInfo.read({**told, field: value}, "here")
