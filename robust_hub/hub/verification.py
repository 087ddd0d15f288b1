"""Verifies what a folder claims, with the model that its evaluation is about."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from robust_hub.errors import CheckpointError
from robust_hub.evaluation import SPOTS, Report, Verified, verify_evaluation
from robust_hub.hub.fetching import open_folder
from robust_hub.hub.loading import load
from robust_hub.model_folder import check_claims, load_folder
from robust_hub.names import CARD, CONFIG, ENTRIES, EVALUATION, EVIDENCE, SOURCES, WEIGHTS


def verify(name: str, *, data: str = "", spot_check: int = SPOTS) -> Verified:
    """Confirms the evidence of a finished evaluation, and attacks a few of the images that it calls robust.

    Args:
        name: of a model with its evaluation, see `load`; or the folder that evaluate.py wrote.
        data: the data set, where the evaluation calls it by a name that is not known here.
        spot_check: attacks so many images, drawn at random; none where it is 0.

    Raises:
        ValueError: when the number of images is negative.
        CheckpointError: when card, config.json and evaluation tell different things; when weights, images or
            perturbations are not the evaluation's, or do not do what it says; or when the attack fools what it says
            can't be fooled.
    """
    if spot_check < 0:
        raise ValueError(f"--spot-check must be at least 0, got {spot_check}")
    # Nobody should know before which images are attacked.
    generator = np.random.default_rng()
    path = Path(name).expanduser()
    is_path = not name.startswith(SOURCES) and path.is_dir()
    if is_path and not (path / CONFIG).is_file():
        report = Report.read(path)
        classifier = load(report.model)
        return verify_evaluation(classifier, report, path, data=data, spot_check=spot_check, generator=generator)
    place = f"local-dir:{name}" if is_path else name
    folder = open_folder(place, [CONFIG, WEIGHTS, EVALUATION, EVIDENCE, CARD])
    with suppress(CheckpointError):
        # Not every folder has entries.
        open_folder(folder.place, [ENTRIES.as_posix()])
    report = Report.read(folder.path)
    check_claims(folder, report)
    classifier = load_folder(folder)
    return verify_evaluation(classifier, report, folder.path, data=data, spot_check=spot_check, generator=generator)
