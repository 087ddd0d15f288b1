"""A folder goes to the Hub whole or not at all, once it is what its card says, and comes back bit for bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils._xet import get_xet_session
from safetensors.torch import load_file, save_file

import robust_hub
from recipes.publish import publish_all, publish_folder
from robust_hub.__main__ import verify_
from robust_hub.data import BUILTIN
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report, verify_evaluation
from robust_hub.hub import Destination, check_folder, load, publish
from robust_hub.model_folder import describe, files_of, require_provenance, save
from robust_hub.models import create_classifier
from tests.loopback_hub.server import READ_TOKEN, STRANGER_TOKEN, WRITE_TOKEN, File, Repository
from tests.made_up import CNN, change_perturbations, evaluated, provenance, saved

ROOT = Path(__file__).parents[2]
REPO = "tiny-org/net"
HERE = Destination(REPO)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """An evaluated folder of an architecture of timm's."""
    arguments = {"channels": [8, 8, 8, 16], "output_stride": 8}
    folder = evaluated(tmp_path_factory.mktemp("models") / "resnet", "resnet10t", arguments)
    describe(folder, replace(require_provenance(folder), license="mit"), Report.read(folder))
    assert len(load_file(folder / "evidence.safetensors")["indices"]) > 1
    return folder


@pytest.fixture
def folder(published, tmp_path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "resnet"))


@pytest.fixture
def of_ours(tmp_path) -> Path:
    """A folder of an architecture of ours."""
    classifier = create_classifier("resnet18_cifar", CNN, num_classes=3, image_shape=(3, 16, 16))
    return saved(tmp_path / "ours", classifier)


@pytest.fixture
def hub(empty_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    return empty_hub


LOAD = """
import sys, timm, torch
{imports}
model = timm.create_model('hf-hub:tiny-org/net', pretrained=True).eval()
torch.save(model(torch.load('{place}/images.pt')).detach(), '{place}/logits.pt')
import huggingface_hub
print(huggingface_hub.__version__, 'robust_hub' in sys.modules)
"""


@pytest.mark.parametrize(
    "client_path", ["", pytest.param("huggingface_hub_1", marks=pytest.mark.slow)], ids=["newest", "1.x"], indirect=True
)
@pytest.mark.parametrize(
    ("which", "imports"), [("folder", ""), pytest.param("of_ours", "import robust_hub", marks=pytest.mark.slow)]
)
def test_a_published_folder_loads_in_a_fresh_process_to_the_same_logits(
    hub, tmp_path, client_path, request, which, imports
):
    place = request.getfixturevalue(which)
    publish(place, HERE)
    images = torch.randn(2, 3, 16, 16)
    torch.save(images, tmp_path / "images.pt")
    program = LOAD.format(imports=imports, place=tmp_path)
    fresh = {**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": client_path}
    fresh.pop("HF_TOKEN")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=fresh, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    version, knows_us = done.stdout.split()
    assert version.startswith("1." if client_path else huggingface_hub.__version__)
    assert knows_us == str(bool(imports))
    with torch.no_grad():
        wanted = timm.create_model(f"local-dir:{place}", pretrained=True).eval()(images)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), wanted)


AGAIN = """
import sys, huggingface_hub, torch, robust_hub
from robust_hub.__main__ import main
place, before = sys.argv[1:]
images = torch.load(f"{place}/images.pt")
for name, to in ((f"hf-hub:tiny-org/net@{before}", "then"), ("hf-hub:tiny-org/net", "now")):
    sys.argv = ["robust_hub", "download", name, "--to", f"{place}/{to}"]
    main()
sys.argv = ["robust_hub", "verify", "hf-hub:tiny-org/net"]
main()
with torch.no_grad():
    torch.save(robust_hub.load("hf-hub:tiny-org/net").eval()(images), f"{place}/logits.pt")
print(huggingface_hub.__version__)
"""


