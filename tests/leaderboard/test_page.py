"""The comparison, and its page as people use it: in Chromium, by mouse and by keyboard, without server or network."""

import json
import re
import runpy
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml

from recipes.compare import compare
from robust_hub.evaluation import Evaluation, Report
from robust_hub.hub import list_models
from robust_hub.leaderboard import PAGE
from robust_hub.leaderboard.table import pareto_front
from robust_hub.model_folder import Lineage, describe, save
from robust_hub.models import create_classifier
from tests.made_up import NAMES, VIT, provenance, report

ROOT = Path(__file__).parents[2]
AUTO_ATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")
HOSTILE = '"><script>document.title = "owned"</script><img src=x onerror="document.title = 1"> $x$ & \'<b>'
N = 200


@dataclass(frozen=True)
class Made:
    """A model that nobody trained: what its card is to say. Accuracies are counts of N images."""

    clean: int
    robust: int
    seconds: float
    teacher_seconds: float | None = 0.0
    data: str = "cifar10"
    threat: str = "linf:8/255"
    attacks: tuple[str, ...] = AUTO_ATTACK
    method: str = "IGAM(weight=2.0)"
    flagged: bool = False
    license: str = "mit"
    hardware: str = "1 x (AMD EPYC, 1 threads), bf16"
    name: str = ""
    notes: str = ""
    repository: str = ""
    claim: dict = field(default_factory=dict)


MODELS = {
    "resnet10t.igam_linf8_cifar10": Made(160, 90, 1355, 2546.0),
    "resnet10t.pag_linf8_cifar10": Made(165, 80, 1780, 2546.0, method="PAG(targets='teacher')"),
    "resnet10t.rrm_linf8_cifar10": Made(170, 60, 99, 2546.0, method="RRM(projection=False)"),
    "resnet18_cifar.nfgsm_linf8_cifar10": Made(150, 85, 2546, method="NFGSM(2.0)"),
    "resnet18_cifar.mixacm_linf8_cifar10": Made(172, 85, 838, 2546.0, attacks=("pgd",), method="MixACM(all stages)"),
    "resnet18_cifar.quick_linf8_cifar10": Made(171, 100, 10_000, attacks=AUTO_ATTACK[:2], method="PGD-AT()"),
    "resnet50.igam_linf8_cifar10": Made(180, 150, 30, flagged=True),
    "resnet50.kd_linf8_cifar10": Made(182, 40, 300, None, method="KD(temperature=4.0)"),
    "vit_tiny_patch16_224.igam_l2_digits": Made(196, 170, 58, 62.0, data="digits", threat="l2:0.5", hardware="laptop"),
    "small_cnn_grey.trades_l2_digits": Made(
        196,
        180,
        120,
        data="digits",
        threat="l2:0.5",
        method="TRADES(6.0, 10)",
        repository="tiny-org/small_cnn_grey.trades_l2_digits",
        claim={"architecture": "small_cnn_grey", "stock": False, "parameters": 5_000_000},
    ),
}


def masks(made: Made) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    places = np.arange(N)
    return places < made.clean, {name: places < made.robust for name in made.attacks}


def written(folder: Path, like: Path, told: Report, made: Made) -> None:
    """Writes a model's folder: the weights of another, and a card with these figures."""
    shutil.copytree(like, folder)
    plain = provenance("vit_tiny_patch16_224")
    teacher = None if made.teacher_seconds == 0 else Lineage("hf-hub:a/t", "0" * 64, seconds=made.teacher_seconds)
    clean, survivors = masks(made)
    checks = [replace(check, flagged=made.flagged) for check in told.checks]
    described = replace(
        plain,
        name=made.name or folder.name,
        parameters=1000 * made.clean,
        method=made.method,
        threat=made.threat,
        license=made.license,
        repository=made.repository,
        teacher=teacher,
        training=replace(plain.training, seconds=float(made.seconds), hardware=made.hardware),
    )
    measured = replace(
        told,
        source=replace(told.source, data=made.data),
        threat=made.threat,
        attacks=dict.fromkeys(made.attacks, "an attack"),
        costs=dict.fromkeys(made.attacks, told.costs["pgd"]),
        evaluation=Evaluation("attacks", np.zeros(N, dtype=int), clean, survivors, 1.0),
        checks=checks,
    )
    describe(folder, described, measured)
    config = json.loads((folder / "config.json").read_text())
    config["robustness"]["claim"] |= made.claim
    (folder / "config.json").write_text(json.dumps(config))
    card = folder / "README.md"
    card.write_text(card.read_text().replace("<!-- end of notes -->", f"{made.notes}\n<!-- end of notes -->"))


