"""Which file a word on a command line means.  Light: this is on the path of every start."""

from __future__ import annotations

import os
import stat

_SOURCES = (".py", ".c")


def find_source(word: str) -> str | None:
    """The absolute path of what ``word`` names, or None.

    With a slash it is a path.  Without one it is looked up on ``PATH``, then in the current folder;
    names of Python and C sources the other way round, for nobody has them on ``PATH``.
    """
    if not word or "\0" in word:
        return None
    if "/" in word:
        return os.path.abspath(word) if os.path.exists(word) else None
    here = os.path.abspath(word)
    if word.endswith(_SOURCES) and os.path.isfile(here):
        return here
    return find_program(word) or (here if os.path.exists(here) else None)


def find_program(name: str, path: str | None = None) -> str | None:
    """The program ``name`` on ``PATH`` (or ``path``); what pyenv's stand-ins would start."""
    if path is None:
        path = os.environ.get("PATH", os.defpath)
    for folder in path.split(":"):
        if not folder:
            continue
        found = os.path.join(os.path.abspath(folder), name)
        if not _is_program(found):
            continue
        if _is_shim(found):
            behind = _behind_shim(found)
            if behind is None:
                continue
            return behind
        return found
    return None


def is_python(path: str) -> bool:
    """Whether a file is called as CPython's interpreter is: python, python3, python3.11."""
    name = os.path.basename(path)
    return name == "python" or (name.startswith("python") and name[6:].replace(".", "").isdigit())


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def _is_shim(path: str) -> bool:
    """pyenv puts a folder ``shims`` on PATH: shell scripts that choose a version when started."""
    folder = os.path.dirname(path)
    return os.path.basename(folder) == "shims" and os.path.isdir(
        os.path.join(os.path.dirname(folder), "versions")
    )


def _behind_shim(shim: str) -> str | None:
    """What a shim would start: the first chosen version that has the program."""
    root, name = os.path.dirname(os.path.dirname(shim)), os.path.basename(shim)
    versions = os.path.join(root, "versions")
    for chosen in _pyenv_versions(root):
        for version in (chosen, *_newest_first(versions, chosen)):
            found = os.path.join(versions, version, "bin", name)
            if _is_program(found):
                return found
    return None


def _pyenv_versions(root: str) -> list[str]:
    """$PYENV_VERSION, else .python-version from here upwards, else the global file."""
    told = os.environ.get("PYENV_VERSION")
    if told:
        return [word for word in told.split(":") if word and "/" not in word]
    folder = os.getcwd()
    candidates = []
    while True:
        candidates.append(os.path.join(folder, ".python-version"))
        if folder == os.path.dirname(folder):
            break
        folder = os.path.dirname(folder)
    for path in (*candidates, os.path.join(root, "version")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                words = file.read(4096).split()
        except OSError:
            continue
        return [word for word in words if "/" not in word]
    return []


def _newest_first(versions: str, prefix: str) -> list[str]:
    """``3.11`` stands for the newest 3.11.x."""
    try:
        names = [name for name in os.listdir(versions) if name.startswith(f"{prefix}.")]
    except OSError:
        return []
    return sorted(names, key=_version_key, reverse=True)


def _version_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
