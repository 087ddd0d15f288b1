"""Verifies what a folder claims, with the model that its evaluation is about."""

from pathlib import Path

from robust_hub.evaluation import Report, Verified, verify_evaluation
from robust_hub.hub.fetching import open_folder
from robust_hub.hub.loading import load
from robust_hub.model_folder import load_folder
from robust_hub.names import CONFIG, EVALUATION, EVIDENCE, SOURCES, WEIGHTS


def verify(name: str, *, data: str = "") -> Verified:
    """Confirms the evidence of a finished evaluation, without running an attack.

    Args:
        name: of a model with its evaluation, see `load`; or the folder that evaluate.py wrote.
        data: the data set, where the evaluation calls it by a name that is not known here.

    Raises:
        CheckpointError: when weights, images or perturbations are not the evaluation's, or do not do what it says.
    """
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if path.is_dir() and not (path / WEIGHTS).is_file():
        return verify_evaluation(load(Report.read(path).model), path, data=data)
    is_path = not name.startswith(SOURCES) and (path / CONFIG).is_file()
    folder = open_folder(f"local-dir:{name}" if is_path else name, [CONFIG, WEIGHTS, EVALUATION, EVIDENCE])
    return verify_evaluation(load_folder(folder), folder.path, data=data)