@pytest.fixture(scope="module")
def like(tmp_path_factory):
    torch.manual_seed(0)
    classifier = create_classifier("vit_tiny_patch16_224", VIT, num_classes=3, image_shape=(1, 16, 16))
    told = report(classifier, NAMES)
    folder = tmp_path_factory.mktemp("like") / "model"
    save(folder, classifier, provenance(classifier.architecture), label_names=NAMES, report=told)
    return folder, told


@pytest.fixture(scope="module")
def models(tmp_path_factory, like):
    """A folder of models, and their page in it."""
    folder = tmp_path_factory.mktemp("models")
    for name, made in MODELS.items():
        written(folder / name, *like, made)
    compare(folder, html=folder)
    return folder


@pytest.fixture(scope="module")
def desktop(browser):
    return browser.new_context(viewport={"width": 1280, "height": 900})


@pytest.fixture
def opened(browser, desktop):
    """Opens a page in a window of its own; in the end nothing may have gone wrong in it, or left this machine."""
    pages, wrong = [], []

    def open_(file: Path, **options):
        page = (browser.new_context(**options) if options else desktop).new_page()
        pages.append(page)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url))
        page.on("requestfailed", lambda asked: wrong.append(asked.url))
        page.goto(file.as_uri())
        return page

    yield open_
    for page in pages:
        page.close()
    assert wrong == []


def column(page, title: str) -> list[str]:
    """The texts of a column, as it is shown now, one group of comparable models after the other."""
    return [text for group in groups(page, title) for text in group]


def groups(page, title: str) -> list[list[str]]:
    """The texts of a column, as it is shown now, of each group of comparable models."""
    return page.locator(".models").evaluate(
        """(table, title) => {
            const heads = [...table.tHead.rows[0].cells].map(head => head.textContent.replace("\u00a0", " "));
            const shown = group => [...group.rows].filter(row => row.dataset.model && row.checkVisibility());
            return [...table.tBodies].map(group => shown(group).map(row => row.cells[heads.indexOf(title)].innerText));
        }""",
        title,
    )


def names(page) -> list[str]:
    """The models that are shown now."""
    return page.locator(".models .name > a:visible").all_inner_texts()


def first_number(text: str) -> float:
    return float(text.removeprefix("≤").split()[0].replace(",", ""))


def front_by_hand(folder: Path) -> set[str]:
    """The Pareto fronts, by comparing everybody with everybody in numpy."""
    infos = list(list_models(folder=folder).values())
    robust = np.array([info.robust_accuracy.value for info in infos])
    cost = np.array([np.nan if info.seconds_with_teacher is None else info.seconds_with_teacher for info in infos])
    group = np.array([f"{info.data} {info.threat} {info.protocol}" for info in infos])
    takes_part = np.array([not info.flagged for info in infos]) & ~np.isnan(cost)
    no_worse = (robust[:, None] >= robust) & (cost[:, None] <= cost)
    better = (robust[:, None] > robust) | (cost[:, None] < cost)
    beats = no_worse & better & (group[:, None] == group) & takes_part[:, None]
    return {info.name for info, beaten, part in zip(infos, beats.any(0), takes_part, strict=True) if part & ~beaten}


