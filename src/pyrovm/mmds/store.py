"""The data store: one JSON value, put and patched by the host, read by path by the guest.

Values are what JSON has in Python: None, bool, int, float, str, list, and dict with str keys.
What is kept is a copy of its own with the keys of every object in order of their bytes, so that
two equal stores read the same.
"""

from __future__ import annotations

from pyrovm.config.serde.reader import RECURSION_LIMIT
from pyrovm.config.serde.writer import dumps
from pyrovm.errors import ConfigError, GuestError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StoreLimitError(ConfigError):
    """The new contents would be larger than the store may be (the API answers 413)."""

    def __init__(self) -> None:
        super().__init__("The MMDS patch request doesn't fit.")


class NotInitializedError(StateError):
    """A patch before anything was put."""

    def __init__(self) -> None:
        super().__init__("The MMDS data store is not initialized.")


class NotFound(GuestError):
    """The guest asks for a path that leads nowhere."""


class UnsupportedType(GuestError):
    """IMDS text knows objects and strings only."""

    def __init__(self) -> None:
        super().__init__("Cannot retrieve value. The value has an unsupported type.")


class DataStore:
    """Holds at most ``limit_bytes`` of compact JSON."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.is_initialized = False
        self._value: Any = None

    def get(self) -> Any:
        """The contents, an empty object before the first :meth:`put`; not to be changed."""
        return self._value if self.is_initialized else {}

    def put(self, value: Any) -> None:
        """Replace the contents.

        Raises:
            StoreLimitError: ``value`` is too large; the store is as it was.
            ConfigError: ``value`` is no JSON.
        """
        self._keep(canonical(value))

    def patch(self, value: Any) -> None:
        """Merge ``value`` into the contents (RFC 7396): None deletes a key.

        Raises:
            NotInitializedError: there is nothing to patch yet.
            StoreLimitError: the result is too large; the store is as it was.
            ConfigError: ``value`` is no JSON.
        """
        if not self.is_initialized:
            raise NotInitializedError
        self._keep(merge(self._value, canonical(value)))

    def _keep(self, value: Any) -> None:
        if len(dumps(value).encode()) > self.limit_bytes:
            raise StoreLimitError
        self._value = value
        self.is_initialized = True

    def render(self, path: str, *, as_json: bool) -> str:
        """What a guest reads at ``path``, as JSON or as IMDS text.

        Before the first :meth:`put` the store holds null, for a guest.

        Raises:
            NotFound: nothing is there.
            UnsupportedType: there is what IMDS text cannot say.
        """
        value = lookup(self._value, path)
        return dumps(value) if as_json else imds_text(value)


def canonical(value: Any, levels: int = RECURSION_LIMIT) -> Any:
    """A copy of ``value`` with sorted keys, nested less than ``levels`` deep.

    Raises:
        ConfigError: it is nested deeper, or is no JSON.
    """
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ConfigError("a string with half a surrogate pair is not JSON")
        return value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if value - value != 0.0:
            raise ConfigError(f"the number {value} is not JSON")
        return value
    levels -= 1
    if not levels:
        raise ConfigError(f"JSON is nested {RECURSION_LIMIT} levels deep or deeper")
    if isinstance(value, (list, tuple)):
        return [canonical(item, levels) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        # Code points sort as the bytes of their UTF-8 do.
        return {canonical(key): canonical(value[key], levels) for key in sorted(value)}
    raise ConfigError(f"a {type(value).__name__} is not JSON")


def merge(target: Any, patch: Any) -> Any:
    """``target`` as ``patch`` changes it (RFC 7396, 2); neither is modified.

    Both are :func:`canonical`, and so is the result: it is nested no deeper than they are.
    """
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return {key: result[key] for key in sorted(result)}


def collapse_slashes(path: str) -> str:
    """``path`` with every run of slashes as one."""
    while "//" in path:
        path = path.replace("//", "/")
    return path


def lookup(value: Any, path: str) -> Any:
    """What is at ``path``: a JSON pointer (RFC 6901) that may have slashes to spare.

    Raises:
        NotFound: nothing is there.
    """
    if path and not path.startswith("/"):
        raise NotFound(f"nothing at {path}: a path begins with a slash")
    for escaped in collapse_slashes(path).removesuffix("/").split("/")[1:]:
        token = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            raise NotFound(f"nothing at {path}")
    return value


def _is_index(token: str) -> bool:
    """Whether ``token`` is an array index as RFC 6901 writes it: no sign, no leading zero."""
    return token == "0" or (token.isascii() and token.isdigit() and not token.startswith("0"))


def imds_text(value: Any) -> str:
    """An object as the list of its keys, those of objects with a slash; a string as it is.

    Raises:
        UnsupportedType: it is neither.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise UnsupportedType
    return "\n".join(f"{key}/" if isinstance(item, dict) else key for key, item in value.items())
