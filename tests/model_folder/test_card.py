"""A card tells what was measured, is valid for the Hub, and means nothing but what it says."""

import re
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from robust_hub.data import Source
from robust_hub.evaluation import Accuracy, Cost, Evaluation
from robust_hub.model_folder import Lineage
from robust_hub.model_folder.card import read_notes, write_card
from tests.made_up import NAMES, provenance, report

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "](javascript:alert(1))",
    "`ticks` and ``more``",
    "line\nbreak\n---\n# heading",
    "*bold* _it_ ~~gone~~ $x$ \\[y\\]",
    "{{ facts }} {% raw %}",
    "key: [value, 'quote\"",
    "\u202eright to left",
    "<!-- end of notes -->",
    "# AutoAttack: 99 %",
    "1. item",
    "- item",
    "===",
]


@pytest.fixture
def told(student):
    return provenance("vit_tiny_patch16_224"), report(student, NAMES)


def html_of(card: str) -> str:
    return (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(ModelCard(card, ignore_metadata_errors=True).text)
    )


def standard(measured):
    """The same report, of AutoAttack's four stages."""
    stages = ("apgd-ce", "apgd-t", "fab-t", "square")
    mask = measured.evaluation.robust
    evaluation = Evaluation("AutoAttack", np.zeros(4, int), measured.evaluation.clean, dict.fromkeys(stages, mask), 1.5)
    costs = dict.fromkeys(stages, Cost(3, 1, 1, 0.1))
    return replace(measured, evaluation=evaluation, attacks={stage: f"{stage}()" for stage in stages}, costs=costs)


def test_the_hub_reads_the_front_matter(told):
    known, measured = told
    known = replace(
        known,
        license="mit",
        method="IGAM(weight=1.0)",
        teacher=Lineage("hf-hub:robust-hub/teacher@" + "a" * 40, "b" * 64, "cc-by-4.0"),
    )
    measured = replace(measured, source=Source("uoft-cs/cifar10"))
    data = ModelCard(write_card(known, measured)).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-classification", "mit")
    assert {"timm", "robust_hub", "linf", "igam", "arxiv:1912.05699"} <= set(data.tags)
    assert (data.datasets, data.base_model) == (["uoft-cs/cifar10"], "robust-hub/teacher")
    assert data.base_model_relation == "finetune"
    assert data.metrics == ["accuracy", "robust_accuracy"]
    clean, robust = data.eval_results
    assert (clean.metric_value, robust.metric_value) == (0.75, 0.25)
    assert robust.metric_args["n"] == 4
    assert (robust.dataset_type, robust.dataset_split) == ("uoft-cs/cifar10", "test")
    assert data.to_dict()["robust_hub"]["robust_accuracy"]["value"] == 0.25


def test_a_published_card_names_the_picture_that_the_hub_shows_beside_a_link(told):
    drawn = replace(told[0], pictures={"accuracy_against_eps.png": "Accuracy against eps."})
    assert "thumbnail" not in ModelCard(write_card(drawn, told[1])).data.to_dict()
    data = ModelCard(write_card(replace(drawn, repository="org/net"), told[1])).data.to_dict()
    assert data["thumbnail"] == "https://huggingface.co/org/net/resolve/main/accuracy_against_eps.png"


@pytest.mark.parametrize(
    ("architecture", "tier", "line"),
    [
        ("vit_tiny_patch16_224", "Tier 1: loads with timm alone", "import timm"),
        ("resnet18_cifar", "Tier 2: its architecture is not in timm", "import timm, robust_hub"),
    ],
)
def test_the_tier_is_said_before_the_two_lines_that_load_it(told, architecture, tier, line):
    text = ModelCard(write_card(replace(told[0], architecture=architecture), told[1])).text
    assert text.index(tier) < text.index(f"\n{line}\n") < text.index("timm.create_model(")


def test_what_is_not_auto_attack_says_so_in_its_first_table(told):
    known, measured = told
    weak, strong = (write_card(known, report) for report in (measured, standard(measured)))
    assert "| **robust** | **25.0 [0.6, 80.6]** | 4 | pgd, not AutoAttack, linf:8/255 |" in weak
    assert "This is **not AutoAttack**" in weak
    assert "| 4 | AutoAttack, linf:8/255 |" in strong
    assert "not AutoAttack" not in strong


