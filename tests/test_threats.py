import numpy as np
import pytest
import torch

from robust_hub.threats import L2, Linf, parse_threat

THREATS = [Linf(8 / 255), Linf(0.3), L2(0.5), L2(2.0)]


def naive_norms(delta: torch.Tensor, threat) -> np.ndarray:
    order = np.inf if isinstance(threat, Linf) else 2
    return np.array([np.linalg.norm(one.double().numpy().ravel(), ord=order) for one in delta])


def some_deltas() -> torch.Tensor:
    """Perturbations from far inside every ball of THREATS to far outside, and none at all."""
    scales = torch.tensor([0.0, 1e-4, 0.01, 0.1, 1.0, 10.0])
    return scales[:, None, None, None] * torch.randn(6, 3, 4, 4)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_norm_agrees_with_numpy(threat):
    delta = some_deltas()
    # float32 sums of 48 squares are exact to about 48 * 6e-8, relative.
    np.testing.assert_allclose(threat.norm(delta).numpy(), naive_norms(delta, threat), rtol=3e-6)


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_linf_project_agrees_with_numpy(eps):
    delta = some_deltas()
    np.testing.assert_array_equal(Linf(eps).project(delta).numpy(), np.clip(delta.numpy(), np.float32(-eps), eps))


@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_l2_project_agrees_with_numpy(eps):
    delta = some_deltas()
    expected = []
    for one in delta.double().numpy():
        length = np.linalg.norm(one.ravel())
        expected.append(one * eps / length if length > eps else one)
    # One division and one product in float32 after a norm that is exact to 3e-6, relative.
    np.testing.assert_allclose(L2(eps).project(delta).numpy(), np.stack(expected), rtol=4e-6)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_project_ends_inside_the_ball(threat):
    # 1e-6: rounding of the norm in float32, relative to eps of at most 2.
    assert naive_norms(threat.project(some_deltas()), threat).max() <= threat.eps + 1e-6


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_project_is_idempotent(threat):
    once = threat.project(some_deltas())
    # A vector scaled to length eps may measure eps (1 + 1e-7) and be scaled once more.
    torch.testing.assert_close(threat.project(once), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_project_leaves_what_is_inside_untouched(threat):
    delta = some_deltas()
    inside = delta[torch.from_numpy(naive_norms(delta, threat)) < 0.99 * threat.eps]
    assert len(inside) >= 2
    assert torch.equal(threat.project(inside), inside)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_project_finds_no_point_farther_than_any_other_of_the_ball(threat):
    delta = 3 * torch.randn(4, 3, 4, 4)
    distance = (threat.project(delta) - delta).flatten(1).norm(dim=1)
    for _ in range(20):
        other = threat.project(threat.sample(delta) + 0.3 * delta)
        assert (distance <= (other - delta).flatten(1).norm(dim=1) + 1e-5).all()


@pytest.mark.parametrize("threat", [Linf(0.0), L2(0.0)], ids=str)
def test_a_ball_of_radius_zero_holds_nothing_but_zero(threat):
    assert threat.project(some_deltas()).abs().max() == 0
    assert threat.sample(some_deltas()).abs().max() == 0


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_sample_is_inside_the_ball(threat):
    sample = threat.sample(torch.empty(200, 3, 4, 4))
    assert sample.shape == (200, 3, 4, 4)
    # 1e-6: rounding of the norm in float32, relative to eps of at most 2.
    assert naive_norms(sample, threat).max() <= threat.eps + 1e-6


def test_linf_sample_is_uniform_in_every_pixel():
    sample = Linf(0.5).sample(torch.empty(4096, 1, 2, 2)).flatten(1) + 0.5
    quantiles = torch.quantile(sample, torch.tensor([0.1, 0.5, 0.9]), dim=0)
    # A quantile of 4096 draws has a standard error of at most 0.5 / sqrt(4096) = 0.008; five of them.
    torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.5, 0.9])[:, None].expand(3, 4), rtol=0, atol=0.04)


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 2), (3, 2, 2)])
def test_l2_sample_fills_the_ball_evenly(shape):
    sample = L2(2.0).sample(torch.empty(4096, *shape))
    dimensions = int(np.prod(shape))
    # The share of the volume inside radius r is (r / eps)^d, so this is uniform in (0, 1): mean 1/2, variance 1/12.
    share = (naive_norms(sample, L2(2.0)) / 2.0) ** dimensions
    # Standard errors over 4096 draws are 0.0045 and 0.0012; five of them.
    assert share.mean() == pytest.approx(1 / 2, abs=0.023)
    assert share.var() == pytest.approx(1 / 12, abs=0.006)


