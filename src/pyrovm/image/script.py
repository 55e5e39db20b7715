"""Scripts: who interprets them, as the kernel reads the first line (fs/binfmt_script.c)."""

from __future__ import annotations

import os
from pathlib import Path

from pyrovm.errors import ConfigError
from pyrovm.image.which import find_program

MAGIC = b"#!"
MAX_LINE = 256  # BINPRM_BUF_SIZE


def interpreter(head: bytes, path: str) -> list[str]:
    """The words before the script's own path: the interpreter and what it is given.

    ``env`` is not put into the image: what it would find on the host's PATH is.

    Raises:
        ConfigError: the line names nobody, or somebody who is not there.
    """
    line = head[len(MAGIC) : MAX_LINE].partition(b"\n")[0]
    if b"\n" not in head and len(head) >= MAX_LINE:
        raise ConfigError(f"{path}: its first line has more than {MAX_LINE} bytes")
    words = [os.fsdecode(word) for word in line.strip(b" \t\r").split(maxsplit=1)]
    if not words or not words[0].startswith("/"):
        raise ConfigError(f"{path}: a script whose first line names no interpreter: {line[:80]!r}")
    if os.path.basename(words[0]) == "env" and len(words) == 2:
        rest = words[1].split()
        if rest[0] == "-S":
            rest = rest[1:]
        elif len(rest) > 1:
            raise ConfigError(f"{path}: env with options: {words[1]!r}")
        if not rest or "=" in rest[0] or rest[0].startswith("-"):
            raise ConfigError(f"{path}: env with options: {words[1]!r}")
        found = rest[0] if rest[0].startswith("/") else find_program(rest[0])
        if found is None:
            raise ConfigError(f"{path}: a script for {rest[0]}, which is not on PATH")
        words = [found, *rest[1:]]
    if not os.path.isfile(words[0]):
        raise ConfigError(f"{path}: a script whose interpreter {words[0]} is missing")
    return words


def head(path: Path) -> bytes:
    """The beginning of a file: enough to tell what it is."""
    with open(path, "rb") as file:
        return file.read(MAX_LINE)
