"""A folder that a Space on the Hub runs as it is: models, pictures, and a program of a few lines."""

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from robust_hub.demo.exhibits import Exhibit
from robust_hub.demo.pictures import Picture
from robust_hub.files import whole_folder
from robust_hub.model_folder import Provenance, name_labels, save

APP = '''"""Shows what the models of this folder withstand; written by `robust_hub demo --space`."""

from pathlib import Path

from robust_hub import demo, hub

HERE = Path(__file__).parent
folders = sorted((HERE / "models").iterdir())
models = [demo.exhibit_of(*hub.load_with_folder(f"local-dir:{folder}"), None) for folder in folders]
demo.show(models, demo.pictures_in(HERE / "pictures"))
'''
README = """---
title: What does it withstand?
emoji: 🛡
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
app_file: app.py
pinned: false
---

# What does it withstand?

Drop a picture, choose a threat, and see what each model makes of it before and after an attack. Uploads stay in memory.
"""


def write_space(folder: Path, exhibits: Sequence[Exhibit], pictures: Sequence[Picture]) -> None:
    """Writes the folder, whole or not at all.

    Args:
        folder: a new one.
        exhibits: the models, which are copied into it in their order.
        pictures: to pick from.
    """
    with whole_folder(folder) as space:
        (space / "app.py").write_text(APP)
        (space / "requirements.txt").write_text(f"robust_hub[demo]=={version('robust_hub')}\n")
        (space / "README.md").write_text(README.format(gradio=version("gradio")))
        for number, exhibit in enumerate(exhibits):
            _write_model(space / "models" / f"{number:03}_{exhibit.classifier.architecture}", exhibit)
        (space / "pictures").mkdir()
        for number, picture in enumerate(pictures):
            (space / "pictures" / f"{number:02}_{_file_name(picture.caption)}.png").write_bytes(picture.encoded)


def _write_model(folder: Path, exhibit: Exhibit) -> None:
    if exhibit.folder:
        shutil.copytree(exhibit.folder, folder)
        if not exhibit.classifier.label_names:
            # Found by the images here, which are not there.
            name_labels(folder, exhibit.label_names)
        return
    parameters = sum(weights.numel() for weights in exhibit.classifier.parameters())
    provenance = Provenance(
        name=exhibit.name,
        architecture=exhibit.classifier.architecture,
        parameters=parameters,
        method="Plain()",
        data=exhibit.data,
        threat="",
        eps=0.0,
        command="robust_hub demo",
        origin="trained in passing, to stand beside robust models",
    )
    save(folder, exhibit.classifier, provenance, label_names=exhibit.label_names)


def _file_name(caption: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "- " else "-" for letter in caption)[:60]
