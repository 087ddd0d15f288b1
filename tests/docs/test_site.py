"""The site is built without network and without a broken link, and tells what the code tells."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site") / "site"
    # Strict, so that a link which leads nowhere is an error.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def text_of(page: Path) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())


def test_every_page_of_docs_is_in_it(site):
    assert "withstand adversarial perturbations" in text_of(site / "index.html")
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.stem / "index.html").is_file()


def test_options_are_those_of_the_dataclasses(site):
    told = text_of(site / "options" / "index.html")
    assert "--output required the folder; it must be new, unless the run is resumed." in told
    assert "--batch-size 128 images a step" in told
    assert "FOLDER required of the model." in told


def test_the_api_tells_docstrings(site):
    told = text_of(site / "api" / "attacks" / "index.html")
    assert "Climbs the cross-entropy from uniform random starts and keeps the best restart for each image." in told
    offered = re.findall(r"from \.\S+ import (\w+)", (ROOT / "robust_hub" / "attacks" / "__init__.pyi").read_text())
    assert [name for name in offered if name not in told] == []


def test_no_page_loads_anything_from_elsewhere(site, browser):
    page, loaded = browser.new_page(), []
    page.on("request", lambda request: loaded.append(request.url))
    for place in ("index.html", "options/index.html", "api/attacks/index.html"):
        page.goto((site / place).as_uri())
    page.close()
    assert [url for url in loaded if not url.startswith(("file:", "data:"))] == []
