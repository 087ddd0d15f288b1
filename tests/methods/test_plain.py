import pytest

from robust_hub.methods import Plain


def test_plain_is_the_mean_cross_entropy(create_smooth, by_hand, images, labels):
    student = create_smooth()
    hand = by_hand(student)
    pairs = zip(images.double().numpy(), labels.tolist(), strict=True)
    expected = sum(hand.cross_entropy(image, label) for image, label in pairs) / 6
    losses = Plain(student)(images, labels)
    # float32 logits of order 1.
    assert losses.total.item() == pytest.approx(expected, abs=1e-5)
    assert losses.terms == {"cross_entropy": losses.total}
