"""A plain mutator: new inputs out of old ones, without knowing what they mean."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

MAX_SIZE = 4096  # bytes of an input
MAX_CHANGES = 5
INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
)


class Mutator:
    """Draws from ``random`` alone: the same seed makes the same inputs.

    ``corpus`` may grow while the mutator works; ``words`` are put in as they are.
    """

    def __init__(self, random: Random, corpus: list[bytes], words: tuple[bytes, ...] = ()) -> None:
        self._random = random
        self._corpus = corpus
        self._words = words
        self._changes = [
            self._flip,
            self._set,
            self._insert,
            self._delete,
            self._repeat,
            self._number,
            self._splice,
        ]
        if words:
            self._changes += [self._word, self._word]

    def next(self) -> bytes:
        """A new input."""
        random = self._random
        if not self._corpus or random.random() < 0.05:
            return random.randbytes(random.randrange(64))
        data = bytearray(random.choice(self._corpus))
        for _ in range(random.randint(1, MAX_CHANGES)):
            random.choice(self._changes)(data)
        return bytes(data[:MAX_SIZE])

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _range(self, data: bytearray) -> slice:
        start = self._at(data)
        return slice(start, start + self._random.choice((1, 2, 4, 8, 16, 64, 256)))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._random.randbytes(self._random.choice((1, 1, 2, 4, 8, 32)))

    def _delete(self, data: bytearray) -> None:
        del data[self._range(data)]

    def _repeat(self, data: bytearray) -> None:
        piece = data[self._range(data)]
        at = self._at(data)
        data[at:at] = piece * self._random.choice((1, 1, 2, 8))

    def _number(self, data: bytearray) -> None:
        size = self._random.choice((1, 2, 4, 8))
        value = self._random.choice(INTERESTING) + self._random.choice((-1, 0, 0, 0, 1))
        at = self._at(data)
        raw = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        data[at : at + size] = self._random.choice((raw, raw[::-1]))

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._corpus)
        start = self._random.randrange(len(other) + 1)
        data[self._at(data) :] = other[start:]

    def _word(self, data: bytearray) -> None:
        at = self._at(data)
        word = self._random.choice(self._words)
        replaced = self._random.choice((0, len(word)))
        data[at : at + replaced] = word
