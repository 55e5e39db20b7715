"""Templates kept on disk, by name: folders as :mod:`pyrovm.unikernel.saving` makes them."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrovm.errors import ConfigError, SnapshotError
from pyrovm.guest import cache
from pyrovm.unikernel.saving import MEMORY, Saved

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def home() -> Path:
    """The folder of all of them."""
    return cache.folder("templates")


def check_name(name: str) -> str:
    """``name``, if a template may be called so.

    Raises:
        ConfigError: it may not.
    """
    if not _NAME.fullmatch(name) or name.startswith("tmp-"):
        raise ConfigError(
            f"template {name!r}: a name is 1 to 64 letters, digits, dots, dashes and underlines"
        )
    return name


def folder_of(name: str) -> Path:
    """Where the template of this name is.

    Raises:
        ConfigError: there is none; says which there are.
    """
    folder = home() / check_name(name)
    if not folder.is_dir():
        raise ConfigError(
            f"template {name!r}: there is none; known: {', '.join(names()) or 'none'}"
        )
    return folder


def names() -> list[str]:
    """Of all templates, sorted."""
    return sorted(path.name for path in home().iterdir() if _NAME.fullmatch(path.name))


@contextlib.contextmanager
def making(name: str, *, replace: bool) -> Iterator[str]:
    """A folder to save the template ``name`` in; under its name, whole, at the end.

    Raises:
        ConfigError: there is one of this name already, or it is none.
    """
    final = home() / check_name(name)
    if final.exists() and not replace:
        raise ConfigError(f"template {name!r}: there is one already; --replace makes it anew")
    with cache.scratch(home()) as scratch:
        made = scratch / "made"
        made.mkdir()
        yield str(made)
        if final.exists():
            os.rename(final, scratch / "old")
        os.rename(made, final)


def remove(name: str) -> None:
    """Remove a template; branches that run go on.

    Raises:
        ConfigError: there is none of this name.
    """
    folder = folder_of(name)
    with cache.scratch(home()) as scratch:
        os.rename(folder, scratch / "old")


def describe(name: str) -> dict[str, Any]:
    """What there is to know about a template, as plain data.

    Raises:
        ConfigError: there is none of this name.
        SnapshotError: its files are damaged.
    """
    folder = folder_of(name)
    saved = Saved(str(folder))
    request = saved.request
    try:
        memory = os.stat(folder / MEMORY)
    except OSError as error:
        raise SnapshotError(f"{folder}: {MEMORY}: {error.strerror}") from None
    return {
        "name": name,
        "command": request.get("argv", []),
        "program": request["exe"][0],
        "image": Path(request["image"][0]).parent.name,
        "ready": saved.config.get("ready", ""),
        "created_ns": saved.created_ns,
        "memory_bytes": memory.st_size,
        "disk_bytes": memory.st_blocks * 512,
        "cpus": int(request["cpus"][0]),
        "allow": request.get("allow", []),
        "publish": request.get("publish", []),
        "volumes": request.get("volume", []),
        "folder": str(folder),
    }
