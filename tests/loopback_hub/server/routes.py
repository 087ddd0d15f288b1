"""Every address that the Hub answers at, with the right that it needs and the function behind it."""

import re
from urllib.parse import unquote

from tests.loopback_hub.server import accounts, cards, collections, commits, downloads, refs, repositories, uploads
from tests.loopback_hub.server.calls import Call, Refused, Reply
from tests.loopback_hub.server.rights import check_access

PARTS = {
    "kind": "(?P<kind>models|datasets)",
    "prefix": "(?P<kind>datasets/|)",
    "id": "(?P<id>[^/]+(?:/[^/]+)?)",
    "slug": "(?P<slug>[^/]+/[^/]+)",
    "path": "(?P<path>.+)",
    **{name: f"(?P<{name}>[^/]+)" for name in ("rev", "oid", "number")},
}

# Without an access the function is given the Hub, else the repository: to "read", "propose" or "write" (see `rights`),
# or to whom a signature of this Hub was given, which the function checks.
ROUTES = [
    ("GET", "/api/whoami-v2", "", accounts.who_am_i),
    ("GET", "/api/{kind}/{id}/auth-check", "read", accounts.confirm_access),
    ("GET", "/api/{kind}/{id}/auth-check/write", "write", accounts.confirm_access),
    ("POST", "/api/validate-yaml", "", cards.validate_yaml),
    ("POST", "/api/repos/create", "", repositories.create_repository),
    ("DELETE", "/api/repos/delete", "", repositories.delete_repository),
    ("PUT", "/api/{kind}/{id}/settings", "write", repositories.change_settings),
    ("POST", "/api/collections", "", collections.create_collection),
    ("GET", "/api/collections/{slug}", "", collections.show_collection),
    ("POST", "/api/collections/{slug}/items", "", collections.add_item),
    ("PATCH", "/api/collections/{slug}/items/{number}", "", collections.change_item),
    ("GET", "/api/{kind}", "", repositories.list_repositories),
    ("GET", "/api/{kind}/{id}", "read", repositories.show_repository),
    ("GET", "/api/{kind}/{id}/revision/{rev}", "read", repositories.show_repository),
    ("GET", "/api/{kind}/{id}/refs", "read", refs.list_refs),
    ("POST", "/api/{kind}/{id}/branch/{rev}", "write", refs.create_branch),
    ("POST", "/api/{kind}/{id}/tag/{rev}", "write", refs.create_tag),
    ("DELETE", "/api/{kind}/{id}/tag/{rev}", "write", refs.delete_tag),
    ("POST", "/api/{kind}/{id}/discussions", "propose", refs.open_pull_request),
    ("GET", "/api/{kind}/{id}/discussions/{number}", "read", refs.show_pull_request),
    ("POST", "/api/{kind}/{id}/preupload/{rev}", "propose", uploads.choose_upload_modes),
    ("POST", r"/{prefix}{id}\.git/info/lfs/objects/batch", "propose", uploads.announce_objects),
    ("PUT", "/lfs/{kind}/{id}/{oid}", "signed", uploads.upload_object),
    ("POST", r"/{prefix}{id}\.git/info/lfs/objects/verify", "propose", uploads.verify_object),
    ("GET", "/api/{kind}/{id}/xet-write-token/{rev}", "propose", uploads.let_upload_to_xet),
    ("POST", "/xet/{kind}/{id}/v1/xorbs/default/{oid}", "signed", uploads.upload_xorb),
    ("POST", "/xet/{kind}/{id}/v1/shards", "signed", uploads.upload_shard),
    ("POST", "/api/{kind}/{id}/commit/{rev}", "propose", commits.commit_files),
    ("GET", "/api/{kind}/{id}/commits/{rev}", "read", commits.list_commits),
    ("GET", "/api/{kind}/{id}/tree/{rev}(?:/{path})?", "read", downloads.list_tree),
    ("POST", "/api/{kind}/{id}/paths-info/{rev}", "read", downloads.show_paths),
    ("HEAD", "/{prefix}{id}/resolve/{rev}/{path}", "read", downloads.send_file),
    ("GET", "/{prefix}{id}/resolve/{rev}/{path}", "read", downloads.send_file),
]
PATTERNS = [re.compile(path.format(**PARTS)) for _, path, _, _ in ROUTES]


def answer(hub, call: Call) -> Reply:
    """Does what is asked, or refuses it."""
    try:
        return follow(hub, call)
    except Refused as refused:
        return refused.reply
    except Exception as error:  # Whatever a request trips over, the client gets an answer.
        return Refused(400, f"malformed request: {error!r}").reply


def follow(hub, call: Call) -> Reply:
    """Finds the function of the address, and what it needs; the parts of the path arrive there unquoted."""
    for (method, _, access, function), pattern in zip(ROUTES, PATTERNS, strict=True):
        match = pattern.fullmatch(call.path) if method == call.method else None
        if match is None:
            continue
        parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
        if not access:
            return function(hub, call, **parts)
        kind = parts.pop("kind").removesuffix("/") or "models"
        repository = hub.repositories.get((kind, parts.pop("id")))
        if access != "signed":
            check_access(call, repository, access)
        return function(call, repository, **parts)
    raise Refused(404, f"No such address: {call.method} {call.path}")