@pytest.mark.parametrize(
    ("title", "attribute"),
    [("parameters", "parameters"), ("claimed robust %", "robust_accuracy"), ("training s", "seconds")],
)
def test_a_click_on_a_heading_sorts_each_group_by_number_up_and_then_down(models, opened, title, attribute):
    page = opened(models / PAGE)
    infos = list(list_models(folder=models).values())
    values = [[getattr(info, attribute) for info in infos if info.data == data] for data in ("cifar10", "digits")]
    is_share = title == "claimed robust %"
    expected = [
        sorted(round(100 * value.value, 1) if is_share else round(value) for value in group) for group in values
    ]
    heading = page.get_by_role("columnheader", name=title)
    heading.get_by_role("button").click()
    assert [[first_number(text) for text in group] for group in groups(page, title)] == expected
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    downwards = [group[::-1] for group in expected]
    assert [[first_number(text) for text in group] for group in groups(page, title)] == downwards
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.locator("[aria-sort]").count() == 1


def test_a_cost_that_is_not_known_comes_last_both_ways(models, opened):
    page = opened(models / PAGE)
    button = page.get_by_role("columnheader", name="with teacher").get_by_role("button")
    for _ in range(2):
        button.click()
        assert groups(page, "with teacher s")[0][-1] == "not known"


def test_headings_and_numbers_are_reached_and_used_by_the_keyboard(models, opened):
    page = opened(models / PAGE)
    page.get_by_role("button", name="Show all").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    page.keyboard.press("Tab")
    # The rank, and then the model.
    page.keyboard.press("Tab")
    for key, is_down in {"Enter": False, "Space": True}.items():
        page.keyboard.press(key)
        cifar10, digits = ([name for name in MODELS if data in name] for data in ("cifar10", "digits"))
        assert names(page) == sorted(cifar10, reverse=is_down) + sorted(digits, reverse=is_down)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    last = page.get_by_role("columnheader", name="licence").get_by_role("button")
    last.focus()
    # The link to the plots of the group, and then the first model.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    first = max(name for name in MODELS if "cifar10" in name)
    assert page.locator("details[open] summary").inner_text().startswith(first)


def test_filters_narrow_the_table_tell_how_many_are_left_and_dim_the_other_points(models, opened):
    page = opened(models / PAGE)
    count = page.locator("output[aria-live=polite]")
    assert count.inner_text() == "10 of 10 models"
    page.get_by_label("Data").select_option("digits")
    assert count.inner_text() == "2 of 10 models"
    assert set(names(page)) == {name for name in MODELS if "digits" in name}
    dimmed = page.locator("svg .filtered").evaluate_all("parts => parts.map(part => part.dataset.model)")
    assert set(dimmed) == {name for name in MODELS if "digits" not in name}
    page.get_by_label("Search").fill("TRADES cnn")
    assert count.inner_text() == "1 of 10 models"
    page.get_by_role("button", name="Show all").click()
    assert count.inner_text() == "10 of 10 models"
    for label, chosen, left in [
        ("Protocol", "AutoAttack", 8),
        ("Threat", "linf:8/255", 6),
        ("Method", "igam", 2),
    ]:
        page.get_by_label(label).select_option(chosen)
        assert count.inner_text() == f"{left} of 10 models"
    page.get_by_role("button", name="Show all").click()
    for label, chosen, left in [
        ("Architecture", "small_cnn_grey", 1),
        ("Parameters", "under 1 M", 9),
        ("Parameters", "1 to 10 M", 1),
        ("Loads with", "needs robust_hub", 1),
    ]:
        page.get_by_label(label).select_option(chosen)
        assert count.inner_text() == f"{left} of 10 models"
        page.get_by_role("button", name="Show all").click()


def test_a_number_leads_to_its_card(models, opened):
    page = opened(models / PAGE)
    row = page.locator(".models tbody tr", has_text="resnet10t.pag_linf8_cifar10")
    row.get_by_role("link", name="40.0").click()
    card = page.locator("article:visible")
    assert card.locator("h3").inner_text() == "resnet10t.pag_linf8_cifar10"
    assert "40.0 [33.2, 47.1]" in card.inner_text()
    top = card.locator("xpath=..").locator("summary").bounding_box()["y"]
    assert 0 <= top < 200
    target = card.get_by_role("link", name="The card in its folder").evaluate("link => link.href")
    assert target == (models / "resnet10t.pag_linf8_cifar10" / "README.md").as_uri()