def test_a_flagged_model_says_so_in_the_first_line(told, student):
    text = ModelCard(write_card(told[0], report(student, NAMES, flagged=True))).text
    assert text.lstrip().splitlines()[0].startswith("> **Do not rely on the robust accuracy below: 1 of 1 honesty")


# Of 400 images and 3 classes; the lower ends of the intervals are 0, 25.6, 32.7 and 35.2 %, and guessing gives 33.3 %.
@pytest.mark.parametrize(("count", "is_above_chance"), [(0, False), (120, False), (150, False), (160, True)])
def test_what_withstands_no_more_than_guessing_is_no_teacher_and_not_tagged_as_robust(told, count, is_above_chance):
    known, measured = told
    robust = np.arange(400) < count
    evaluation = Evaluation("PGD(steps=50)", np.zeros(400, int), np.ones(400, bool), {"pgd": robust}, 1.5)
    card = ModelCard(write_card(known, replace(measured, evaluation=evaluation)))
    assert ("adversarial-robustness" in card.data.tags) == is_above_chance
    assert ("and as a teacher or a start for other robust classifiers" in card.text) == is_above_chance
    assert ("not as a teacher: its robust accuracy is not clearly above the 33.3 % of" in card.text) != is_above_chance


def test_the_lineage_tells_repository_commit_licence_and_accuracy_of_the_teacher(told):
    teacher = Lineage(
        name="hf-hub:robust-hub/teacher@" + "a" * 40,
        sha256="b" * 64,
        license="cc-by-nc-4.0",
        protocol="AutoAttack, linf:8/255",
        clean_accuracy=Accuracy(0.8, 0.7, 0.9, 100),
        robust_accuracy=Accuracy(0.5, 0.4, 0.6, 100),
        seconds=120.0,
    )
    text = " ".join(write_card(replace(told[0], teacher=teacher), told[1]).split())
    assert f"Teacher: `{teacher.name}`" in text
    assert (
        "80.0 [70.0, 90.0] % clean and 50.0 [40.0, 60.0] % robust (AutoAttack, linf:8/255, as its card tells)" in text
    )
    assert "licence: cc-by-nc-4.0" in text
    assert "Its teacher is under cc-by-nc-4.0, which may bind this model too" in text
    assert "| with the teacher's own training | 122 s |" in text


def test_a_model_that_nobody_evaluated_claims_nothing(told):
    text = write_card(told[0], None)
    assert "nothing is known of what they withstand" in text
    assert ModelCard(text).data.eval_results is None


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_fact_breaks_neither_yaml_nor_markdown_nor_html(told, hostile):
    known, measured = told
    plain = html_of(write_card(known, measured))
    known = replace(
        known,
        name=hostile,
        method=hostile,
        data=hostile,
        command=hostile,
        license=hostile,
        origin=hostile,
        pictures={"a.png": hostile},
        training=replace(known.training, hardware=hostile, passes={hostile: {"forward": 1, "backward": 2}}),
    )
    checks = [replace(measured.checks[0], name=hostile, meaning=hostile, flagged=True)]
    measured = replace(measured, label_names=[hostile] * 3, checks=checks)
    card = write_card(known, measured)
    data = ModelCard(card).data
    assert data.model_name == hostile
    assert data.to_dict()["robust_hub"]["method"] == hostile
    html = html_of(card)
    for element in ("script", "em", "del"):
        assert f"<{element}>" not in html
    assert 'href="javascript' not in html
    # The same skeleton as with harmless facts, and one picture.
    for element in ("table", "tr", "h1", "h2", "h3", "pre", "a"):
        assert html.count(f"<{element}") == plain.count(f"<{element}"), element
    assert html.count("<td") == plain.count("<td")
    assert html.count("<img") == 1


def test_notes_are_kept_as_they_are(told):
    notes = "Mind *the* cat.\n\n| a | b |\n"
    assert read_notes(write_card(*told, notes=notes)) == notes
    assert read_notes("no place for any") == ""


def test_names_of_classes_are_readable(told):
    paragraphs = re.findall(r"<p>(.*?)</p>", html_of(write_card(*told)), re.S)
    described = next(text for text in paragraphs if "into 3 classes" in text)
    assert '(ant, bee: "striped", cat | dog)' in described.replace("&quot;", '"')
