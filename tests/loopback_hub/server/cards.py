"""Model cards: the metadata on top of README.md, and the tags that the Hub makes of it."""

import re

import yaml

from tests.loopback_hub.server.calls import Call, Refused, Reply, require


def validate_yaml(hub, call: Call) -> Reply:
    errors = []
    try:
        front_matter(call.json()["content"])
    except (yaml.YAMLError, Refused):
        errors = [{"message": "the metadata on top of README.md must be names and values in YAML"}]
    return Reply({"errors": errors, "warnings": []}, 400 if errors else 200)


def front_matter(readme: str) -> dict:
    """Reads the YAML between the dashes on top of a card."""
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", readme, re.DOTALL | re.MULTILINE)
    card = yaml.safe_load(match[1]) if match else {}
    require(isinstance(card, dict), "the metadata of a card are names and values")
    return card


def card_tags(card: dict) -> list[str]:
    """Lists the tags by which `filter` finds a card."""
    prefixes = {"library_name": "", "pipeline_tag": "", "tags": ""}
    prefixes |= {"license": "license:", "datasets": "dataset:", "base_model": "base_model:"}
    tags = {}
    for name, prefix in prefixes.items():
        values = card.get(name) or []
        tags |= {f"{prefix}{value}": None for value in (values if isinstance(values, list) else [values])}
    return [*tags, "region:us"]