@pytest.mark.slow
def test_what_is_published_again_in_another_form_is_downloaded_verified_and_loaded(hub, folder, tmp_path, client_path):
    # As folders were written once.
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["num_classes"] = config["num_classes"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    old, before = on_disk(folder), publish(folder, HERE).commit
    publish_folder(folder, HERE, rewrite_card=True)
    assert old["config.json"] != in_the_repository(hub)["config.json"] == on_disk(folder)["config.json"]
    images = torch.rand(2, 3, 16, 16)
    torch.save(images, tmp_path / "images.pt")
    environment = {**os.environ, "PYTHONPATH": f"{client_path}:{ROOT}", "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_TOKEN")
    command = [sys.executable, "-c", AGAIN, str(tmp_path), before]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("1." if client_path else huggingface_hub.__version__)
    fallen = len(load_file(folder / "evidence.safetensors")["indices"])
    assert f"confirmed: {fallen} of {fallen} perturbations" in done.stdout
    assert on_disk(tmp_path / "then") == old
    assert on_disk(tmp_path / "now") == on_disk(folder)
    with torch.no_grad():
        wanted = robust_hub.load(f"local-dir:{folder}").eval()(images)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), wanted)


@pytest.mark.slow
def test_the_older_client_publishes_too(hub, folder, tmp_path, client_path):
    command = [sys.executable, "recipes/publish.py", "folder", str(folder), "--repo-id", REPO, "--tag", "v1"]
    environment = {**os.environ, "PYTHONPATH": f"{client_path}:{ROOT}", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert in_the_repository(hub) == on_disk(folder)


def in_the_repository(hub, revision: str = "main") -> dict[str, bytes]:
    files = hub.repository(REPO).files(revision)
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


def test_the_repository_is_the_folder_byte_for_byte_in_one_commit(hub, folder):
    publish_folder(folder, HERE)
    assert in_the_repository(hub) == on_disk(folder)
    assert len(hub.seen("POST", "/commit/")) == 1


def test_the_card_on_the_hub_is_valid_and_names_its_repository(hub, folder):
    publish_folder(folder, HERE)
    card = ModelCard.load(folder / "README.md")
    # Clients of 1.x ask huggingface.co itself.
    if not huggingface_hub.__version__.startswith("1."):
        card.validate()
    assert "hf-hub:tiny-org/net" in card.text
    assert card.data.license == "mit"
    assert [result.metric_type for result in card.data.eval_results] == ["accuracy", "robust_accuracy"]


def test_what_is_there_already_is_not_sent_again(hub, folder, capsys):
    publish_folder(folder, HERE)
    hub.requests.clear()
    publish_folder(folder, HERE)
    assert not hub.seen("PUT", "")
    assert not hub.seen("POST", "/commit/")
    assert "there already" in capsys.readouterr().out


def test_only_what_changed_is_sent(hub, folder):
    publish_folder(folder, HERE)
    hub.requests.clear()
    publish_folder(folder, HERE, license="apache-2.0")
    assert not hub.seen("PUT", "")
    assert len(hub.seen("POST", "/commit/")) == 1
    assert in_the_repository(hub) == on_disk(folder)


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("POST", "/api/repos/create", {"drop_after": 5}),
        ("POST", "/preupload/", {"drop_after": 5}),
        ("POST", "/info/lfs/objects/batch", {"drop_after": 5}),
        ("PUT", "", {"drop_after": 5000}),
        ("POST", "/commit/", {"drop_after": 100}),
        ("POST", "/commit/", {"cut_after": 3}),
        ("POST", "/tag/", {"drop_after": 0}),
    ],
)
def test_a_broken_connection_leaves_all_or_nothing_and_the_next_run_completes(
    hub, folder, monkeypatch, method, path, fault
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tagged = replace(HERE, tag="v1")
    with hub.fault(method, path, times=None, **fault), pytest.raises(CheckpointError, match="the Hub did not take"):
        publish(folder, tagged)
    left = hub.repositories.get(("models", REPO))
    assert left is None or in_the_repository(hub) in ({}, on_disk(folder))
    publish(folder, tagged)
    assert in_the_repository(hub) == in_the_repository(hub, "v1") == on_disk(folder)


# A fresh process that dies when the server has its weights.
PUBLISH = "from pathlib import Path; from robust_hub.hub import *; publish(Path(sys.argv[1]), Destination(sys.argv[2]))"


def test_a_killed_run_leaves_the_repository_as_it_was(hub, folder):
    process = subprocess.Popen([sys.executable, "-c", f"import sys; {PUBLISH}", str(folder), REPO], cwd=ROOT)
    with hub.fault("PUT", "", rewrite=lambda _: os.kill(process.pid, signal.SIGKILL)):
        assert process.wait(60) == -signal.SIGKILL
    assert in_the_repository(hub) == {}
    publish(folder, HERE)
    assert in_the_repository(hub) == on_disk(folder)


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (READ_TOKEN, REPO, r"the token may not write there"),
        (STRANGER_TOKEN, REPO, r"may not write there|may not see it"),
        ("hf_wrong", REPO, r"log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_two\nlines", REPO, r"the Hub did not take"),
        (WRITE_TOKEN, "closed-org/net", r"the token may not write there"),
        (WRITE_TOKEN, "not a repo", r"the Hub did not take not a repo"),
    ],
)
def test_a_refusal_is_one_sentence_without_the_token(hub, folder, monkeypatch, token, repo_id, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=message) as refused:
        publish(folder, Destination(repo_id))
    assert token not in str(refused.value)
    assert token.split("\n")[0] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_no_token_stands_in_what_is_printed_or_published(hub, folder, capfd):
    publish_folder(folder, HERE)
    printed = "".join(capfd.readouterr())
    assert WRITE_TOKEN not in printed
    assert not any(WRITE_TOKEN.encode() in content for content in in_the_repository(hub).values())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(hub, folder, monkeypatch, status):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with hub.fault("POST", "/preupload/", status=status):
        publish(folder, HERE)
    assert in_the_repository(hub) == on_disk(folder)


