"""Compact JSON, byte for byte as serde_json writes it."""

from __future__ import annotations

from pyrovm.config.serde.text import float_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)}
_ESCAPES.update(
    {
        ord('"'): '\\"',
        ord("\\"): "\\\\",
        8: "\\b",
        9: "\\t",
        10: "\\n",
        12: "\\f",
        13: "\\r",
    }
)


def string_text(text: str) -> str:
    """A string in quotes; everything but quotes, backslashes and controls stays as it is."""
    return f'"{text.translate(_ESCAPES)}"'


def dumps(value: Any) -> str:
    """``value`` (None, bool, int, float, str, list, tuple, dict) as JSON without white space."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def _write(value: Any, parts: list[str]) -> None:
    if value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif isinstance(value, str):
        parts.append(string_text(value))
    elif isinstance(value, int):
        parts.append(str(value))
    elif isinstance(value, float):
        parts.append(float_text(value))
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            parts.append(separator)
            parts.append(string_text(key))
            parts.append(":")
            _write(item, parts)
            separator = ","
        parts.append("}" if value else "{}")
    else:
        separator = "["
        for item in value:
            parts.append(separator)
            _write(item, parts)
            separator = ","
        parts.append("]" if value else "[]")
