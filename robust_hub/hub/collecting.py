"""A Collection on the Hub of all models that an organisation has published, with what each claims."""

from dataclasses import dataclass

from huggingface_hub import HfApi

from robust_hub.errors import CheckpointError, shortened
from robust_hub.hub.catalogue import list_models
from robust_hub.hub.fetching import told_by_the_hub
from robust_hub.model_folder import ModelInfo

TITLE = "Robust image classifiers"
DESCRIPTION = "They withstand adversarial perturbations; `robust_hub verify NAME` checks each claim in seconds."
# What the Hub takes.
LONGEST_NOTE = 500


@dataclass(frozen=True)
class Collected:
    """What became of a collection.

    Attributes:
        url: of its page.
        added: the models that are new in it.
        changed: those whose note tells something else now.
        kept: those that stood there as they are.
    """

    url: str
    added: list[str]
    changed: list[str]
    kept: list[str]

    def __str__(self) -> str:
        """Writes it in one line."""
        return f"{self.url}: {len(self.added)} added, {len(self.changed)} changed, {len(self.kept)} as they were"


def collect(namespace: str, *, title: str = TITLE, private: bool = False) -> Collected:
    """Writes or updates a collection: models that are not in it are added, and notes tell what is claimed now.

    What somebody else has put into it is left alone.

    Args:
        namespace: the user or organisation whose models are collected, and whose the collection is.
        title: by which the Hub knows it again.
        private: whether only they see it, where it is new.

    Raises:
        CheckpointError: when there is no model, or the Hub refuses.
    """
    models = {
        place.removeprefix("hf-hub:"): note_of(info)
        for place, info in list_models().items()
        if place.startswith(f"hf-hub:{namespace}/")
    }
    if not models:
        raise CheckpointError(f"there is no robust_hub model of {namespace} on the Hub; publish one with publish.py")
    advice = {"status_401": "log in with `hf auth login`, or set HF_TOKEN", "status_403": f"ask {namespace} for rights"}
    with told_by_the_hub(f"the Hub does not take the collection of {namespace}", **advice):
        api = HfApi()
        collection = api.create_collection(
            title, namespace=namespace, description=DESCRIPTION, private=private, exists_ok=True
        )
        there = {item.item_id: item for item in collection.items if item.item_type == "model"}
        added = [name for name in models if name not in there]
        changed = [name for name in models if name in there and there[name].note != models[name]]
        for name in added:
            api.add_collection_item(collection.slug, name, "model", note=models[name], exists_ok=True)
        for name in changed:
            api.update_collection_item(collection.slug, there[name].item_object_id, note=models[name])
    return Collected(collection.url, added, changed, [name for name in models if name not in (*added, *changed)])


def note_of(info: ModelInfo) -> str:
    """Writes what a model claims, as short as a note must be."""
    doubt = f"; {info.flagged} of {info.checks} honesty checks flagged" if info.flagged else ""
    told = (
        f"{info.robust_accuracy} % robust ({info.protocol}, {info.threat}), {info.clean_accuracy} % clean, of "
        f"{info.robust_accuracy.n:,} images of {info.data}{doubt}"
    )
    return shortened(told, LONGEST_NOTE - len(" ... "))
