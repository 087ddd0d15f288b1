"""The page, by gradio: a picture, a threat, and what each model makes of them."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, no_type_check

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robust_hub.data import read_encoded
from robust_hub.demo.exhibits import Exhibit
from robust_hub.demo.pictures import Picture, address_of, coloured, magnified, seen
from robust_hub.demo.views import STEPS, View, look
from robust_hub.evaluation import Curve, plot_accuracy_curves
from robust_hub.launch import tell
from robust_hub.threats import L2, Linf, Threat, parse_threat

if TYPE_CHECKING:
    import gradio

HERE = Path(__file__).parent
CURVE = "accuracy_against_eps.png"
TITLE = "What does it withstand?"
# The memory of Linux, as a folder.
MEMORY = Path("/dev/shm")
# By norm: the largest eps of the slider, its step, where it stands first, and what one of it is in pixel units.
SLIDERS = {"linf": (16.0, 0.5, 8.0, 1 / 255), "l2": (2.0, 0.05, 0.5, 1.0)}
ABOUT = {"linf": "eps, in levels of 255: every pixel value may change by so much", "l2": "eps: length of the change"}
NO_PICTURE = "That file is no picture that can be read; drop another one, or pick one below."


@dataclass
class Visit:
    """What one visitor looks at.

    Attributes:
        picture: as its file had it; it lives here and in no file.
        turn: how often something was asked for; only the newest question is answered.
    """

    picture: bytes
    turn: int = 0


def show(exhibits: Sequence[Exhibit], pictures: Sequence[Picture], *, port: int | None = None) -> None:
    """Opens the page, tells its address, and waits until somebody stops it; the arguments are those of `open_page`."""
    page, address = open_page(exhibits, pictures, port=port)
    tell(f"the page is at {address}; Ctrl-C ends it")
    page.block_thread()


def open_page(
    exhibits: Sequence[Exhibit], pictures: Sequence[Picture], *, port: int | None = None
) -> tuple["gradio.Blocks", str]:
    """Opens the page on this machine; what is uploaded stays in memory.

    Args:
        exhibits: the models, in their order.
        pictures: to pick from, at least one; the first is shown first.
        port: of the page; the first that is free where there is none.

    Returns:
        The page, and its address.

    Raises:
        ValueError: when gradio is missing, or the port is taken.
    """
    gradio = _gradio()
    page = build(gradio, exhibits, pictures)
    try:
        _, address, _ = page.queue(default_concurrency_limit=None).launch(
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            show_error=True,
            max_file_size="50mb",
            ssr_mode=False,
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css_paths=HERE / "page.css",
        )
    except OSError as error:
        raise ValueError(f"the page can't be opened at port {port} ({error}); choose another --port") from error
    return page, address


# Gradio asks of a function whether it yields, which one whose types are checked as it runs does not look like.
@no_type_check
def build(gradio: Any, exhibits: Sequence[Exhibit], pictures: Sequence[Picture]) -> "gradio.Blocks":
    """Puts the page together.

    Args:
        gradio: the module.
        exhibits: see `open_page`.
        pictures: see `open_page`.
    """
    threat = _first_threat(exhibits)
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 60)) as page:
        gradio.HTML(f"<h1>{TITLE}</h1>")
        visit = gradio.State(Visit(pictures[0].encoded))
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                file = gradio.File(type="binary", label="drop a picture here, or choose one", height=150)
                gallery = gradio.Gallery(
                    [(picture.image, picture.caption) for picture in pictures],
                    label="or pick one",
                    elem_id="pictures",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                )
                norms = gradio.Radio(list(SLIDERS), value=threat.name, label="norm")
                eps = gradio.Slider(**_slider(threat), buttons=[])
                status = gradio.HTML(elem_id="status")
            with gradio.Column(scale=3, min_width=300):
                views = [gradio.HTML() for _ in exhibits]
        if curves := _curves(exhibits):
            gradio.HTML(f'<div class="curves"><h2>As the cards tell</h2>{curves}</div>')

        def ask(now: Visit, of_norm: str, radius: float) -> Iterator[list[Any]]:
            now.turn += 1
            turn = now.turn
            for answer in answers(exhibits, now.picture, threat_of(of_norm, radius)):
                # Somebody has asked for something else meanwhile.
                if now.turn != turn:
                    return
                yield answer

        def drop(now: Visit, encoded: bytes | None, of_norm: str, radius: float) -> Iterator[list[Any]]:
            if encoded is not None:
                now.picture = encoded
                yield from ask(now, of_norm, radius)

        def pick(now: Visit, of_norm: str, radius: float, event: gradio.SelectData) -> Iterator[list[Any]]:
            now.picture = pictures[event.index].encoded
            yield from ask(now, of_norm, radius)

        asked, shown = [visit, norms, eps], [status, *views]
        # A new question is begun at once, and ends the one before.
        at_once = {"outputs": shown, "trigger_mode": "multiple", "show_progress": "hidden", "concurrency_limit": None}
        page.load(ask, asked, **at_once)
        eps.input(ask, asked, **at_once)
        file.upload(drop, [visit, file, norms, eps], **at_once)
        gallery.select(pick, asked, **at_once)
        norms.input(lambda chosen: gradio.Slider(**_slider(usual(chosen))), norms, eps).then(ask, asked, **at_once)
    return page


def answers(exhibits: Sequence[Exhibit], encoded: bytes, threat: Threat) -> Iterator[list[Any]]:
    """Tells how far the attacks are, and what each model makes of the picture so far.

    Args:
        exhibits: the models.
        encoded: the picture, as a file has it.
        threat: what is tried on it.

    Yields:
        A line, and a part of the page for each model.
    """
    told = [""] * len(exhibits)
    for number, exhibit in enumerate(exhibits):
        try:
            levels = read_encoded(encoded, exhibit.classifier.preprocessing)
        except ValueError:
            yield [NO_PICTURE, *told]
            return
        for view in look(exhibit, levels.float() / 255, threat):
            told[number] = written(view, threat)
            yield [f"{escape(exhibit.name)}: step {view.steps} of {STEPS}", *told]
    yield [f"done: {STEPS if threat.eps else 0} steps of PGD at {threat} against each", *told]


def written(view: View, threat: Threat) -> str:
    """Writes what a model makes of a picture as a part of the page."""
    delta, factor = magnified(view.adversarial - view.image)
    verdict = f"withstands {threat} so far: {view.steps} steps of PGD have not changed its first label"
    if view.is_fooled:
        verdict = f"fooled at {threat}: its first label is no more what it was"
    return _template().render(
        view=view,
        verdict=verdict,
        image=seen(view.image),
        adversarial=seen(view.adversarial),
        delta=delta,
        factor=factor,
        gradient=coloured(view.gradient),
    )


def threat_of(norm: str, radius: float | int) -> Threat:
    """Makes the threat that the slider means, which sends whole numbers as such."""
    eps = radius * SLIDERS[norm][-1]
    return Linf(eps) if norm == "linf" else L2(eps)


@cache
def _template():
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("view_template.html")


def _gradio() -> Any:
    """Imports gradio, which is told before where files go that are uploaded, and to tell nobody of it.

    Raises:
        ValueError: when it is missing.
    """
    folder = tempfile.mkdtemp(prefix="robust_hub_demo_", dir=MEMORY if MEMORY.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    try:
        import gradio
    except ImportError as error:
        raise ValueError("the page needs gradio; pip install 'robust_hub[demo]'") from error
    return gradio


def usual(norm: str) -> Threat:
    """Gives the threat of a norm that the slider begins with, where no model tells another."""
    return threat_of(norm, SLIDERS[norm][2])


def _first_threat(exhibits: Sequence[Exhibit]) -> Threat:
    return next((parse_threat(each.report.threat) for each in exhibits if each.report), usual("linf"))


def _slider(threat: Threat) -> dict[str, Any]:
    """Describes a slider that begins at a threat and goes to twice its eps at least."""
    most, step, _, unit = SLIDERS[threat.name]
    value = threat.eps / unit
    return {"minimum": 0, "maximum": max(most, 2 * value), "step": step, "value": value, "label": ABOUT[threat.name]}


def _curves(exhibits: Sequence[Exhibit]) -> str:
    """Draws accuracy against eps as evaluations tell it, one for each threat; of older ones, takes the picture."""
    curves: dict[str, dict[str, Curve]] = {}
    drawn = []
    for exhibit in exhibits:
        if exhibit.report and exhibit.report.curve:
            curves.setdefault(exhibit.report.threat, {})[exhibit.name] = exhibit.report.curve
        elif exhibit.folder and (file := exhibit.folder / CURVE).is_file():
            drawn.append((f"accuracy of {exhibit.name} against eps", file.read_bytes()))
    for threat, of_threat in curves.items():
        with TemporaryDirectory() as folder:
            radius = parse_threat(threat)
            plot_accuracy_curves(file := Path(folder) / CURVE, of_threat, norm=radius.name, reported=radius.eps)
            drawn.append((f"accuracy against eps, {threat}", file.read_bytes()))
    return "".join(f'<img alt="{escape(told)}" src="{address_of(encoded)}">' for told, encoded in drawn)
