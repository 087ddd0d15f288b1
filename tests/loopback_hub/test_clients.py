"""The Hub of the tests serves the unmodified client as the real one does, and refuses what the real one refuses."""

import hashlib
import os
import random
import subprocess
import sys

import huggingface_hub
import lz4.frame
import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.loopback_hub.conftest import LARGE, NAME, SMALL, httpx, put
from tests.loopback_hub.server import READ_TOKEN, STRANGER_TOKEN, WRITE_TOKEN, xet_store

CARD = (
    b"---\nlibrary_name: timm\nlicense: mit\ndatasets: cifar10\nbase_model: [timm/net]\ntags: [robust]\n---\nA net.\n"
)


@pytest.fixture
def reader(empty_hub):
    return HfApi(endpoint=empty_hub.endpoint, token=READ_TOKEN)


@pytest.fixture
def stranger(empty_hub):
    return HfApi(endpoint=empty_hub.endpoint, token=STRANGER_TOKEN)


@pytest.fixture
def anybody(empty_hub):
    return HfApi(endpoint=empty_hub.endpoint, token=False)


def test_whoami_tells_the_user_his_organizations_and_the_role_of_the_token(writer):
    told = writer.whoami()
    assert (told["name"], [org["name"] for org in told["orgs"]]) == ("writer", ["robust-hub", "tiny-org"])
    assert told["auth"]["accessToken"]["role"] == "write"


def test_a_repository_is_created_once_with_a_first_commit(writer):
    assert writer.create_repo(NAME).repo_id == NAME
    assert writer.list_repo_files(NAME) == [".gitattributes"]
    assert writer.create_repo(NAME, exist_ok=True).repo_id == NAME
    with pytest.raises(HfHubHTTPError, match="409") as caught:
        writer.create_repo(NAME)
    assert caught.value.response.status_code == 409


def test_a_private_repository_is_there_for_its_organization_only(writer, reader, stranger, anybody):
    writer.create_repo(NAME, private=True)
    assert reader.model_info(NAME).private
    statuses = []
    for api in (stranger, anybody):
        with pytest.raises(RepositoryNotFoundError) as caught:
            api.model_info(NAME)
        statuses.append(caught.value.response.status_code)
    assert statuses == [404, 401]
    assert [list(api.list_models(author="tiny-org")) for api in (stranger, anybody)] == [[], []]


def test_settings_make_a_repository_private(writer, reader, anybody, published):
    writer.update_repo_settings(NAME, visibility="private")
    with pytest.raises(RepositoryNotFoundError):
        anybody.auth_check(NAME)
    reader.auth_check(NAME)
    writer.auth_check(NAME, write=True)
    writer.update_repo_settings(NAME, private=False)
    anybody.auth_check(NAME)


def test_small_files_go_into_the_commit_and_large_ones_to_lfs(empty_hub, writer, published):
    assert empty_hub.repository(NAME).files().keys() == {".gitattributes", "config.json", "model.safetensors"}
    info = writer.model_info(NAME, files_metadata=True)
    assert info.sha == published
    provenance = {file.rfilename: (file.size, file.blob_id, file.lfs and file.lfs.sha256) for file in info.siblings}
    # git hash-object config.json, and sha256sum of the large file's content.
    blob = hashlib.sha1(b"blob 8\0" + SMALL).hexdigest()
    assert provenance["config.json"] == (8, blob, None)
    assert provenance["model.safetensors"][::2] == (25600, hashlib.sha256(LARGE).hexdigest())
    assert [request.received for request in empty_hub.seen("PUT", "^/lfs/")] == [25600]


def test_only_the_signed_upload_goes_without_a_token(empty_hub, writer, published):
    assert {request.method for request in empty_hub.requests if not request.authorized} == {"PUT"}


def test_a_second_identical_commit_sends_no_file_and_makes_no_commit(empty_hub, writer, published):
    empty_hub.requests.clear()
    assert put(writer, {"config.json": SMALL, "model.safetensors": LARGE}).oid == published
    steps = [(request.method, request.path.split("/")[-2]) for request in empty_hub.requests]
    assert steps == [("POST", "preupload"), ("POST", "objects"), ("GET", "revision")]


