"""What the Hub holds: repositories, their commits, the files of these, and the refs that name them."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import NamedTuple

from tests.loopback_hub.server.calls import Refused, require

LFS_SUFFIXES, LFS_THRESHOLD = (".safetensors", ".bin", ".parquet"), 10_000
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass(frozen=True)
class File:
    """A file of a commit, in git or as an LFS object."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def blob(self) -> bytes:
        """What git holds: the content, or a pointer to the LFS object."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return pointer.encode() if self.lfs else self.content

    @cached_property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.blob) + self.blob).hexdigest()

    @property
    def etag(self) -> str:
        """What the clients compare: sha256 for LFS, git's sha1 for the rest."""
        return self.sha256 if self.lfs else self.blob_id

    def lfs_facts(self, name: str) -> dict:
        """Describes the LFS object, if it is one, with its sha256 under that name."""
        provenance = {name: self.sha256, "size": len(self.content), "pointerSize": len(self.blob)}
        return {"lfs": provenance} if self.lfs else {}


class Commit(NamedTuple):
    """All files at one time, and what led to them."""

    id: str
    parent: "Commit | None"
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repository:
    """Commits, refs that name them, LFS objects that were sent (staged) and verified, xorbs, and pull requests."""

    kind: str
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    staged: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    pull_requests: list[dict] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def page(self) -> str:
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def commit(self, files: dict[str, File], title: str, *, author: str, ref="refs/heads/main", message="") -> Commit:
        """Records files as the commit that a ref now names."""
        parent = self.commits.get(self.refs.get(ref))
        listing = [[path, files[path].blob_id] for path in sorted(files)]
        what = json.dumps([self.id, parent and parent.id, title, message, author, listing, len(self.commits)])
        commit = Commit(hashlib.sha1(what.encode()).hexdigest(), parent, title, message, author, now(), files)
        self.commits[commit.id], self.refs[ref] = commit, commit.id
        return commit

    def at(self, revision: str) -> Commit:
        """Finds the commit that a branch, a tag, a pull request or a commit id names."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        commit_id = next((self.refs[name] for name in names if name in self.refs), revision)
        if commit_id not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit_id]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Reads all files of a revision."""
        return {path: file.content for path, file in self.at(revision).files.items()}

    def open_pull_request(self, title: str, author: str, start: Commit, status: str) -> int:
        """Opens a pull request whose ref starts at a commit, and tells its number."""
        number = len(self.pull_requests) + 1
        self.refs[f"refs/pr/{number}"] = start.id
        provenance = {"num": number, "title": title, "author": {"name": author}, "createdAt": now(), "status": status}
        provenance |= {"repo": {"name": self.id, "type": self.kind.removesuffix("s")}, "isPullRequest": True}
        provenance |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "events": []}
        self.pull_requests.append(provenance)
        return number


def is_for_lfs(path: str, size: int) -> bool:
    """Tells whether a file is to be an LFS object rather than to go into git."""
    return size > 0 and (size > LFS_THRESHOLD or path.endswith(LFS_SUFFIXES))


def folders(files: dict[str, File]) -> set[str]:
    """Lists the folders that files lie in."""
    return {path[: match.start()] for path in files for match in re.finditer("/", path)}


def checked_path(path: str) -> str:
    """Refuses what could leave the folder that a client downloads to."""
    bad = {"", ".", "..", ".git"} & set(path.split("/")) or "\\" in path or not path.isprintable()
    require(not bad, f"not a path in a repository: {path!r}")
    return path


def now() -> str:
    """Writes the time as the Hub does."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
