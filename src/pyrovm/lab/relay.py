"""An output stream with its end marked in the data."""

from __future__ import annotations

from collections.abc import Callable

Sink = Callable[[bytes], object]


class Relay:
    """Passes a stream on to ``sink``, up to the token that ends it; the token is not passed on.

    What could be the token's beginning is held back until more has come.
    """

    def __init__(self, sink: Sink, token: bytes) -> None:
        self._sink = sink
        self._token = token
        self._held = b""
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Take the stream's next bytes; what comes behind the token is dropped."""
        if self.ended:
            return
        self._held += data
        at = self._held.find(self._token)
        if at >= 0:
            self.ended = True
            self._pass(at)
            self._held = b""
            return
        keep = min(len(self._token) - 1, len(self._held))
        while keep and not self._token.startswith(self._held[-keep:]):
            keep -= 1
        self._pass(len(self._held) - keep)

    def flush(self) -> None:
        """Pass on what was held back: the stream ended without its token."""
        self._pass(len(self._held))

    def _pass(self, size: int) -> None:
        if size:
            self._sink(self._held[:size])
            self._held = self._held[size:]
