"""Checkpoints are found by name, and what can't be loaded is told in one sentence."""

import json

import pytest
import torch
from huggingface_hub import constants

from robust_hub import hub
from robust_hub.errors import CheckpointError
from robust_hub.model_folder import files_of
from robust_hub.models import create_classifier
from tests.loopback_hub.server import READ_TOKEN, File, Repository
from tests.made_up import VIT, saved


def test_a_fresh_classifier_layer_is_put_on_a_checkpoint_for_other_classes(folder):
    student = hub.load(f"local-dir:{folder}", num_classes=7)
    kept = hub.load(f"local-dir:{folder}")
    assert student(torch.rand(2, 1, 16, 16)).shape == (2, 7)
    assert torch.equal(student.model.patch_embed.proj.weight, kept.model.patch_embed.proj.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", r"must be named hf-hub:ORG/NAME, local-dir:FOLDER, .* or as timm's weights \(.*\), got 'resnt18'"),
        ("local-dir:nowhere", r"no model folder at nowhere \(no config.json"),
        ("hf-hub:nobody/nothing", "the Hub did not give config.json of nobody/nothing"),
        ("hf-hub:not a repo", "the Hub did not give config.json of not a repo"),
        ("tests", "must be named .*, got 'tests'; for this folder say local-dir:tests"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_told_in_one_sentence(name, message):
    with pytest.raises(ValueError, match=message):
        hub.load(name)


def test_weights_that_do_not_fit_are_told_in_one_sentence(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"can't be loaded \("):
        hub.load(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", r"is no safetensors file \(.*; fetch it again"),
        ("config.json", "config.json is not readable JSON"),
    ],
)
def test_a_truncated_file_is_told_in_one_sentence(folder, file, message):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=message):
        hub.load(f"local-dir:{folder}")


def test_a_folder_that_is_not_there_is_told_with_close_names(folder):
    with pytest.raises(ValueError, match=r"no model folder at .*studnt .*; close names are .*student"):
        hub.load(f"local-dir:{folder.with_name('studnt')}")


def test_a_folder_that_nobody_evaluated_is_told(folder):
    (folder / "evidence.safetensors").unlink(missing_ok=True)
    with pytest.raises(
        CheckpointError, match=r"has no evidence\.safetensors; recipes/evaluate\.py --update-card writes"
    ):
        hub.open_folder(f"local-dir:{folder}", ["config.json", "evidence.safetensors"])


REPO = "tiny-org/net"


@pytest.fixture
def on_the_hub(empty_hub, folder, tmp_path, monkeypatch):
    """The hub with the folder on it, and a cache that knows nothing."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = empty_hub.add(Repository("models", REPO, private=False), author="writer")
    upload(repository, folder)
    return empty_hub


def upload(repository, folder, **more: bytes) -> str:
    """Commits a folder as it is, and returns the commit."""
    names = {name: (folder / name).read_bytes() for name in files_of(folder)}
    files = {
        name: File(content, lfs=name.endswith(".safetensors"))
        for name, content in {**names, **{name.replace("__", "."): content for name, content in more.items()}}.items()
    }
    repository.commit(files, "A model.", author="writer")
    return repository.refs["refs/heads/main"]


def logits(classifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier.eval()(torch.full((2, 1, 16, 16), 0.3))


def test_a_model_of_the_hub_is_loaded_and_then_comes_from_the_cache(on_the_hub, folder, monkeypatch):
    wanted = logits(hub.load(f"local-dir:{folder}"))
    assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), wanted)
    on_the_hub.requests.clear()
    assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), wanted)
    assert not on_the_hub.seen("GET", "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    on_the_hub.requests.clear()
    assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), wanted)
    assert not on_the_hub.requests


def test_what_is_trained_from_a_model_names_its_commit_and_keeps_these_weights(on_the_hub, folder):
    repository = on_the_hub.repository(REPO)
    first = repository.refs["refs/heads/main"]
    wanted = hub.open_folder(f"hf-hub:{REPO}").lineage()
    assert wanted.name == f"hf-hub:{REPO}@{first}"
    assert wanted.robust_accuracy.value == 0.25
    second = create_classifier("vit_tiny_patch16_224", VIT, num_classes=3, image_shape=(1, 16, 16))
    upload(repository, saved(folder.with_name("second"), second))
    assert hub.open_folder(f"hf-hub:{REPO}").lineage().sha256 != wanted.sha256
    assert hub.open_folder(wanted.name).lineage() == wanted


def test_config_and_weights_are_of_one_commit_whatever_is_pushed_meanwhile(on_the_hub, folder, monkeypatch):
    repository, wanted = on_the_hub.repository(REPO), logits(hub.load(f"local-dir:{folder}"))
    other = create_classifier("vit_tiny_patch16_224", VIT, num_classes=3, image_shape=(1, 16, 16))
    second = saved(folder.with_name("second"), other)

    def push(reply):
        upload(repository, second)

    with on_the_hub.fault("GET", "config.json", rewrite=push):
        assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), wanted)


def test_a_name_of_the_catalogue_is_the_folder_of_the_checkout_or_on_the_hub(folder, monkeypatch):
    monkeypatch.setattr("robust_hub.hub.fetching.MODEL_CARDS", folder.parent)
    folder.rename(folder.with_name("vit_tiny_patch16_224.igam_linf8_digits"))
    assert hub.load("vit_tiny_patch16_224.igam_linf8_digits").num_classes == 3
    assert hub.resolve("resnet10t.rrm_linf8_none") == "hf-hub:robust-hub/resnet10t.rrm_linf8_none"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"truncate_to": 3000}, r"the Hub did not give model.safetensors of tiny-org/net"),
        ({"corrupt_at": 3000}, r"model.safetensors was damaged on its way from the Hub; .* so try again"),
    ],
)
def test_a_damaged_file_is_told_and_the_next_try_succeeds(on_the_hub, folder, fault, message):
    with (
        on_the_hub.fault("GET", "model.safetensors", times=None, **fault),
        pytest.raises(CheckpointError, match=message),
    ):
        hub.load(f"hf-hub:{REPO}")
    assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), logits(hub.load(f"local-dir:{folder}")))


def test_a_connection_cut_in_the_middle_of_the_weights_is_taken_up_again(on_the_hub, folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with on_the_hub.fault("GET", "model.safetensors", cut_after=2000):
        assert torch.equal(logits(hub.load(f"hf-hub:{REPO}")), logits(hub.load(f"local-dir:{folder}")))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_of_the_hub_is_one_sentence(on_the_hub, status, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with (
        on_the_hub.fault("HEAD", "config.json", times=None, status=status),
        pytest.raises(CheckpointError, match=r"^the Hub did not give config.json of tiny-org/net \([^\n]*\)[^\n]*$"),
    ):
        hub.load(f"hf-hub:{REPO}")


def test_a_private_model_needs_a_token(on_the_hub, monkeypatch):
    on_the_hub.repository(REPO).private = True
    with pytest.raises(CheckpointError, match="there is no such repository, or it is private"):
        hub.load(f"hf-hub:{REPO}")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert hub.load(f"hf-hub:{REPO}").num_classes == 3


def test_a_repository_of_pickles_alone_is_refused(on_the_hub, folder):
    (folder / "model.safetensors").unlink()
    torch.save({"weights": torch.ones(1)}, folder / "pytorch_model.bin")
    upload(on_the_hub.repository(REPO), folder)
    with pytest.raises(CheckpointError, match=r"tiny-org/net has its weights in pytorch_model\.bin alone"):
        hub.load(f"hf-hub:{REPO}")
    assert not on_the_hub.seen("GET", "pytorch_model.bin")


def test_a_downloaded_folder_is_the_one_that_was_published(on_the_hub, folder, tmp_path):
    hub.download(f"hf-hub:{REPO}", tmp_path / "copy")
    assert {name: (tmp_path / "copy" / name).read_bytes() for name in files_of(tmp_path / "copy")} == {
        name: (folder / name).read_bytes() for name in files_of(folder)
    }
    with pytest.raises(CheckpointError, match="copy is there already; choose another folder"):
        hub.download(f"hf-hub:{REPO}", tmp_path / "copy")


def test_names_from_a_server_never_leave_the_folder(on_the_hub, tmp_path):
    names = ["../evil.json", "/tmp/evil.json", "a/../../evil.png", ".hidden.json", "..\\evil.md", "run.py", "evil.bin"]

    def rewrite(reply):
        reply.content += [{"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in names]

    with on_the_hub.fault("GET", f"/api/models/{REPO}/tree", rewrite=rewrite):
        hub.download(f"hf-hub:{REPO}", tmp_path / "deep" / "copy")
    wanted = ["README.md", "config.json", "evaluation.json", "model.safetensors"]
    assert files_of(tmp_path / "deep") == [f"copy/{name}" for name in wanted]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("commit", ["../../../evil", "/tmp/evil_commit"])
def test_a_commit_from_a_server_never_leaves_the_cache(on_the_hub, tmp_path, commit):
    with (
        on_the_hub.fault("HEAD", "config.json", times=None, headers={"X-Repo-Commit": commit}),
        pytest.raises(CheckpointError, match=r"the Hub did not give config\.json"),
    ):
        hub.load(f"hf-hub:{REPO}")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_download_that_breaks_leaves_nothing(on_the_hub, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with (
        on_the_hub.fault("HEAD", "evaluation.json", times=None, status=404, headers={"X-Error-Code": "EntryNotFound"}),
        pytest.raises(CheckpointError),
    ):
        hub.download(f"hf-hub:{REPO}", tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))
