import pytest


@pytest.fixture(scope="package", autouse=True)
def brief_surrogates():
    """Lets evaluations train the plain network of their honesty checks in 20 steps, as here it need not be good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_hub.evaluation.surrogate.STEPS", 20)
        yield


@pytest.fixture(scope="package", autouse=True)
def no_pictures():
    """Lets runs in this process end without their pictures, a third of their time; tests/training looks at these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_hub.training.run.draw_pictures", lambda *_: None)
        yield
