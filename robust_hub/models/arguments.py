"""Which arguments of timm's create_model describe a network, and which tell it what to read or how to run it."""

import re

# By which timm reads files, fetches weights, wraps the network, compiles it, or puts it somewhere.
NO_NETWORK = re.compile(
    "pretrained.*|feature_cfg|features_only|kwargs_filter|checkpoint_path|cache_dir|scriptable|exportable|no_jit|device|dtype"
)


def describes_network(argument: str) -> bool:
    """Tells whether an argument is one of the network itself, by its name."""
    return not NO_NETWORK.fullmatch(argument)
