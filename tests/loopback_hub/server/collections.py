"""Collections: named lists of repositories, with a note on each."""

import hashlib
from dataclasses import dataclass, field

from tests.loopback_hub.server.calls import Call, Refused, Reply, require
from tests.loopback_hub.server.rights import caller, writer

MOST_OF_A_DESCRIPTION, MOST_OF_A_NOTE = 150, 500


@dataclass
class Collection:
    """A list of repositories of a namespace."""

    namespace: str
    title: str
    description: str
    private: bool
    items: list[dict] = field(default_factory=list)

    @property
    def slug(self) -> str:
        number = hashlib.sha1(f"{self.namespace}/{self.title}".encode()).hexdigest()[:24]
        return f"{self.namespace}/{'-'.join(self.title.lower().split())}-{number}"

    def told(self) -> dict:
        return {
            "slug": self.slug,
            "title": self.title,
            "description": self.description,
            "owner": {"name": self.namespace, "type": "org"},
            "items": self.items,
            "lastUpdated": "2026-01-01T00:00:00.000Z",
            "position": 0,
            "private": self.private,
            "theme": "blue",
            "upvotes": 0,
        }


def create_collection(hub, call: Call) -> Reply:
    asked = call.json()
    require(asked.keys() <= {"title", "namespace", "description", "private"}, f"no collection is made of {asked}")
    writer(call, asked["namespace"])
    require(len(asked.get("description", "")) <= MOST_OF_A_DESCRIPTION, "the description is too long")
    made = Collection(asked["namespace"], asked["title"], asked.get("description", ""), asked["private"])
    if made.slug in hub.collections:
        return Reply({"error": "This collection already exists", "slug": made.slug}, 409)
    hub.collections[made.slug] = made
    return Reply(made.told())


def show_collection(hub, call: Call, slug: str) -> Reply:
    found = _found(hub, slug)
    if found.private and found.namespace not in caller(call).namespaces:
        raise Refused(404, "Collection not found")
    return Reply(found.told())


def add_item(hub, call: Call, slug: str) -> Reply:
    found, asked = _found(hub, slug), call.json()
    writer(call, found.namespace)
    item, note = asked["item"], asked.get("note", "")
    require(len(note) <= MOST_OF_A_NOTE, "the note is too long")
    require((f"{item['type']}s", item["id"]) in hub.repositories, f"there is no {item['type']} {item['id']}")
    if any(each["id"] == item["id"] for each in found.items):
        return Reply({"error": "This item is already in the collection"}, 409)
    number = hashlib.sha1(item["id"].encode()).hexdigest()[:24]
    found.items.append({"_id": number, **item, "position": len(found.items), "note": {"text": note, "html": note}})
    return Reply(found.told())


def change_item(hub, call: Call, slug: str, number: str) -> Reply:
    found, asked = _found(hub, slug), call.json()
    writer(call, found.namespace)
    require(asked.keys() <= {"note", "position"}, f"nothing of an item is changed by {asked}")
    require(len(asked.get("note", "")) <= MOST_OF_A_NOTE, "the note is too long")
    (item,) = [each for each in found.items if each["_id"] == number]
    item["note"] = {"text": asked["note"], "html": asked["note"]}
    return Reply({})


def _found(hub, slug: str) -> Collection:
    if slug not in hub.collections:
        raise Refused(404, "Collection not found")
    return hub.collections[slug]
