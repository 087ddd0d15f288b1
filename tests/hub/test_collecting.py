"""A collection holds what an organisation has published, with what is claimed now, and what others put there stays."""

import sys
from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from robust_hub.__main__ import main
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Accuracy
from robust_hub.hub import TITLE, collect
from robust_hub.hub.collecting import note_of
from robust_hub.model_folder import ModelFolder, files_of
from tests.conftest import HUB
from tests.loopback_hub.server import File, Repository
from tests.loopback_hub.server.rights import READ_TOKEN, WRITE_TOKEN
from tests.made_up import saved


@pytest.fixture
def folder(tmp_path, student):
    return saved(tmp_path / "model", student)


@pytest.fixture
def on_the_hub(empty_hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    for name in ("tiny-org/first", "tiny-org/second", "closed-org/third"):
        put(folder, name)
    return empty_hub


def put(folder, name: str) -> None:
    repository = HUB.add(Repository("models", name, private=False), author="writer")
    files = {each: File((folder / each).read_bytes(), lfs=each.endswith("tensors")) for each in files_of(folder)}
    repository.commit(files, "A model.", author="writer")


def items() -> dict[str, str]:
    (collection,) = HUB.collections.values()
    return {item["id"]: item["note"]["text"] for item in collection.items}


def test_a_collection_has_the_models_of_its_owner_and_what_they_claim(on_the_hub, folder):
    done = collect("tiny-org")
    assert sorted(done.added) == ["tiny-org/first", "tiny-org/second"]
    info = ModelFolder.at(folder).info
    assert items() == dict.fromkeys(done.added, note_of(info))
    assert "linf:8/255" in note_of(info)
    assert str(info.robust_accuracy) in note_of(info)
    assert HfApi().get_collection(next(iter(HUB.collections))).title == TITLE


def test_what_is_there_is_left_and_what_is_new_or_other_is_told(on_the_hub, folder):
    collect("tiny-org")
    (collection,) = HUB.collections.values()
    put(folder, "tiny-org/third")
    collection.items[0]["note"]["text"] = "of before"
    collection.items.append(
        {"_id": "1", "id": "other/data", "type": "dataset", "position": 9, "note": {"text": "mine"}}
    )
    done = collect("tiny-org")
    assert (len(done.added), len(done.changed), len(done.kept)) == (1, 1, 1)
    assert items()["other/data"] == "mine"
    assert "of before" not in items().values()
    assert sorted(collect("tiny-org").kept) == ["tiny-org/first", "tiny-org/second", "tiny-org/third"]
    assert len(HUB.collections) == 1


def test_a_flag_is_told_and_a_note_is_short(folder):
    info = ModelFolder.at(folder).info
    flagged = note_of(replace(info, flagged=2, data="d" * 900, robust_accuracy=Accuracy(0.5, 0.4, 0.6, 100)))
    assert flagged.endswith("; 2 of 1 honesty checks flagged")
    assert len(flagged) <= 500


def test_the_command_tells_what_was_done(on_the_hub, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["robust_hub", "collection", "tiny-org", "--title", "Ours"])
    main()
    (collection,) = HUB.collections.values()
    assert collection.title == "Ours"
    assert capsys.readouterr().out.endswith(f"/collections/{collection.slug}: 2 added, 0 changed, 0 as they were\n")


def test_who_has_published_nothing_is_told(on_the_hub):
    with pytest.raises(CheckpointError, match=r"no robust_hub model of robust-hub on the Hub; publish one"):
        collect("robust-hub")


@pytest.mark.parametrize(("token", "advice"), [(READ_TOKEN, "ask tiny-org for rights"), ("", "log in with")])
def test_who_may_not_write_is_told_in_one_sentence(on_the_hub, monkeypatch, token, advice):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=advice):
        collect("tiny-org")
    assert HUB.collections == {}
