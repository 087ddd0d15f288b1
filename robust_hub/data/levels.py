"""On what scale pixels are that are no bytes: decided once for a whole set, never by one dark image."""

import numpy as np

from robust_hub.data.content import Contents

SCALE_OF_INTEGERS = 65535
# Images that reach less of the scale are seen as next to black.
DARK = 0.1


def white_of(contents: Contents) -> float:
    """Gives the value of white among the floats of a set: 1 or 255; 0 where it has none.

    Raises:
        ValueError: when floats are beyond both, or on one scale in a split and on the other in another; or when
            integers have more than 16 bits.
    """
    table, name = contents.table, contents.name
    floats = table["mode"] == b"F"
    whole = ~floats & ~np.isnan(table["low"])
    for chosen, most, wanted in (
        (whole, SCALE_OF_INTEGERS, "integers from 0 to 65,535"),
        (floats, 255, "floats in [0, 1] or [0, 255]"),
    ):
        beyond = chosen & ~((table["low"] >= 0) & (table["high"] <= most))
        if beyond.any():
            low, high = table["low"][chosen].min(), table["high"][chosen].max()
            raise ValueError(
                f"the images of {name} must hold {wanted}, got {low:g} to {high:g}, for example in "
                f"{contents.where(int(beyond.argmax()))}; scale them, or drop the row"
            )
    if not floats.any():
        return 0.0
    whites, start = {}, 0
    for split, rows in contents.splits.items():
        own = table[start : start + len(rows)]
        start += len(rows)
        if (own["mode"] == b"F").any():
            whites[split] = 1 if own["high"][own["mode"] == b"F"].max() <= 1 else 255
    if len(set(whites.values())) > 1:
        told = " and ".join(f"[0, {white}] in split {split}" for split, white in whites.items())
        raise ValueError(f"the floats of {name} must be on one scale, got {told}; scale them alike")
    return float(next(iter(whites.values())))


def tell_levels(table: np.ndarray, white: float) -> tuple[str, list[str]]:
    """Tells what pixels that are no bytes hold and how that is read, and notes where they would be seen as black."""
    told, notes = [], []
    floats = table["mode"] == b"F"
    for chosen, kind, scale in ((~floats, "integers", SCALE_OF_INTEGERS), (floats, "floats", white)):
        own = table[chosen & ~np.isnan(table["low"])]
        if not len(own):
            continue
        low, high = own["low"].min(), own["high"].max()
        told.append(f"{kind} from {low:g} to {high:g}, of which {scale:g} is white")
        if high < DARK * scale:
            notes.append(f"{kind} go up to {high:g} only, and {scale:g} is white: the images look black; scale them")
    return ", ".join(told), notes