@pytest.fixture
def by_xet(monkeypatch):
    """Lets the client send large files by hf_xet, as it does where no test forbids it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)


def test_a_busy_storage_is_asked_as_often_as_the_environment_says_which_stays_as_it_was(
    hub, folder, by_xet, monkeypatch
):
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "1ms")
    before = dict(os.environ)
    with (
        hub.fault("POST", "/xet/", times=None, status=503) as fault,
        pytest.raises(
            CheckpointError, match=r"the Hub did not take .* run it again, what has arrived is not sent twice"
        ),
    ):
        publish(folder, HERE)
    assert fault.met == 1 + 2
    assert dict(os.environ) == before
    publish(folder, HERE)
    assert in_the_repository(hub) == on_disk(folder)
    assert hub.seen("POST", "/v[0-9]+/shards")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/xet/", 429), ("GET", "/xet-write-token/", 503)])
def test_a_storage_that_stays_busy_ends_in_one_sentence_within_a_minute(hub, folder, by_xet, method, path, status):
    # Whoever used hf_xet before has a session that goes on for minutes.
    get_xet_session()
    begin = time.monotonic()
    with (
        hub.fault(method, path, times=None, status=status) as fault,
        pytest.raises(CheckpointError, match=f"the Hub did not take {REPO} .*{status}.*; check the name") as told,
    ):
        publish(folder, HERE)
    assert time.monotonic() - begin < 60
    assert fault.met == 1 + 4
    assert "\n" not in str(told.value)
    assert in_the_repository(hub) == {}


def test_a_private_repository_is_made_private(hub, folder):
    publish(folder, replace(HERE, private=True))
    assert hub.repository(REPO).private


def test_what_is_to_be_private_never_goes_into_a_public_repository(hub, folder):
    hub.add(Repository("models", REPO, private=False), author="writer")
    with pytest.raises(CheckpointError, match="is there already and public; make it private in its settings first"):
        publish(folder, replace(HERE, private=True))
    assert in_the_repository(hub) == {}


def test_a_commit_of_somebody_else_in_between_is_not_mixed_with_ours(hub, folder):
    publish(folder, HERE)
    describe(folder, replace(require_provenance(folder), license="apache-2.0"), Report.read(folder))
    repository = hub.repository(REPO)

    def push(_):
        repository.commit({"README.md": File(b"Theirs.", lfs=False)}, "Theirs.", author="writer")

    with hub.fault("POST", "/preupload/", rewrite=push), pytest.raises(CheckpointError, match="did not take"):
        publish(folder, HERE)
    assert in_the_repository(hub) == {"README.md": b"Theirs."}


def test_a_tag_names_the_commit_and_is_never_moved(hub, folder):
    tagged = replace(HERE, tag="v1")
    publish(folder, tagged)
    publish(folder, tagged)
    describe(folder, replace(require_provenance(folder), license="apache-2.0"), Report.read(folder))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="has a tag 'v1' for another commit; choose another --tag"):
            publish(folder, tagged)
    # It is refused before the commit.
    assert b"license: mit" in in_the_repository(hub)["README.md"]
    publish(folder, HERE)
    with pytest.raises(CheckpointError, match="has a tag 'v1' for another commit; choose another --tag"):
        publish(folder, tagged)
    assert b"license: mit" in in_the_repository(hub, "v1")["README.md"]


def test_a_branch_and_a_pull_request_leave_main_alone(hub, folder):
    publish(folder, replace(HERE, revision="next"))
    published = publish(folder, replace(HERE, create_pr=True))
    assert in_the_repository(hub) == {}
    assert in_the_repository(hub, "next") == in_the_repository(hub, "refs/pr/1") == on_disk(folder)
    assert "/discussions/1" in published.url


def test_the_line_that_is_printed_loads_what_was_published(hub, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        wanted = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images)
    for destination in (replace(HERE, revision="next"), replace(HERE, create_pr=True), HERE):
        publish_folder(folder, destination)
        name = re.findall("'(hf-hub:.*?)'", capsys.readouterr().out)[-1]
        with torch.no_grad():
            assert torch.equal(timm.create_model(name, pretrained=True).eval()(images), wanted)


def test_what_is_proposed_already_is_not_proposed_again(hub, folder):
    proposal = replace(HERE, create_pr=True)
    first, again = publish(folder, proposal), publish(folder, proposal)
    assert (again.commit, again.new) == (first.commit, False)
    assert "/discussions/1" in again.url
    describe(folder, replace(require_provenance(folder), license="apache-2.0"), Report.read(folder))
    assert "/discussions/2" in publish(folder, proposal).url
    # What was closed is proposed anew.
    for one in hub.repository(REPO).pull_requests:
        one["status"] = "closed"
    assert "/discussions/3" in publish(folder, proposal).url


def test_files_of_others_in_the_repository_stay_and_are_told(hub, folder, capsys):
    publish(folder, HERE)
    (folder / "LICENSE").write_text("MIT")
    publish(folder, HERE)
    (folder / "LICENSE").unlink()
    (folder / "notes.txt").write_text("Mine.")
    publish(folder, HERE)
    (folder / "notes.txt").unlink()
    publish_folder(folder, HERE)
    assert "left alone in the repository: notes.txt" in capsys.readouterr().out
    assert {"LICENSE", "notes.txt"} < set(in_the_repository(hub))


def test_a_dry_run_neither_writes_nor_sends(hub, folder, capsys):
    before = on_disk(folder)
    publish_folder(folder, HERE, license="apache-2.0", dry_run=True)
    assert on_disk(folder) == before
    assert not hub.requests
    assert "model.safetensors" in capsys.readouterr().out


def test_a_licence_must_be_stated(hub, folder):
    describe(folder, replace(require_provenance(folder), license=""), Report.read(folder))
    with pytest.raises(ValueError, match="states no licence; say which with --license"):
        publish_folder(folder, HERE)
    assert not hub.requests


def test_a_flagged_model_is_refused_unless_its_card_may_say_so(hub, folder):
    told = Report.read(folder)
    doubtful = [replace(told.checks[0], value=1.0, flagged=True), *told.checks[1:]]
    describe(folder, require_provenance(folder), replace(told, checks=doubtful))
    with pytest.raises(CheckpointError, match=f"can't be believed, its honesty checks flag {doubtful[0].name}"):
        publish_folder(folder, HERE)
    publish_folder(folder, HERE, allow_flagged=True)
    card = ModelCard.load(folder / "README.md")
    assert card.text.lstrip().startswith("> **Do not rely on the robust accuracy below: 1 of")


def test_a_card_of_another_version_is_written_anew_where_asked(hub, folder):
    change_card(folder)
    publish_folder(folder, HERE, rewrite_card=True)
    assert b"very robust" not in in_the_repository(hub)["README.md"]


class Harm:
    """What a pickle can do: make a file when it is read."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