def test_every_number_and_every_point_leads_to_a_card(models, opened):
    page = opened(models / PAGE)
    cells = page.locator("td.number").evaluate_all(
        "cells => cells.filter(cell => /[0-9]/.test(cell.textContent) && !cell.querySelector('a')).length"
    )
    assert cells == 0
    lost = "links => links.filter(link => !document.getElementById(link.getAttribute('href').slice(1))).length"
    assert page.locator(".models tbody a[href^='#']").evaluate_all(lost) == 0
    assert page.locator("svg a").evaluate_all(lost) == 0
    # Everybody against clean accuracy; against cost all but the one whose teacher's is not known.
    assert page.locator("svg a").count() == len(MODELS) + len(MODELS) - 1


def test_points_lie_where_their_figures_are(models, opened):
    page = opened(models / PAGE)
    clean, cost = page.locator("section", has_text="cifar10, linf:8/255").locator("svg").all()
    for plot, x_of in [
        (clean, lambda info: info.clean_accuracy.value),
        (cost, lambda info: np.log(info.seconds_with_teacher)),
    ]:
        boxes = dict(
            plot.locator("a").evaluate_all(
                "all => all.map(link => [link.getAttribute('href').slice(1), link.getBoundingClientRect().toJSON()])"
            )
        )
        infos = [info for info in list_models(folder=models).values() if info.name in boxes]
        for values, side in [
            ([x_of(info) for info in infos], "x"),
            ([info.robust_accuracy.value for info in infos], "y"),
        ]:
            length = {"x": "width", "y": "height"}[side]
            drawn = np.array([boxes[info.name][side] + boxes[info.name][length] / 2 for info in infos])
            slope, start = np.polyfit(values, drawn, 1)
            # A pixel, as markers of two shapes have boxes of two sizes that end on whole ones.
            np.testing.assert_allclose(drawn, slope * np.array(values) + start, atol=1)
            assert slope > 0 if side == "x" else slope < 0


def test_the_front_of_the_page_is_the_one_by_hand_and_has_no_flagged_model(models, opened):
    page = opened(models / PAGE)
    marked = page.locator(".models tbody tr", has=page.locator(".badge.front")).locator(".name > a").all_inner_texts()
    assert set(marked) == front_by_hand(models)
    flagged = page.locator(".models tbody tr", has=page.locator(".badge.warning"))
    assert flagged.count() == 1
    assert "resnet50.igam_linf8_cifar10" in flagged.inner_text()
    assert "Pareto front" not in flagged.inner_text()


def test_a_front_is_a_line_of_steps_and_one_of_a_single_model_a_ring(models, opened):
    page = opened(models / PAGE)
    lines = {}
    for title in ("cifar10, linf:8/255", "digits, l2:0.5"):
        plot = page.locator("section", has_text=title).locator("svg").last
        lines[title] = [line for line in plot.locator("text").all_text_contents() if line.startswith("Pareto")]
    # Two of AutoAttack's, and one of each of two other protocols; of digits one.
    assert lines == {
        "cifar10, linf:8/255": ["Pareto front, AutoAttack", "Pareto front of one model"],
        "digits, l2:0.5": ["Pareto front of one model"],
    }


def test_the_front_of_many_random_models_is_the_one_by_hand(models, monkeypatch):
    generator = np.random.default_rng(0)
    like = next(iter(list_models(folder=models).values()))
    infos = []
    for number in range(200):
        # Coarse, so that there are ties.
        value = generator.integers(0, 20) / 20
        seconds = None if generator.random() < 0.1 else float(generator.integers(1, 20))
        infos.append(
            replace(
                like,
                name=str(number),
                data=generator.choice(["a", "b"]).item(),
                protocol=generator.choice(["AutoAttack", "less"]).item(),
                robust_accuracy=replace(like.robust_accuracy, value=float(value)),
                seconds_with_teacher=seconds,
                flagged=int(generator.random() < 0.2),
            )
        )
    monkeypatch.setattr(sys.modules[__name__], "list_models", lambda folder: dict(enumerate(infos)))
    assert {info.name for info in pareto_front(infos)} == front_by_hand(models)


