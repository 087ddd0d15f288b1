"""Commits are made of uploaded files, and listed."""

import json
from base64 import b64decode

from tests.loopback_hub.server.calls import Call, Refused, Reply, require
from tests.loopback_hub.server.contents import File, Repository, checked_path, folders, is_for_lfs
from tests.loopback_hub.server.rights import refuse_if_only_proposing, writer


def commit_files(call: Call, repository: Repository, rev: str) -> Reply:
    refuse_if_only_proposing(call, repository, rev)
    require(call.headers.get("content-type") == "application/x-ndjson", "a commit is sent as application/x-ndjson")
    header, *operations = [json.loads(line) for line in call.body.splitlines()]
    require(header["key"] == "header" and header["value"]["summary"], "a commit starts with a header and its summary")
    require(operations, "a commit changes something")
    title, message = header["value"]["summary"], header["value"]["description"]
    ref, author = rev if rev.startswith("refs/pr/") else f"refs/heads/{rev}", writer(call).user
    head = repository.at(ref)
    if not head.id.startswith(header["value"].get("parentCommit", head.id)):
        raise Refused(412, f"{rev} has moved on to {head.id}")
    files = dict(head.files)
    for operation in operations:
        apply_operation(repository, files, operation["key"], operation["value"])
    require(not folders(files) & set(files), f"both a file and a folder: {folders(files) & set(files)}")
    answer = {"success": True, "hookOutput": ""}
    if call.flag("create_pr"):
        number = repository.open_pull_request(title, author, head, "open")
        ref, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{call.endpoint}/{repository.page}/discussions/{number}"
    commit = repository.commit(files, title, author=author, ref=ref, message=message)
    url = f"{call.endpoint}/{repository.page}/commit/{commit.id}"
    return Reply({**answer, "commitOid": commit.id, "commitUrl": url})


def apply_operation(repository: Repository, files: dict[str, File], key: str, value: dict) -> None:
    """Applies one line of a commit to the files."""
    path = checked_path(value["path"])
    if key == "file":
        require(value["encoding"] == "base64", "files in a commit are sent as base64")
        content = b64decode(value["content"], validate=True)
        require(not is_for_lfs(path, len(content)), f"{path} must be uploaded as an LFS object")
        files[path] = File(content, lfs=False)
    elif key == "lfsFile":
        content = repository.objects.get(value["oid"])
        require(value["algo"] == "sha256" and content is not None, f"the object of {path} was never uploaded")
        require(value.get("size", len(content)) == len(content), f"{path} has {len(content)} bytes")
        files[path] = File(content, lfs=True)
    else:
        require(key == "deletedFile", f"not an operation: {key}")
        if files.pop(path, None) is None:
            raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")


def list_commits(call: Call, repository: Repository, rev: str) -> Reply:
    commit, history = repository.at(rev), []
    while commit is not None:
        provenance = {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date}
        history.append({**provenance, "authors": [{"user": commit.author}]})
        commit = commit.parent
    return Reply(history)
