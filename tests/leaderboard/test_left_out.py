"""One bad folder costs its own row, and one bad card its own card; terminal and page name both."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recipes.compare import compare
from robust_hub.hub import left_out, list_models

ROOT = Path(__file__).parents[2]
LIKE = ROOT / "model_cards" / "resnet10t.rslad_linf8_cifar10"
GOOD = (LIKE / "config.json").read_bytes()
NESTED = b"[" * 900 + b"]" * 900
BAD = {
    "no_json": (b"{", "config.json is not readable JSON"),
    "no_text": (b"\xff\xfe{}", "config.json is not readable JSON"),
    "no_object": (b"[]", "config.json must hold a JSON object, got list"),
    "no_network": (b"{}", "config.json must name an architecture of timm's"),
    "nested": (GOOD.replace(b'"output_stride": 8', b'"output_stride": ' + NESTED), ""),
    "nested_claim": (GOOD.replace(b'"stock": true', b'"stock": ' + NESTED), ""),
    "no_threat": (
        GOOD.replace(b'"linf:8/255",\n      "protocol"', b'"any",\n      "protocol"'),
        "threat must be linf:EPS",
    ),
    "endless": (
        GOOD.replace(b'"protocol": "AutoAttack"', b'"protocol": "' + b"p" * 120_000 + b'"'),
        "claims what can't",
    ),
    "young": (json.dumps(json.loads(GOOD) | {"robustness": {}}).encode(), "nobody has evaluated it yet"),
}
CARDS = {
    "cardless": None,
    "link": Path("/etc/hostname"),
    "no_utf": b"\xff",
    "large": b"- a\n" * 2_000_000,
    "fine": b"# Hello\n",
}


class Page(HTMLParser):
    """The models of a page's table, the lines that tell who is left out, and the texts of its cards."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.left_out, self.cards, self._into = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "tr" and "data-model" in told:
            self.rows.append(told["data-model"])
        elif tag == "ul":
            self._into = "left out" if told.get("class") == "left-out" else None
        elif tag == "li" and self._into == "left out":
            self.left_out.append("")
        elif tag == "article":
            self._into = told["id"]
            self.cards[self._into] = ""

    def handle_endtag(self, tag):
        if tag in ("ul", "article"):
            self._into = None

    def handle_data(self, data):
        if self._into == "left out" and self.left_out:
            self.left_out[-1] += data
        elif self._into in self.cards:
            self.cards[self._into] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, (config, _) in BAD.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes(config)
    for name, card in CARDS.items():
        (folder / name).mkdir()
        shutil.copy(LIKE / "config.json", folder / name)
        if isinstance(card, Path):
            (folder / name / "README.md").symlink_to(card)
        elif card is not None:
            (folder / name / "README.md").write_bytes(card)
    published = b'"robust-hub/resnet10t.rslad_linf8_cifar10",\n    "pictures"'
    nowhere = GOOD.replace(published, rb'"a/b\"); import os #", "pictures"')
    assert nowhere != GOOD
    (folder / "cardless" / "config.json").write_bytes(nowhere)
    (folder / "no_model").mkdir()
    return folder


@pytest.fixture(scope="module")
def compared(folder):
    with pytest.MonkeyPatch.context() as patched:
        told = []
        patched.setattr("recipes.compare.tell", told.append)
        compare(folder, html=folder / "index.html")
    return "\n".join(told), Page((folder / "index.html").read_text(encoding="utf-8"))


def test_a_bad_folder_is_not_listed_and_its_reason_is_told(folder):
    assert {Path(place).name for place in list_models(folder=folder)} == set(CARDS)
    reasons = left_out(folder)
    assert set(reasons) == set(BAD)
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name]
        assert len(reasons[name]) < 400
        assert str(folder) not in reasons[name]


def test_terminal_and_page_name_who_is_left_out_and_why(folder, compared):
    told, page = compared
    assert sorted(page.rows) == sorted(CARDS)
    lines = [" ".join(line.split()) for line in page.left_out]
    for name, (_, reason) in BAD.items():
        (line,) = [line for line in lines if line.startswith(f"{name} (")]
        assert reason in line
        assert f"left out: {line}\n" in told
    assert len(lines) == len(BAD)


def test_a_bad_card_costs_itself_and_no_other(compared):
    told, page = compared
    shown = {name: " ".join(text.split()) for name, text in page.cards.items()}
    assert shown["fine"].startswith("Hello")
    assert shown["cardless"] == "There is no README.md in its folder."
    for name, reason in {"link": "is a link", "no_utf": "is no text in UTF-8", "large": "has 8,000,000 bytes"}.items():
        assert shown[name].startswith(f"Its card is not shown: README.md {reason}")
        assert f"card not shown: {name} (README.md {reason}" in told
    assert "hostname" not in shown["link"]


def test_only_what_can_be_a_name_on_the_hub_is_to_be_copied(folder, compared):
    text = (folder / "index.html").read_text(encoding="utf-8")
    load = "timm.create_model(&#34;hf-hub:robust-hub/resnet10t.rslad_linf8_cifar10&#34;, pretrained=True).eval()"
    assert text.count(f'value="import timm; model = {load}"') == text.count('class="copy"') == len(CARDS) - 1
    assert "import os" not in text


def test_figures_are_called_claimed_and_nowhere_confirmed(folder, compared):
    told, _ = compared
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "All figures are claimed by the models' publishers" in re.sub(r"\s+", " ", text)
    assert "claimed robust" in text
    assert "confirm" not in text + told


def test_a_folder_of_nothing_but_bad_ones_tells_each_and_then_refuses(folder, tmp_path, capsys):
    shutil.copytree(folder / "no_json", tmp_path / "no_json")
    with pytest.raises(ValueError, match=f"no model in {tmp_path} has an evaluation"):
        compare(tmp_path, html=tmp_path / "index.html")
    assert capsys.readouterr().out.startswith("left out: no_json (config.json is not readable JSON")
    assert not (tmp_path / "index.html").exists()
