"""Weights that timm knows by a name of its own, an architecture and a tag: where they are, and what was meant."""

from pathlib import Path

from filelock import FileLock
from huggingface_hub import cached_assets_path, try_to_load_from_cache

from robust_hub.errors import CheckpointError, close_names
from robust_hub.files import write_json
from robust_hub.names import CONFIG, WEIGHTS


def is_timms_own(name: str) -> bool:
    """Tells whether a name is one of weights that timm knows, such as resnet18.a1_in1k."""
    if "." not in name or "/" in name or ":" in name:
        return False
    # Here, as in all of these: lists of models need no torch.
    from timm.models import is_model_pretrained

    return is_model_pretrained(name)


def repository_of(name: str) -> str:
    """Gives the repository on the Hub that timm fetches weights of its own from.

    Raises:
        CheckpointError: when timm knows them by an address alone.
    """
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    if cfg is not None and cfg.hf_hub_id:
        return cfg.hf_hub_id
    near = close_names(name, _on_the_hub("*")) or "; choose others"
    raise CheckpointError(f"the weights {name} are not on the Hub, timm knows them by an address alone{near}")


def meant(name: str) -> str:
    """Ends the sentence about a name that is none of weights; empty where nobody can tell what was meant."""
    from timm import is_model

    architecture, _, tag = name.partition(".")
    if tag:
        return close_names(name, _on_the_hub(architecture)) or close_names(name, _on_the_hub("*"))
    if not is_model(architecture):
        return ""
    known = _on_the_hub(architecture)[:3]
    told = f", and its weights are {', '.join(known)}" if known else ""
    return f"; {architecture} is an untrained network, which only a student can be{told}"


def commit_in_cache(repository: str) -> str:
    """Gives the commit of the weights of a repository that the cache has; empty where it has none."""
    weights = try_to_load_from_cache(repository, WEIGHTS)
    return Path(weights).parent.name if isinstance(weights, str) else ""


def folder_around(name: str, weights: Path) -> Path:
    """Gives the folder of a model for weights that the cache has alone; its config.json is what timm knows of them."""
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    assert cfg is not None
    told = cfg.to_dict(remove_source=True, remove_null=True)
    config = {"architecture": told.pop("architecture"), "num_classes": cfg.num_classes, "pretrained_cfg": told}
    folder = cached_assets_path("robust_hub", "timm", f"{name}@{weights.parent.name}")
    # Every process of a run comes here.
    with FileLock(f"{folder}.lock"):
        write_json(folder / CONFIG, config)
        if not (folder / WEIGHTS).is_file():
            (folder / WEIGHTS).unlink(missing_ok=True)
            (folder / WEIGHTS).symlink_to(weights.resolve())
    return folder


def _on_the_hub(architecture: str) -> list[str]:
    """Lists the weights that timm has on the Hub; an architecture may be a pattern."""
    from timm import list_pretrained
    from timm.models import get_pretrained_cfg

    cfgs = {name: get_pretrained_cfg(name) for name in list_pretrained(f"{architecture}.*")}
    return [name for name, cfg in cfgs.items() if cfg is not None and cfg.hf_hub_id]
