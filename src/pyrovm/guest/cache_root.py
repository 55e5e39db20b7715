"""Where the cache is, for those who start too often to import :mod:`pyrovm.guest.cache`."""

from __future__ import annotations

import os


def cache_root() -> str:
    """``$PYROVM_CACHE``, or ``pyrovm`` in the user's cache folder; it need not exist."""
    chosen = os.environ.get("PYROVM_CACHE")
    if not chosen:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        chosen = os.path.join(base, "pyrovm")
    return os.path.abspath(chosen)
