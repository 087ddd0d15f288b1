"""Two data sets that need no download: scikit-learn's handwritten digits, and synthetic stripes for tests."""

from functools import cache

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage


@cache
def digits() -> Dataset:
    """Returns the 1,797 handwritten digits of scikit-learn, grey, 8x8 shown as 32x32.

    Source: Alpaydin and Kaynak, UCI ML repository 1998, CC BY 4.0.
    """
    # Imported here, as it takes seconds and only these images need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = [
        PILImage.fromarray((image * (255 / 16)).round().astype(np.uint8)).resize((32, 32), PILImage.Resampling.BILINEAR)
        for image in bunch.images
    ]
    return _dataset(images, bunch.target, [str(name) for name in bunch.target_names])


@cache
def synthetic() -> Dataset:
    """Returns 400 colour images of 16x16 px in four classes: stripes of four directions at random phase, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    rows, columns = np.mgrid[:16, :16] / 16
    directions = np.array([(0, 1), (1, 0), (1, 1), (1, -1)])[labels]
    phase = rng.uniform(0, 2 * np.pi, 400)
    waves = directions[:, 0, None, None] * rows + directions[:, 1, None, None] * columns
    stripes = np.sin(2 * np.pi * 2 * waves + phase[:, None, None])
    pixels = 0.5 + 0.3 * stripes[..., None] + rng.normal(0, 0.08, (400, 16, 16, 3))
    images = [PILImage.fromarray(image) for image in (pixels.clip(0, 1) * 255).round().astype(np.uint8)]
    return _dataset(images, labels, ["vertical", "horizontal", "diagonal", "antidiagonal"])


def _dataset(images: list, labels: np.ndarray, label_names: list[str]) -> Dataset:
    features = Features({"image": Image(), "label": ClassLabel(names=label_names)})
    return Dataset.from_dict({"image": images, "label": labels.tolist()}, features=features)


BUILTIN = {"digits": digits, "synthetic": synthetic}