def test_models_stand_in_groups_and_have_ranks_where_autoattack_measured_them(models, opened):
    page = opened(models / PAGE)
    told = [heading.split("\n")[0].strip() for heading in page.locator(".group th").all_text_contents()]
    assert told == ["cifar10, linf:8/255", "digits, l2:0.5"]
    # Of 90, 85, 80, 60 and 40 right ones of 200, then a flagged one and two that were attacked by less.
    assert groups(page, "rank") == [["1", "2", "3", "4", "5", "–", "–", "–"], ["1", "2"]]
    assert groups(page, "claimed robust %")[0][4:6] == ["20.0\n[14.7, 26.2]", "75.0\n[68.4, 80.8]"]
    assert set(column(page, "n")) == {"200"}


def test_a_name_is_written_without_a_line_that_hides_its_underscores(models, opened):
    page = opened(models / PAGE)
    lines = "links => links.map(link => getComputedStyle(link).textDecorationLine)"
    assert set(page.locator(".name > a").evaluate_all(lines)) == {"none"}


def test_a_method_leads_to_its_paper_and_a_network_tells_its_images(models, opened):
    page = opened(models / PAGE)
    row = page.locator("tr[data-model]", has_text="resnet10t.pag")
    paper = row.get_by_role("link", name="Ganz et al., ICML 2023")
    assert paper.get_attribute("href") == "https://arxiv.org/abs/2207.11378"
    assert "16 px" in row.inner_text()


def test_a_button_copies_the_line_that_loads_a_model_from_the_hub(models, opened):
    page = opened(models / PAGE)
    (button,) = page.get_by_role("button", name="copy the line that loads").all()
    button.click()
    page.wait_for_function("button => button.textContent === 'copied'", arg=button.element_handle())
    search = page.get_by_label("Search")
    search.focus()
    page.keyboard.press("Control+V")
    load = 'timm.create_model("hf-hub:tiny-org/small_cnn_grey.trades_l2_digits", pretrained=True).eval()'
    assert search.input_value() == f"import timm, robust_hub; model = {load}"


def test_a_phone_shows_the_threat_of_each_model_however_far_its_table_is_scrolled(models, opened):
    page = opened(models / PAGE, viewport={"width": 390, "height": 844})
    for place in (0, 10_000):
        page.locator(".scroll").evaluate("(table, place) => table.scrollLeft = place", place)
        for row in page.locator("tr[data-model]").all():
            threat = row.get_by_text(re.compile(r"^(linf|l2):"))
            box = threat.bounding_box()
            assert 0 <= box["x"] < box["x"] + box["width"] <= 390