def add_pickle(folder: Path) -> None:
    torch.save(Harm(folder.parent / "harmed"), folder / "pytorch_model.bin")


def hide_pickle(folder: Path) -> None:
    torch.save({"weights": torch.ones(1)}, folder / "picture.png")


def change_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["fc.bias"] = weights["fc.bias"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_card(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("**robust**", "**very robust**"))


def remove_evidence(folder: Path) -> None:
    (folder / "evidence.safetensors").unlink()


def spoil_evidence(folder: Path) -> None:
    change_perturbations(folder, lambda kept: replace(kept, perturbation=torch.zeros_like(kept.perturbation)))


def drop_evidence_of_an_image(folder: Path) -> None:
    change_perturbations(folder, lambda kept: kept.rows(torch.arange(1, len(kept))))


def link_elsewhere(folder: Path) -> None:
    (folder / "notes.txt").symlink_to("/etc/hostname")


def tell_other_parameters(folder: Path) -> None:
    describe(folder, replace(require_provenance(folder), parameters=7), Report.read(folder))


def hide_a_flag(folder: Path) -> None:
    told = json.loads((folder / "evaluation.json").read_text())
    told["checks"][0]["value"] = 9.0
    (folder / "evaluation.json").write_text(json.dumps(told, indent=2) + "\n")


def lose_a_picture(folder: Path) -> None:
    (folder / "classes.png").unlink()


def tell_pgd_only(folder: Path) -> None:
    told = Report.read(folder)
    describe(folder, require_provenance(folder), replace(told, checks=[]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (add_pickle, r"pytorch_model.bin is neither text, PNG nor safetensors"),
        (hide_pickle, r"picture.png is neither text, PNG nor safetensors"),
        (link_elsewhere, r"notes.txt is a link"),
        (change_weights, r"the weights of .* are not those that"),
        (change_card, r"README.md or config.json of .* tells something else than evaluation.json"),
        (remove_evidence, r"has no evidence.safetensors; run recipes/evaluate.py on it with --update-card"),
        (spoil_evidence, r"perturbations do not do what"),
        (drop_evidence_of_an_image, r"must perturb each image that fell of the first 24, and no other"),
        (tell_other_parameters, r"tells other parameters, architecture or classes than it has"),
        (hide_a_flag, r"its flags are not those of what its checks measured"),
        (lose_a_picture, r"lacks classes.png, which its card shows"),
        (tell_pgd_only, r"has no honesty checks; run recipes/evaluate.py"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused_before_anything_is_sent(hub, folder, spoil, message):
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        publish_folder(folder, HERE)
    assert not hub.requests
    assert not (folder.parent / "harmed").exists()


def test_a_folder_without_an_evaluation_is_refused(hub, tmp_path, student):
    save(tmp_path / "new", student, provenance("vit_tiny_patch16_224"), label_names=["a", "b", "c"])
    with pytest.raises(CheckpointError, match=r"has no evaluation.json; run recipes/evaluate.py on it"):
        publish_folder(tmp_path / "new", HERE)


def test_every_folder_in_a_folder_goes_where_its_card_says_and_a_bad_one_stops_no_other(hub, folder):
    describe(folder, replace(require_provenance(folder), repository=REPO), Report.read(folder))
    bad = Path(shutil.copytree(folder, folder.with_name("a bad one")))
    remove_evidence(bad)
    with pytest.raises(ValueError, match="1 of 2 folders were refused, see above: a bad one"):
        publish_all(folder.parent)
    assert in_the_repository(hub) == on_disk(folder)


def test_a_folder_of_no_model_folders_and_one_of_no_data_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"there is no model folder in .*; name the folder that holds them"):
        publish_all(tmp_path / "none")
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; give --data the folder that has the data"):
        publish_all(folder.parent, data=str(tmp_path / "nowhere"))


@pytest.fixture
def two_folders(folder, tmp_path) -> Path:
    """A folder of two models, each for a repository of its own: one of a built-in data set, one of a set in `sets`."""
    other = Path(shutil.copytree(folder, tmp_path / "two" / "other"))
    known, report = require_provenance(folder), Report.read(folder)
    describe(folder, replace(known, repository=REPO), report)
    described = replace(report, source=replace(report.source, data="stripes"))
    describe(other, replace(known, repository="robust-hub/other"), described)
    BUILTIN["synthetic"]().to_parquet(tmp_path / "sets" / "stripes" / "train.parquet")
    return Path(shutil.move(folder, tmp_path / "two" / "one")).parent


@pytest.mark.slow
def test_the_command_publishes_all_folders_with_the_data_that_each_names(hub, two_folders, tmp_path):
    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "recipes/publish.py", "all", str(two_folders), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 2
    assert "other calls its data set 'stripes'; say where that is with --data" in done.stdout
    assert "error: 1 of 2 folders were refused, see above: other" in done.stderr
    assert in_the_repository(hub) == on_disk(two_folders / "one")
    done = run("--data", str(tmp_path / "sets"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"there already: {hub.endpoint}/{REPO}" in done.stdout
    files = hub.repository("robust-hub/other").files()
    assert {name: files[name] for name in files if name != ".gitattributes"} == on_disk(two_folders / "other")


def test_all_that_is_checked_is_given_back(folder):
    told, measured, verified = check_folder(folder)
    assert told == require_provenance(folder)
    assert verified.robust.value == measured.evaluation.robust_accuracy.value
    assert json.loads((folder / "config.json").read_text())["robustness"]["claim"]["name"] == told.name


def test_a_published_model_is_verified_and_a_spoilt_one_refused(hub, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    publish(folder, HERE)
    verify_(f"hf-hub:{REPO}")
    fallen = len(load_file(folder / "evidence.safetensors")["indices"])
    assert f"confirmed: {fallen} of {fallen} perturbations" in capsys.readouterr().out
    report = Report.read(folder)
    describe(folder, require_provenance(folder), replace(report, data_sha256="0" * 64))
    publish(folder, HERE)
    with pytest.raises(CheckpointError, match=r"evidence\.safetensors is of other images than the evaluation"):
        verify_(f"hf-hub:{REPO}")


@pytest.mark.parametrize("place", ["/", "~", "..", "tests"])
def test_no_evaluation_of_a_stranger_names_a_folder_of_this_machine(folder, place):
    told = (folder / "evaluation.json").read_text()
    (folder / "evaluation.json").write_text(told.replace('"data": "synthetic"', f'"data": "{place}"'))
    with pytest.raises(CheckpointError, match="; say where that is with --data"):
        verify_evaluation(
            load(f"local-dir:{folder}"), Report.read(folder), folder, spot_check=0, generator=np.random.default_rng(0)
        )
