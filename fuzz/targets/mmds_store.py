"""The metadata service's data store: values put and patched by a client, paths asked by a guest."""

from __future__ import annotations

import json
from typing import Any

from pyrovm.config.serde.reader import JsonError
from pyrovm.config.serde.value import parse_value
from pyrovm.config.serde.writer import dumps
from pyrovm.mmds.store import (
    DataStore,
    NotFound,
    NotInitializedError,
    StoreLimitError,
    UnsupportedType,
    canonical,
)

LIMIT = 200  # bytes


def one_input(data: bytes) -> None:
    """Lines: ``+`` puts JSON, ``~`` patches with it, anything else is a path.  The store never
    exceeds its limit, a refused change changes nothing, a patch does what RFC 7396 says.
    """
    store = DataStore(LIMIT)
    for line in data.split(b"\n"):
        kind, rest = line[:1], line[1:]
        if kind in (b"+", b"~"):
            _change(store, kind, rest)
        else:
            _look_up(store, line)
        text = dumps(store.get())
        assert not store.is_initialized or len(text.encode()) <= LIMIT
        assert dumps(canonical(store.get())) == text


def _change(store: DataStore, kind: bytes, raw: bytes) -> None:
    try:
        value = parse_value(raw)
    except JsonError:
        return
    before = dumps(store.get())
    try:
        if kind == b"+":
            store.put(value)
            assert store.get() == value
        else:
            expected = _merged(json.loads(before), json.loads(dumps(value)))
            store.patch(value)
            assert json.loads(dumps(store.get())) == expected
    except (StoreLimitError, NotInitializedError):
        assert dumps(store.get()) == before


def _merged(target: Any, patch: Any) -> Any:
    """The pseudo-code of RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _merged(target.get(name), value)
    return target


def _look_up(store: DataStore, raw: bytes) -> None:
    path = raw.decode("utf-8", "replace")
    for as_json in (True, False):
        try:
            text = store.render(path, as_json=as_json)
        except (NotFound, UnsupportedType):
            continue
        assert path == "" or path.startswith("/")
        assert store.render(f"/{path}/", as_json=as_json) == text
        if as_json:
            json.loads(text)


SEEDS = [
    b'+{"a":{"b":[1,"x"]},"c/d":"y"}\n/a/b/1\n/c~1d\n/a\n~{"a":{"b":null,"e":{}}}\n/a/e\n/',
    b'~{}\n+1\n~{"a":null}\n+"' + b"x" * 300 + b'"\n/',
    b"/\n+[]\n/0\n/-\n~[1]\n/0",
]
WORDS = (b"\n+", b"\n~", b"\n/", b"{", b"}", b'"a":', b"null", b"[", b"]", b",", b"~0", b"~1", b"/")
