"""The console's output so far, bounded, and the search in it."""

from __future__ import annotations

import re

LIMIT = 4 << 20  # bytes kept; what is older is forgotten


class Scrollback:
    """Bytes that arrive, and a mark up to which ``wait_for`` has consumed them."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()
        self._mark = 0  # where the next search begins, in _data
        self.ended = False

    def feed(self, data: bytes) -> None:
        """More output of the guest."""
        self._data += data
        excess = len(self._data) - self._limit
        if excess > 0:
            del self._data[:excess]
            self._mark = max(0, self._mark - excess)

    def search(self, wanted: str | re.Pattern[str]) -> str | None:
        """The text up to and including the first match behind the mark, which then moves there."""
        text = self._data[self._mark :].decode("utf-8", "surrogateescape")
        if isinstance(wanted, str):
            at = text.find(wanted)
            end = at + len(wanted) if at >= 0 else -1
        else:
            match = wanted.search(text)
            end = match.end() if match else -1
        if end < 0:
            return None
        found = text[:end]
        self._mark += len(found.encode("utf-8", "surrogateescape"))
        return found.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def text(self) -> str:
        """All output that is still kept."""
        return self._data.decode("utf-8", "replace")

    def tail(self, size: int = 2000) -> str:
        """The last ``size`` characters."""
        return self.text()[-size:]
