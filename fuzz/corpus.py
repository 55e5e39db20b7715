"""Inputs in files: one folder a target, one file an input, named by its digest."""

from __future__ import annotations

from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def file_name(data: bytes) -> str:
    """The name of the file that holds ``data``."""
    return sha256(data).hexdigest()[:16]


def load(folder: Path) -> list[bytes]:
    """All inputs of a folder, in the order of their names; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]


def save(folder: Path, data: bytes) -> Path:
    """Write one input; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(data)
    path.write_bytes(data)
    return path


def replace(folder: Path, inputs: Iterable[bytes]) -> None:
    """Make ``inputs`` the contents of a folder."""
    wanted = {file_name(data): data for data in inputs}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in wanted:
            path.unlink()
    for name, data in wanted.items():
        (folder / name).write_bytes(data)
