"""The page in a real browser: by mouse, by keyboard, on a phone; nothing leaves the machine, or becomes a file."""

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robust_hub.data import Source, load_test_data
from robust_hub.demo import exhibit_of, open_page, pictures_of, plain_exhibit
from robust_hub.evaluation import surrogate
from robust_hub.hub import load_with_folder
from tests.made_up import CNN, evaluated

pytest.importorskip("gradio")
pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="the last jaxtyping for Python 3.10 hides from gradio that a checked function yields",
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The names of a plain network and of a model, and the address of their page."""
    folder = evaluated(tmp_path_factory.mktemp("demo") / "model", "resnet18_cifar", CNN)
    data = load_test_data(Source("synthetic"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "STEPS", 10)
        exhibits = [plain_exhibit(data), exhibit_of(*load_with_folder(f"local-dir:{folder}"), data)]
    page, address = open_page(exhibits, pictures_of(data, 4))
    yield [exhibit.name for exhibit in exhibits], address
    page.close()


@pytest.fixture
def opened(browser, shown):
    """Opens the page in a window of its own; in the end nothing may have gone wrong in it, or left this machine."""
    pages, wrong = [], []

    def open_(**options):
        page = browser.new_context(**options).new_page()
        pages.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if leaves(request.url) else None)
        page.goto(shown[1])
        wait_until_done(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert wrong == []


def leaves(url: str) -> bool:
    return not re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", url)


def status_of(page) -> str:
    return page.locator("#status").inner_text().strip()


def wait_until_done(page, told: str = "done: 20 steps of PGD") -> None:
    page.wait_for_function(
        "told => document.querySelector('#status')?.innerText.trim().startsWith(told)", arg=told, timeout=60_000
    )


def test_both_models_are_shown_before_and_after(opened, shown):
    page = opened(viewport={"width": 1280, "height": 900})
    assert page.locator(".exhibit h2").all_inner_texts() == shown[0]
    assert page.locator(".exhibit figure").count() == 8
    # Begins at the threat that the model's card is about.
    assert status_of(page) == "done: 20 steps of PGD at linf:1/255 against each"
    assert page.locator(".curves img").count() == 1


def test_a_picture_of_one_s_own_is_taken_and_kept_in_no_file(opened, tmp_path):
    page = opened()
    before = page.locator(".exhibit img").first.get_attribute("src")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(tmp_path / "own.png")
    page.locator("input[type=file]").set_input_files(tmp_path / "own.png")
    page.wait_for_function(
        "before => document.querySelector('.exhibit img').src !== before", arg=before, timeout=60_000
    )
    wait_until_done(page)
    from gradio.utils import get_upload_folder

    assert Path(get_upload_folder()).is_relative_to("/dev/shm") or not Path("/dev/shm").is_dir()


def test_what_is_no_picture_gets_one_sentence(opened, tmp_path):
    page = opened()
    (tmp_path / "letter.png").write_text("no picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "letter.png")
    wait_until_done(page, "That file is no picture that can be read; drop another one")


def test_a_picture_of_the_data_set_can_be_picked(opened):
    page = opened()
    before = page.locator(".exhibit img").first.get_attribute("src")
    page.locator("#pictures button").nth(2).click()
    page.wait_for_function(
        "before => document.querySelector('.exhibit img').src !== before", arg=before, timeout=60_000
    )
    wait_until_done(page)


def test_the_slider_is_moved_by_the_keyboard(opened):
    page = opened()
    slider = page.locator("input[type=range]")
    slider.focus()
    begun = time.monotonic()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    # From 1/255, in steps of half a level.
    wait_until_done(page, "done: 20 steps of PGD at linf:4/255")
    assert time.monotonic() - begun < 60
    assert float(slider.input_value()) == 4


def test_another_norm_has_a_slider_of_its_own(opened):
    page = opened()
    page.get_by_label("l2").check()
    wait_until_done(page, "done: 20 steps of PGD at l2:0.5")
    assert float(page.locator("input[type=range]").input_value()) == 0.5


def test_on_a_phone_nothing_is_wider_than_the_screen(opened):
    page = opened(viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ends = "Math.max(...[...document.querySelectorAll('img')].map(each => each.getBoundingClientRect().right))"
    assert page.evaluate(ends) <= 390
