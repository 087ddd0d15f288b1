"""Who may do what: tokens, the rights that they give, and the signatures that stand in for them."""

import hmac
from typing import NamedTuple

from tests.loopback_hub.server.calls import Call, Refused
from tests.loopback_hub.server.contents import Repository


class Token(NamedTuple):
    """What an Authorization header stands for; namespaces are the user's own and his organizations'."""

    user: str
    role: str
    organizations: tuple[str, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.user, *self.organizations)


WRITE_TOKEN, READ_TOKEN, STRANGER_TOKEN = "hf_of_writer", "hf_of_reader", "hf_of_stranger"
TOKENS = {
    WRITE_TOKEN: Token("writer", "write", ("robust-hub", "tiny-org")),
    READ_TOKEN: Token("reader", "read", ("robust-hub", "tiny-org")),
    STRANGER_TOKEN: Token("stranger", "write", ("closed-org",)),
}
NOBODY = Token("", "", ())


def caller(call: Call) -> Token:
    """Tells who calls, who may be nobody."""
    if "authorization" not in call.headers:
        return NOBODY
    scheme, _, secret = call.headers["authorization"].partition(" ")
    if scheme != "Bearer" or secret not in TOKENS:
        raise Refused(401, "Invalid credentials in Authorization header")
    return TOKENS[secret]


def user(call: Call) -> Token:
    """Tells who calls, and refuses nobody."""
    token = caller(call)
    if token is NOBODY:
        raise Refused(401, "Invalid username or password.")
    return token


def writer(call: Call, namespace: str = "") -> Token:
    """Tells who calls to write, in a namespace if one is named."""
    token = user(call)
    if token.role != "write":
        raise Refused(403, "You must use a token with the write role")
    if namespace and namespace not in token.namespaces:
        raise Refused(403, f"You don't have the rights to write under the namespace {namespace}")
    return token


def can_read(token: Token, repository: Repository) -> bool:
    """Tells whether a repository exists for the caller."""
    return not repository.private or repository.namespace in token.namespaces


def check_access(call: Call, repository: Repository | None, access: str) -> None:
    """Refuses a repository to a caller who may not do with it what the access says.

    To "propose" is to open a pull request with a write token in what one can read; the others are "read" and "write".
    """
    token = caller(call)
    if repository is None or not can_read(token, repository):
        raise Refused(401 if token is NOBODY else 404, "Repository not found", "RepoNotFound")
    if access != "read":
        writer(call, repository.namespace if access == "write" else "")


def refuse_if_only_proposing(call: Call, repository: Repository, rev: str) -> None:
    """Refuses a commit to a branch, or to another's pull request, to those who may only open one."""
    name = writer(call).user
    proposed = [f"refs/pr/{one['num']}" for one in repository.pull_requests if one["author"]["name"] == name]
    if not call.flag("create_pr") and rev not in proposed:
        writer(call, repository.namespace)


def signature(place: str) -> str:
    """Signs a place that may be uploaded to."""
    return hmac.new(b"of the Hub", place.encode(), "sha256").hexdigest()
