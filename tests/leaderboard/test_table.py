"""The table in the terminal, fronts and ranks, with strangers' words in them."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robust_hub.hub import list_models
from robust_hub.leaderboard import model_table
from robust_hub.leaderboard.table import pareto_front, ranks

ROOT = Path(__file__).parents[2]
LIKE = ROOT / "model_cards" / "resnet10t.rslad_linf8_cifar10"


@pytest.fixture(scope="module")
def info():
    return list_models(folder=ROOT / "model_cards")[f"local-dir:{LIKE}"]


def test_long_words_of_a_stranger_do_not_widen_the_table(info):
    long = {"data": "d" * 1_000, "protocol": "p" * 1_000, "threat": "linf:0.1" + "0" * 900}
    told = model_table({"local-dir:a": replace(info, **long), "local-dir:b": info})
    rows = told.split("\n\n")[0].splitlines()
    assert len(rows) == 4
    assert len({len(row) for row in rows}) == 1
    assert len(rows[0]) < 350
    assert rows[2].count(" ... ") == 3
    assert " ... " not in rows[3]


def test_a_name_of_two_lines_does_not_make_a_row_of_its_own(info):
    rows = model_table({"local-dir:a\n| b": info}).split("\n\n")[0].splitlines()
    assert len(rows) == 3


def test_figures_are_called_claimed_and_not_confirmed(info):
    told = model_table({"local-dir:a": info})
    assert "claimed clean %" in told
    assert "claimed robust %" in told
    assert "nobody verified it here" in told
    assert "confirm" not in told


def test_equals_share_a_rank_and_bounds_and_flagged_ones_have_none(info):
    def model(name: str, value: float, **changes):
        return replace(info, name=name, robust_accuracy=replace(info.robust_accuracy, value=value), **changes)

    rivals = [
        model("first", 0.9),
        model("bound", 0.95, protocol="pgd, not AutoAttack"),
        model("fourth", 0.2),
        model("second", 0.8),
        model("flagged", 0.99, flagged=1),
        model("second too", 0.8),
    ]
    told = {rival.name: rank for rival, rank in ranks(rivals).items()}
    assert told == {"first": 1, "second": 2, "second too": 2, "fourth": 4}


def test_the_front_of_thousands_takes_no_time_that_grows_with_their_square(info):
    cheap_to_dear = [
        replace(
            info,
            name=str(number),
            robust_accuracy=replace(info.robust_accuracy, value=number / 2_000),
            seconds_with_teacher=1.0 + number,
        )
        for number in range(2_000)
    ]
    begin = time.process_time()
    assert len(pareto_front(cheap_to_dear)) == 2_000
    # Some hundredths of a second; comparing everybody with everybody took half a minute.
    assert time.process_time() - begin < 3


@pytest.mark.slow
def test_a_thousand_folders_are_listed_in_three_seconds(tmp_path):
    for number in range(1_000):
        folder = tmp_path / f"model_{number}"
        folder.mkdir()
        shutil.copy(LIKE / "config.json", folder)
    begin = time.process_time()
    models = list_models(folder=tmp_path)
    told = model_table(models)
    assert time.process_time() - begin < 3
    assert len(models) == 1_000
    assert told.count("model_") == 1_000
