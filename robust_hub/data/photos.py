"""Photos in files, named one by one or found in folders, for a classifier to label."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from robust_hub.data.images import Fit, read_fitted
from robust_hub.data.listing import list_folder
from robust_hub.errors import close_names


def find_photos(paths: Iterable[str | Path]) -> list[Path]:
    """Lists files as they are named, and of a folder all that Pillow can read, by their names, in the order of paths.

    Args:
        paths: files and folders; what is hidden in a folder is left out.

    Raises:
        ValueError: when one is not there, a folder holds no photo, or there are none at all.
    """
    photos = []
    for path in (Path(path).expanduser() for path in paths):
        if not path.exists():
            beside = map(str, path.parent.iterdir()) if path.parent.is_dir() else ()
            raise ValueError(f"there is no photo at {path}{close_names(str(path), beside) or '; check the path'}")
        inside = [path.joinpath(*parts) for parts in list_folder(path).images] if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"expected photos in the folder {path}, and there are none; check the path")
        photos += inside
    if not photos:
        raise ValueError("expected photos, got none; name files, or folders of them")
    return photos


def read_photo(file: Path, fit: Fit) -> Tensor:
    """Reads a photo as every image is read, and brings it to the size that a classifier takes.

    Returns:
        c h w, levels of 0 to 255.

    Raises:
        ValueError: when it can't be read.
    """
    return read_fitted({"image": {"bytes": None, "path": str(file)}, "where": str(file)}, fit)


def read_encoded(encoded: bytes, fit: Fit) -> Tensor:
    """Reads a photo that is in no file; see `read_photo`."""
    return read_fitted({"image": {"bytes": encoded, "path": None}, "where": "hand"}, fit)
