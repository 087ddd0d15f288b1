"""Who one is, and what one may do."""

from tests.loopback_hub.server.calls import Call, Reply
from tests.loopback_hub.server.contents import Repository, now
from tests.loopback_hub.server.rights import user


def who_am_i(hub, call: Call) -> Reply:
    name, role, organizations = user(call)
    roles = [{"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": role} for name in organizations]
    access = {"displayName": f"{name}-{role}", "role": role, "createdAt": now()}
    provenance = {"type": "user", "id": name, "name": name, "fullname": name, "email": "", "emailVerified": True}
    provenance |= {"canPay": False, "isPro": False, "avatarUrl": "", "orgs": roles}
    return Reply({**provenance, "auth": {"type": "access_token", "accessToken": access}})


def confirm_access(call: Call, repository: Repository) -> Reply:
    """Says nothing more: who asks has the right that the address needs."""
    return Reply({})
