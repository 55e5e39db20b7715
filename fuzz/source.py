"""Decisions out of the bytes of one input: numbers, choices, pieces of the rest."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    T = TypeVar("T")

# Numbers at which arithmetic changes its mind; one byte of input selects one.
EDGES = (
    *range(20),
    *(
        (1 << bits) + delta
        for bits in (6, 7, 8, 12, 15, 16, 20, 31, 32, 48, 63, 64)
        for delta in (-1, 0, 1)
    ),
)


class Source:
    """Reads ``data`` from the front; when it is used up, everything is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are not used yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or as many as are left."""
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self.left)

    def u8(self) -> int:
        """A number of one byte."""
        return self._int(1)

    def u16(self) -> int:
        """A number of two bytes."""
        return self._int(2)

    def u32(self) -> int:
        """A number of four bytes."""
        return self._int(4)

    def u64(self) -> int:
        """A number of eight bytes."""
        return self._int(8)

    def _int(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.u8() & 1)

    def below(self, end: int) -> int:
        """A number from 0 to ``end - 1``, at most 65535."""
        return (self.u8() if end <= 256 else self.u16()) % end

    def edge(self, bits: int = 64) -> int:
        """One of :data:`EDGES`, cut to ``bits``."""
        edge: int = EDGES[self.below(len(EDGES))]
        return edge & ((1 << bits) - 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.below(len(options))]

    def blob(self, most: int) -> bytes:
        """A piece whose size, up to ``most``, is in the input too."""
        return self.take(self.below(most + 1))
