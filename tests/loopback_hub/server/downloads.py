"""What clients read of a revision: the list of its files, facts about some of them, and what they hold."""

import hashlib
import re
from urllib.parse import parse_qs

from tests.loopback_hub.server.calls import Call, Refused, Reply, require
from tests.loopback_hub.server.contents import Commit, Repository, checked_path, folders


def list_tree(call: Call, repository: Repository, rev: str, path: str = "") -> Reply:
    commit, folder = repository.at(rev), f"{checked_path(path)}/" if path else ""
    names = [name for name in sorted([*commit.files, *folders(commit.files)]) if name.startswith(folder)]
    if folder and not names:
        raise Refused(404, f"{path} does not exist on {rev}", "EntryNotFound")
    if not call.flag("recursive"):
        names = [name for name in names if "/" not in name.removeprefix(folder)]
    return Reply([tree_entry(commit, name) for name in names])


def show_paths(call: Call, repository: Repository, rev: str) -> Reply:
    commit, asked = repository.at(rev), parse_qs(call.body.decode()).get("paths", [])
    known = [path for path in asked if path in commit.files or path in folders(commit.files)]
    return Reply([tree_entry(commit, path) for path in known])


def tree_entry(commit: Commit, path: str) -> dict:
    """Describes a file or folder of a commit."""
    if path not in commit.files:
        oid = hashlib.sha1(f"{commit.id} {path}".encode()).hexdigest()
        return {"type": "directory", "oid": oid, "size": 0, "path": path}
    file = commit.files[path]
    provenance = {"type": "file", "oid": file.blob_id, "size": len(file.content), "path": path}
    return {**provenance, **file.lfs_facts("oid")}


def send_file(call: Call, repository: Repository, rev: str, path: str) -> Reply:
    commit = repository.at(rev)
    if checked_path(path) not in commit.files:
        raise Refused(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.id)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))} if file.lfs else {}
    headers |= {"Content-Type": "application/octet-stream"}
    if call.method == "HEAD" or "range" not in call.headers:
        return Reply(file.content, headers=headers)
    return part_of(file.content, call.headers["range"], headers)


def part_of(content: bytes, asked: str, headers: dict[str, str]) -> Reply:
    """Cuts a range of bytes out: "bytes=4-7", "bytes=4-" or "bytes=-4"."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    require(match and any(match.groups()), f"not a range: {asked}")
    first, last = match.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        return Reply(b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    return Reply(content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})