def test_files_are_deleted_and_history_is_kept(writer, published):
    operations = [CommitOperationDelete("config.json"), CommitOperationAdd("a/b.txt", b"b")]
    writer.create_commit(NAME, operations, commit_message="move on")
    assert writer.list_repo_files(NAME) == [".gitattributes", "a/b.txt", "model.safetensors"]
    assert writer.list_repo_files(NAME, revision=published) == [".gitattributes", "config.json", "model.safetensors"]
    assert [commit.title for commit in writer.list_repo_commits(NAME)] == ["move on", "put", "initial commit"]
    assert [entry.path for entry in writer.list_repo_tree(NAME)] == [".gitattributes", "a", "model.safetensors"]
    assert [entry.path for entry in writer.get_paths_info(NAME, ["a/b.txt", "a", "none"])] == ["a/b.txt", "a"]
    with pytest.raises(RemoteEntryNotFoundError):
        writer.delete_file("none", NAME)


def test_a_second_download_gets_nothing_and_none_is_needed_without_the_hub(empty_hub, published, download):
    assert download() == LARGE
    assert download() == LARGE
    assert [len(empty_hub.seen(method, "/resolve/")) for method in ("HEAD", "GET")] == [2, 1]
    with empty_hub.fault("HEAD", "/resolve/", status=503):
        assert download() == LARGE
    requests = len(empty_hub.requests)
    assert download(local_files_only=True) == LARGE
    assert len(empty_hub.requests) == requests


