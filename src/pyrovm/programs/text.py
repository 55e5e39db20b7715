"""Input and output of a program as text or bytes, as :mod:`subprocess` has it."""

from __future__ import annotations

from typing import Any


class Text:
    """How text is encoded; bytes stay bytes where nothing says that there is text."""

    def __init__(self, text: bool | None, encoding: str | None, errors: str | None) -> None:
        self._encoding = encoding or ("utf-8" if text or errors else None)
        self._errors = errors or "strict"

    def encoded(self, data: bytes | str | None) -> bytes:
        """Input for the program.

        Raises:
            TypeError: text was given where bytes are needed.
        """
        if data is None:
            return b""
        if not isinstance(data, str):
            return data  # whatever has bytes
        if self._encoding is None:
            raise TypeError("input: text given; bytes are needed, or text=True")
        return data.encode(self._encoding, self._errors)

    def decoded(self, data: bytes | None) -> Any:
        """What it has written; None stays None."""
        if data is None or self._encoding is None:
            return data
        text = data.decode(self._encoding, self._errors)
        return text.replace("\r\n", "\n").replace("\r", "\n")
