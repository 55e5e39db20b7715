"""The image that functions run in: this Python, with the packages that they require."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence

from pyrovm.errors import ConfigError
from pyrovm.image import index
from pyrovm.image.index import Entry
from pyrovm.image.which import find_program, is_python


def image_with(requirements: Sequence[str]) -> Entry:
    """An image of the interpreter; made on first use, and again when the interpreter changes.

    Raises:
        ConfigError: there is no CPython, or a requirement is none.
        HostError: the image cannot be made; with what pip said.
    """
    python = interpreter()
    if not requirements:
        return index.find_or_build([python])
    for text in requirements:
        if not isinstance(text, str) or text.startswith("-") or "\n" in text:
            raise ConfigError(
                f"requirements: {text!r} given; the likes of 'package==1.0' are needed"
            )
    text = "".join(f"{each}\n" for each in sorted(set(requirements)))
    # The packages of a version of Python, whatever else changes about it.
    version = "{}.{}.{}-{}".format(*sys.version_info[:4])
    key = hashlib.sha256(f"{python} {version}\n{text}".encode()).hexdigest()
    name = f"function-{key[:16]}"
    return index.named(name) or _build(name, python, text)


def interpreter() -> str:
    """This Python, or one of its version on PATH where this cannot be started by itself."""
    if sys.executable and is_python(sys.executable):
        return sys.executable
    name = "python{}.{}".format(*sys.version_info)
    found = find_program(name)
    if found is None:
        raise ConfigError(f"there is no {name} on PATH to run functions")
    return found


def _build(name: str, python: str, text: str) -> Entry:
    from pyrovm.guest import cache
    from pyrovm.image.build import Options, build

    # Of several that want it at once, one makes it.
    with cache.locked(cache.folder("images", "index", index.LOCKS) / name):
        found = index.named(name)
        if found is None:
            with cache.scratch(cache.folder("images")) as folder:
                file = folder / "requirements.txt"
                file.write_text(text)
                options = Options(name=name, requirements=(str(file),))
                found = build(python, options).entry
    return found