def test_revisions_are_branches_tags_and_commits(writer, published, download):
    writer.create_tag(NAME, tag="v1", tag_message="first")
    writer.create_branch(NAME, branch="dev/x")
    put(writer, {"config.json": b"{}"}, revision="dev/x")
    put(writer, {"config.json": b"[]"})
    wanted = {"v1": SMALL, published: SMALL, "dev/x": b"{}", "main": b"[]"}
    assert {revision: download("config.json", revision=revision) for revision in wanted} == wanted
    refs = writer.list_repo_refs(NAME)
    assert {ref.name for ref in [*refs.branches, *refs.tags]} == {"main", "dev/x", "v1"}
    with pytest.raises(HfHubHTTPError, match="409"):
        writer.create_tag(NAME, tag="v1")
    writer.delete_tag(NAME, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        download("config.json", revision="v1")
    with pytest.raises(RevisionNotFoundError):
        writer.delete_tag(NAME, tag="v1")


def test_those_who_may_not_write_propose_pull_requests(writer, stranger, published, download):
    with pytest.raises(HfHubHTTPError, match="403"):
        put(stranger, {"config.json": b"{}"})
    proposed = put(stranger, {"config.json": b"{}", "more.bin": LARGE[::-1]}, create_pr=True)
    assert (proposed.pr_num, proposed.pr_revision) == (1, "refs/pr/1")
    assert download("config.json", revision="refs/pr/1") == b"{}"
    assert download("config.json") == SMALL
    drafted = stranger.create_pull_request(NAME, title="another one")
    put(stranger, {"config.json": b"[]"}, revision=drafted.git_reference)
    assert download("config.json", revision="refs/pr/2") == b"[]"
    put(writer, {"config.json": b"1"}, revision="refs/pr/2")
    maintainers = writer.create_pull_request(NAME, title="of the maintainers")
    with pytest.raises(HfHubHTTPError, match="403"):
        put(stranger, {"config.json": b"2"}, revision=maintainers.git_reference)


def test_a_card_becomes_the_tags_that_filters_find(writer, anybody, published):
    put(writer, {"README.md": CARD})
    writer.create_repo("robust-hub/plain")
    found = anybody.list_models(filter=["timm", "license:mit", "dataset:cifar10", "base_model:timm/net", "robust"])
    assert [model.id for model in found] == [NAME]
    assert [model.id for model in anybody.list_models(search="PLA")] == ["robust-hub/plain"]
    assert len(list(anybody.list_models(limit=1))) == 1
    (listed,) = anybody.list_models(author="tiny-org", cardData=True)
    assert listed.card_data.license == "mit"
    (listed,) = anybody.list_models(author="tiny-org", full=True)
    assert listed.card_data is None
    assert "model.safetensors" in [file.rfilename for file in listed.siblings]
    assert anybody.model_info(NAME, expand=["sha"]).siblings is None


def test_a_card_with_broken_metadata_is_refused_before_anything_is_uploaded(empty_hub, writer, published):
    with pytest.raises(ValueError, match="Invalid metadata in README"):
        put(writer, {"README.md": b"---\nlicense: [\n---\n", "new.bin": LARGE[::-1]})
    assert len(empty_hub.seen("PUT", "lfs")) == 1


def test_a_deleted_repository_is_gone(writer, published):
    writer.delete_repo(NAME)
    with pytest.raises(RepositoryNotFoundError):
        writer.model_info(NAME)


@pytest.mark.parametrize("who", ["reader", "stranger", "anybody"])
def test_only_a_write_token_of_the_organization_writes(request, writer, who):
    writer.create_repo(NAME)
    api, status = request.getfixturevalue(who), 401 if who == "anybody" else 403
    actions = [
        lambda: api.create_repo("tiny-org/another"),
        lambda: put(api, {"a": b"a"}),
        lambda: api.create_tag(NAME, tag="v1"),
        lambda: api.update_repo_settings(NAME, private=True),
        lambda: api.delete_repo(NAME),
    ]
    for action in actions:
        with pytest.raises(HfHubHTTPError) as caught:
            action()
        assert caught.value.response.status_code == status


def test_nobody_creates_a_repository_in_an_organization_that_is_not_his(writer):
    with pytest.raises(HfHubHTTPError, match="403"):
        writer.create_repo("closed-org/net")


def test_a_wrong_token_is_told_from_a_missing_repository(empty_hub, published):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        HfApi(endpoint=empty_hub.endpoint, token="hf_wrong").model_info(NAME)
    assert not isinstance(caught.value, RepositoryNotFoundError)
    assert caught.value.response.status_code == 401


def test_what_is_missing_is_named(writer, published, download):
    with pytest.raises(RemoteEntryNotFoundError):
        download("none.json")
    with pytest.raises(RevisionNotFoundError):
        download(revision="none")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("timm/none", "config.json")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("gpt2", "config.json")
    with pytest.raises(RemoteEntryNotFoundError):
        list(writer.list_repo_tree(NAME, "none"))


def test_nothing_else_is_reachable(empty_hub):
    with pytest.raises(httpx.ProxyError):
        httpx.get("https://huggingface.co")
    assert [request.path for request in empty_hub.seen("CONNECT", "")] == ["huggingface.co:443"]


def test_a_stale_parent_is_refused(writer, published):
    put(writer, {"config.json": b"{}"})
    with pytest.raises(HfHubHTTPError, match="412"):
        put(writer, {"config.json": b"[]"}, parent_commit=published)


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_both_versions_of_the_client_upload_and_download(empty_hub, tmp_path, client_path, xet):
    # Xet compresses the first half of these weights and stores the second as it is.
    weights = LARGE * 9 + random.Random(0).randbytes(300_001)
    (tmp_path / "folder").mkdir()
    for name, content in {"README.md": CARD, "config.json": SMALL, "model.safetensors": weights}.items():
        (tmp_path / "folder" / name).write_bytes(content)
    program = (
        "import huggingface_hub as hub\n"
        f"api = hub.HfApi(token='{WRITE_TOKEN}')\n"
        f"api.create_repo('{NAME}', private=True)\n"
        f"api.upload_folder(repo_id='{NAME}', folder_path='{tmp_path}/folder')\n"
        f"api.create_tag('{NAME}', tag='v1')\n"
        f"api.snapshot_download('{NAME}', revision='v1', local_dir='{tmp_path}/back')\n"
        "print(hub.__version__)"
    )
    variables = {**os.environ, "PYTHONPATH": client_path, "HF_HOME": str(tmp_path / "home")}
    variables |= {"HF_HUB_DISABLE_XET": str(int(not xet))}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("1." if client_path else huggingface_hub.__version__)
    for file in (tmp_path / "folder").iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()
    assert len(empty_hub.repository(NAME).files("v1")) == 4
    assert [bool(empty_hub.seen("POST", "/v1/shards")), bool(empty_hub.seen("PUT", "^/lfs/"))] == [xet, not xet]


def test_xorbs_are_read_in_their_three_schemes():
    chunk = np.sin(np.arange(1000) / 100).astype("f4").tobytes() + b"end"
    grouped = b"".join(chunk[first::4] for first in range(4))
    forms = [chunk, lz4.frame.compress(chunk), lz4.frame.compress(grouped)]
    sizes = [len(form).to_bytes(3, "little") for form in forms]
    size = len(chunk).to_bytes(3, "little")
    xorb = b"".join(bytes([0]) + sizes[scheme] + bytes([scheme]) + size + forms[scheme] for scheme in range(3))
    assert xet_store.read_xorb(xorb + b"XETBLOB and what follows") == [chunk] * 3


def test_a_snapshot_holds_every_file(published, tmp_path):
    folder = snapshot_download(NAME, cache_dir=tmp_path)
    assert sorted(os.listdir(folder)) == [".gitattributes", "config.json", "model.safetensors"]
