"""Which column of a data set holds the images and which their labels, and images of whatever a column holds."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import Array2D, Array3D, ClassLabel, Dataset, Features, Image, LargeList, List, Value
from PIL import Image as PILImage
from pyarrow import compute

from robust_hub.data.images import check_cell
from robust_hub.data.listing import counted, some

# What people call columns whose type tells nothing, whatever the case.
IMAGES = ("image", "img", "picture", "file_name", "filename", "path", "image_path")
LABELS = ("label", "class", "target")


def usual_column(columns: Sequence[str], usual: Sequence[str]) -> str:
    """Finds the first of the usual names among the columns, in any case; empty where none is there."""
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), "")


def find_image_column(name: str, columns: Mapping[str, Any]) -> str:
    """Finds the one column of images, by its type or else by its name; raises ValueError where it can't be told."""
    return _find(name, columns, Image, "image", IMAGES)


def find_label_column(name: str, columns: Mapping[str, Any]) -> str:
    """Finds the one column of labels, by its type or else by its name; raises ValueError where it can't be told."""
    return _find(name, columns, ClassLabel, "label", LABELS)


def _find(name: str, columns: Mapping[str, Any], kind: type, option: str, usual: Sequence[str]) -> str:
    found = [column for column, feature in columns.items() if isinstance(feature, kind)]
    if option in found:
        return option
    if len(found) == 1:
        return found[0]
    if not found and (by_name := usual_column(list(columns), usual)):
        return by_name
    have = f"{len(found)} ({', '.join(found)})" if found else f"none among {', '.join(columns)}"
    raise ValueError(f"{name} must have one {kind.__name__} column, found {have}; name it with --{option}-column")


def with_images(name: str, rows: Dataset, column: str, places: Sequence[Path] = ()) -> Dataset:
    """Makes images of bytes, paths, both as pandas writes them, or arrays of pixels.

    Args:
        name: of the data set, for errors.
        rows: a split.
        column: that of the images.
        places: the folders that relative paths may start from.

    Raises:
        ValueError: when it holds anything else, or most of the files are missing.
    """
    if column not in rows.features:
        raise ValueError(f"all splits of {name} must have column '{column}', got one of {', '.join(rows.features)}")
    feature = rows.features[column]
    if isinstance(feature, Image):
        return rows
    if isinstance(feature, List | LargeList | Array2D | Array3D):
        return _of_pixels(name, rows, column)
    is_cell = isinstance(feature, dict | Features) and set(feature) == {"bytes", "path"}
    kind = getattr(feature, "dtype", "")
    if kind in ("string", "large_string", "string_view"):
        return _of_paths(name, rows, column, rows[column][:], places)
    if not is_cell and kind not in ("binary", "large_binary"):
        raise ValueError(
            f"column '{column}' of {name} must hold images, bytes of image files, paths to them or arrays of pixels, "
            f"got {feature}; name another --image-column"
        )
    undecoded = rows.cast_column(column, Image(decode=False))
    chunks = undecoded.data.column(column).chunks
    if len(rows) and all(chunk.field("bytes").null_count == len(chunk) for chunk in chunks):
        paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
        return _of_paths(name, undecoded, column, paths, places)
    return undecoded.cast_column(column, Image())


def check_cells(rows: Dataset, where: Callable[[int], str]) -> None:
    """Checks every cell of an undecoded column `image`, see `check_cell`; no bytes are read.

    Args:
        rows: a split.
        where: says where a row is from.

    Raises:
        ValueError: when one has neither bytes nor a file.
    """
    cells = rows.data.column("image")
    # They are written in C++, where types are not seen.
    stored, paths = (compute.struct_field(cells, name) for name in ("bytes", "path"))  # ty: ignore[missing-attribute]
    lacks = stored.is_null()
    if rows._indices is not None:
        chosen = rows._indices.column(0)
        lacks, paths = lacks.take(chosen), paths.take(chosen)
    for row, path in zip(np.flatnonzero(lacks).tolist(), paths.filter(lacks).to_pylist(), strict=True):
        check_cell({"bytes": None, "path": path}, where(row))


def _of_paths(name: str, rows: Dataset, column: str, cells: list[str | None], places: Sequence[Path]) -> Dataset:
    folders = [os.path.abspath(place) for place in (*places, ".")]
    paths = [_locate(folders, cell) for cell in cells]
    missing = [str(cell) for cell, path in zip(cells, paths, strict=True) if not path]
    if missing:
        are = counted(len(missing), "file is", "files are")
        raise ValueError(
            f"column '{column}' of {name} must hold paths of images from {folders[0]}, but {are} not there "
            f"({some(missing)}); bring them, rewrite the paths or drop the rows"
        )
    # Not add_column: what it makes can't be added to again once all its first columns are left out.
    table = rows.with_format("arrow")[:]
    columns = {each: table[each] for each in rows.column_names} | {column: pyarrow.array(paths)}
    features = Features({**rows.features, column: Value("string")})
    return Dataset.from_dict(columns, features=features).cast_column(column, Image())


def _locate(folders: list[str], cell: str | None) -> str:
    paths = (os.path.join(folder, cell) for folder in folders) if cell else ()
    return next((path for path in paths if os.path.isfile(path)), "")


def _of_pixels(name: str, rows: Dataset, column: str) -> Dataset:
    def encoded(cells: Any, numbers: list[int]) -> dict[str, list[dict]]:
        where = (f"row {number} of column '{column}' of {name}" for number in numbers)
        return {column: [_png(cell, place) for cell, place in zip(cells, where, strict=True)]}

    features = Features({**rows.features, column: Image(decode=False)})
    as_arrays = rows.with_format("numpy", columns=[column], output_all_columns=True)
    as_files = as_arrays.map(
        encoded,
        batched=True,
        batch_size=256,
        with_indices=True,
        input_columns=[column],
        features=features,
        # Else all that the function can reach is hashed, which takes seconds.
        new_fingerprint=hashlib.sha256(f"{rows._fingerprint} {column} as PNG".encode()).hexdigest()[:16],
    )
    return as_files.with_format(None).cast_column(column, Image())


def _png(cell: Any, where: str) -> dict:
    """Writes pixels as a file that loses nothing."""
    pixels = _as_array(cell)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4))
    if not (is_image and pixels.size and pixels.dtype.kind in "iu" and 0 <= pixels.min() <= pixels.max() <= 255):
        extremes = f", {pixels.min():g} to {pixels.max():g}" if pixels.size and pixels.dtype.kind in "iuf" else ""
        raise ValueError(
            "an array of pixels must hold whole numbers 0 to 255 by height, width and channels, got "
            f"{pixels.dtype} of shape {pixels.shape}{extremes} at {where}; write it so, or bytes of PNG files"
        )
    grey = pixels[..., 0] if pixels.shape[-1] == 1 and pixels.ndim == 3 else pixels
    file = BytesIO()
    PILImage.fromarray(grey.astype(np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def _as_array(cell: Any) -> np.ndarray:
    """Stacks what numpy leaves as arrays of arrays; gives an empty one where rows differ in length."""
    try:
        return np.array(cell.tolist() if isinstance(cell, np.ndarray) and cell.dtype == object else cell)
    except ValueError:
        return np.zeros(0)
