"""Python bytecode for the lab, where compiling is some thirty times as slow as here.

Each compiled file is kept under the hash of its source.  It is of the kind that Python loads
without looking at the source again (PEP 552, "unchecked hash"): times do not matter.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import py_compile
import sys
import threading
from pathlib import Path

from pyrovm.guest import cache

_KEPT = 5000  # files

_CACHE_TAG = sys.implementation.cache_tag


def compile_tree(folder: Path) -> int:
    """Put bytecode beside every Python file below ``folder``; how many had to be compiled."""
    store = cache.folder("lab", "bytecode")
    compiled = 0
    for top, names, files in os.walk(folder):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in files:
            if name.endswith(".py"):
                compiled += _compile(Path(top, name), store)
    if compiled:
        _prune(store)
    return compiled


def _compile(source: Path, store: Path) -> bool:
    key = hashlib.sha256(importlib.util.MAGIC_NUMBER + source.read_bytes()).hexdigest()
    kept = store / key
    try:
        code, missing = kept.read_bytes(), False
        cache.touch(kept)
    except FileNotFoundError:
        part = store / f"{key}.{os.getpid()}.{threading.get_ident()}"
        try:
            py_compile.compile(
                str(source),
                cfile=str(part),
                dfile=source.name,  # the import system puts the true path in when it loads it
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            return False  # no Python of this version; whoever runs it will see
        code, missing = part.read_bytes(), True
        os.replace(part, kept)
    target = source.parent / "__pycache__" / f"{source.stem}.{_CACHE_TAG}.pyc"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(code)
    return missing


def _prune(store: Path) -> None:
    paths = cache.oldest_first(store.iterdir())
    for path in paths[: max(0, len(paths) - _KEPT)]:
        path.unlink(missing_ok=True)
