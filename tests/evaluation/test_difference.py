from math import comb

import numpy as np
import pytest

from robust_hub.evaluation import Difference


def masks(*, both: int, one: int, other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, one, other, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def tail(at_least: int, n: int, share: float) -> float:
    """The odds of so many or more of n."""
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(at_least, n + 1))


@pytest.mark.parametrize(("one", "other"), [(8, 2), (30, 12), (5, 0), (3, 9)])
def test_the_ends_of_the_interval_are_where_what_was_seen_has_odds_of_a_fortieth(one, other):
    found = Difference.of(*masks(both=20, one=one, other=other, neither=30))
    n, differing = 50 + one + other, one + other
    assert found.n == n
    assert found.value == pytest.approx((one - other) / n)
    low, high = ((end * n / differing + 1) / 2 for end in (found.low, found.high))
    assert tail(one, differing, low) == pytest.approx(0.025, rel=1e-6)
    if other:
        assert 1 - tail(one + 1, differing, high) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == 1


def test_the_other_way_round_it_has_the_opposite_sign():
    one, other = masks(both=20, one=9, other=4, neither=7)
    found, back = Difference.of(one, other), Difference.of(other, one)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_masks_that_agree_do_not_differ():
    mask = np.array([True, False, True])
    assert str(Difference.of(mask, mask.copy())) == "+0.0 [+0.0, +0.0]"


def test_masks_of_other_images_are_not_compared():
    message = r"^only masks of the same images can be compared, got 3 and 2 images$"
    with pytest.raises(ValueError, match=message):
        Difference.of(np.ones(3, bool), np.ones(2, bool))