def test_l2_sample_prefers_no_direction():
    sample = L2(1.0).sample(torch.empty(4096, 1, 2, 2)).flatten(1)
    directions = sample / sample.norm(dim=1, keepdim=True)
    # On the unit sphere of 4 dimensions the second moment is I / 4; standard errors are below 0.006; five of them.
    torch.testing.assert_close(directions.T @ directions / 4096, torch.eye(4) / 4, rtol=0, atol=0.03)
    torch.testing.assert_close(directions.mean(0), torch.zeros(4), rtol=0, atol=0.04)


@pytest.mark.parametrize(("threat", "dual"), [(Linf(1.0), 1), (L2(1.0), 2)], ids=str)
def test_steepest_ascent_gains_the_dual_norm_of_the_gradient(threat, dual):
    # By Hoelder's inequality no direction of unit norm gains more.
    grad = torch.randn(5, 3, 4, 4)
    direction = threat.steepest_ascent(grad)
    gain = (direction * grad).flatten(1).sum(1).numpy()
    expected = [np.linalg.norm(one.double().numpy().ravel(), ord=dual) for one in grad]
    np.testing.assert_allclose(gain, expected, rtol=1e-5)  # float32 sums of 48 terms
    np.testing.assert_allclose(threat.norm(direction).numpy(), 1, rtol=1e-6)


@pytest.mark.parametrize("threat", [Linf(1.0), L2(1.0)], ids=str)
def test_steepest_ascent_stays_put_where_there_is_no_gradient(threat):
    assert torch.equal(threat.steepest_ascent(torch.zeros(2, 1, 2, 2)), torch.zeros(2, 1, 2, 2))


@pytest.mark.parametrize("threat", [Linf(1.0), L2(1.0)], ids=str)
def test_steepest_ascent_has_unit_norm_for_tiny_gradients(threat):
    # A classifier with a margin of 40 nats has softmax gradients of order exp(-40) = 4e-18.
    direction = threat.steepest_ascent(4e-18 * torch.randn(3, 3, 4, 4))
    torch.testing.assert_close(threat.norm(direction), torch.ones(3), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("text", "threat"),
    [
        ("linf:8/255", Linf(8 / 255)),
        ("linf:0.5/255", Linf(0.5 / 255)),
        ("linf:0.3", Linf(0.3)),
        ("l2:0.5", L2(0.5)),
        ("l2:128/255", L2(128 / 255)),
        ("l2:1.5", L2(1.5)),
    ],
)
def test_parse_threat_reads_norm_and_radius(text, threat):
    assert parse_threat(text) == threat


@pytest.mark.parametrize("threat", [Linf(8 / 255), Linf(1 / 255), Linf(0.3), L2(0.5), L2(128 / 255), L2(1.0)], ids=str)
def test_parse_threat_reads_what_str_writes(threat):
    assert parse_threat(str(threat)) == threat


def test_parse_threat_reads_every_digit_that_str_writes():
    threat = L2(0.123456789)
    assert parse_threat(str(threat)) == threat


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linf", "eps must be a number or a fraction, got '' in 'linf'; for example 8/255"),
        ("l1:0.5", "threat must be linf:EPS or l2:EPS, got 'l1:0.5'"),
        ("", "threat must be linf:EPS or l2:EPS, got ''"),
        ("linf:eight", "eps must be a number or a fraction, got 'eight'"),
        ("linf:8/0", "eps must be a number or a fraction, got '8/0'"),
        ("linf:8/255/2", "eps must be a number or a fraction, got '8/255/2'"),
        ("linf:8", r"eps must be in \(0, 1\), got 8; pixels are in \[0, 1\]"),
        ("linf:0", r"eps must be in \(0, 1\), got 0"),
        ("linf:nan", r"eps must be in \(0, 1\), got nan"),
        ("l2:-0.5", "eps must be positive, got -0.5"),
        ("l2:inf", "eps must be positive, got inf"),
    ],
)
def test_parse_threat_says_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        parse_threat(text)


@pytest.mark.parametrize("threat", [Linf, L2])
@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_a_threat_needs_a_finite_radius_of_at_least_zero(threat, eps):
    with pytest.raises(ValueError, match=f"eps must be a finite number of at least 0, got {eps}"):
        threat(eps)


@pytest.mark.parametrize(
    ("threat", "text"),
    [
        (Linf(8 / 255), "linf:8/255"),
        (Linf(0.5), "linf:0.5"),
        (Linf(0.0), "linf:0"),
        (Linf(0.03), "linf:0.03"),
        (L2(1.0), "l2:1"),
        (L2(0.2), "l2:0.2"),
    ],
    ids=str,
)
def test_a_threat_writes_multiples_of_a_255th_as_fractions_where_they_count_levels(threat, text):
    assert str(threat) == text