def test_what_is_not_autoattack_is_marked_as_a_bound(models, opened):
    page = opened(models / PAGE)
    for protocol, robust in zip(column(page, "protocol"), column(page, "claimed robust %"), strict=True):
        assert robust.startswith("≤") == (protocol != "AutoAttack")
    legend = page.locator("section", has_text="cifar10, linf:8/255").locator("svg").last.text_content()
    assert "not AutoAttack" in legend


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_the_page_sideways(models, opened, scheme):
    page = opened(models / PAGE, viewport={"width": 375, "height": 700}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("details").evaluate_all("cards => cards.forEach(card => card.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.querySelector('.scroll').scrollWidth") > 375


def test_without_javascript_table_plots_and_links_are_there_and_the_filters_are_not(models, opened):
    page = opened(models / PAGE, java_script_enabled=False)
    assert page.locator(".models tbody tr[data-model]:visible").count() == len(MODELS)
    assert not page.locator(".filters").is_visible()
    assert page.locator(".models thead button").count() == 0
    page.locator(".models tbody tr[data-model]").first.get_by_role("link", name="45.0").click()
    assert page.locator("article:visible h3").inner_text() == "resnet10t.igam_linf8_cifar10"
    assert page.locator(".copy:visible").count() == 0


def test_hostile_facts_stay_text(tmp_path, like, opened):
    folder = tmp_path / 'a "quoted" & <b> #1%20é'
    made = Made(
        100,
        50,
        10,
        name=HOSTILE,
        data=HOSTILE,
        method=HOSTILE,
        license=HOSTILE,
        hardware=HOSTILE,
        attacks=(HOSTILE,),
        notes=f"{HOSTILE}\n\n![far](https://example.com/a.png) ![up](../page.html) [run](javascript:alert(1))",
    )
    written(folder, *like, made)
    compare(tmp_path, html=tmp_path / "elsewhere" / "page.html")
    page = opened(tmp_path / "elsewhere" / "page.html")
    assert page.title() == "robust_hub: models compared"
    assert page.locator("b, article script, td script, svg script, [onerror], [href^=javascript]").count() == 0
    assert page.locator("img").count() == 0
    cells = page.locator(".models tbody").inner_text()
    # Name, protocol, method, hardware and licence; of the data, what stands behind the last slash.
    assert cells.count(HOSTILE) == 5
    assert cells.count(HOSTILE.split("/")[-1]) == 6
    page.locator(".models .name a").first.click()
    assert HOSTILE in page.locator("article:visible").inner_text()
    page.get_by_role("link", name="The card in its folder").click()
    page.wait_for_url(folder.joinpath("README.md").as_uri())


def test_a_card_shows_its_pictures_and_tables_but_no_front_matter(tmp_path, like, opened):
    shutil.copytree(like[0], tmp_path / "model")
    card = tmp_path / "model" / "README.md"
    picture = ROOT / "model_cards" / "vit_tiny_patch16_224.igam_linf0.1_digits" / "accuracy_against_eps.png"
    shutil.copy(picture, tmp_path / "model" / "a picture.png")
    card.write_text(card.read_text() + "\n![curves](<a picture.png>)\n")
    compare(tmp_path, html=tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    page.locator("summary").click()
    shown = page.get_by_role("img", name="curves")
    shown.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=shown.element_handle())
    assert page.locator("article table").count() > 0
    text = page.locator("article").inner_text()
    assert "library_name" not in text
    assert "notes:" not in text


def test_the_same_folder_gives_the_same_page(models):
    before = (models / PAGE).read_bytes()
    compare(models, html=models / PAGE)
    assert (models / PAGE).read_bytes() == before


def test_the_terminal_tells_figures_fronts_and_who_is_not_evaluated(tmp_path, like, capsys, monkeypatch):
    written(tmp_path / "resnet10t.igam", *like, Made(100, 50, 10))
    written(tmp_path / "resnet10t.quick", *like, Made(100, 60, 1234, attacks=("pgd",)))
    shutil.copytree(like[0], tmp_path / "young")
    describe(tmp_path / "young", provenance("vit_tiny_patch16_224"), None)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "recipes" / "compare.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "| 25.0 [19.2, 31.6]    | AutoAttack " in told
    assert "| <= 30.0 [23.7, 36.9] | pgd, not AutoAttack " in told
    assert "1,234" in told
    assert "left out: young (nobody has evaluated it yet)" in told


def test_a_folder_without_evaluated_models_is_told_in_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare.py", str(tmp_path), "--html", str(tmp_path / "page.html")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "recipes" / "compare.py"), run_name="__main__")
    assert capsys.readouterr().err.startswith(f"error: no model in {tmp_path} has an evaluation; write one with")
    assert list(tmp_path.iterdir()) == []


def test_a_space_has_the_page_and_what_it_shows_and_no_weights(models, tmp_path, opened):
    compare(models, space=tmp_path / "space")
    space = (tmp_path / "space").rename(tmp_path / "elsewhere")
    front = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("static", "index.html")
    assert list(space.rglob("*.safetensors")) == []
    page = opened(space / "index.html")
    assert page.locator("tr[data-model]").count() == page.locator(".models tbody tr[data-model]").count() > 0
    for link in page.locator("a[href^='models/']").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    ):
        assert (space / unquote(link)).exists(), link
    with pytest.raises(ValueError, match="is there already; choose another --space"):
        compare(models, space=space)
