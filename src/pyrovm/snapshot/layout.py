"""What a memory file holds: the section ``memory`` of a state file."""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import SnapshotError
from pyrovm.snapshot.pages import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrovm.snapshot.pages import Range
    from pyrovm.snapshot.state import State

RANGES_MAX = 1024
SAMPLES_MAX = 64
GPA_MAX = 1 << 52
_WRITTEN = Struct("<QQ")


class MemoryRange:
    """``size`` bytes of guest memory at ``gpa``, which are at ``offset`` in the memory file."""

    __slots__ = ("gpa", "offset", "size")

    def __init__(self, gpa: int, size: int, offset: int) -> None:
        self.gpa = gpa
        self.size = size
        self.offset = offset


class Layout:
    """Which guest memory is where in a memory file.

    ``ranges`` are (gpa, size) in the order of the file.  ``snapshot_type`` is Full or Diff;
    ``huge_pages`` what the guest had (None, Transparent, 2M).  ``written`` are the parts of the
    file that a diff has, None where that is not known: holes tell as well, until somebody copies
    the file without them.  ``samples`` are (offset, CRC-32) of some pages that were written, to
    know the file by.
    """

    __slots__ = ("huge_pages", "ranges", "samples", "snapshot_type", "written")

    def __init__(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        huge_pages: str = "None",
        snapshot_type: str = "Full",
        written: list[Range] | None = None,
    ) -> None:
        self.ranges: list[MemoryRange] = []
        self.written = written
        self.samples: list[tuple[int, int]] = []
        self.huge_pages = huge_pages
        self.snapshot_type = snapshot_type
        offset = 0
        for gpa, size in ranges:
            self.ranges.append(MemoryRange(gpa, size, offset))
            offset += size

    @property
    def size(self) -> int:
        """Of the memory file, in bytes."""
        return sum(r.size for r in self.ranges)

    def offset_of(self, gpa: int) -> int:
        """Where the page at ``gpa`` is in the file.

        Raises:
            ValueError: it is in no range.
        """
        for r in self.ranges:
            if r.gpa <= gpa < r.gpa + r.size:
                return r.offset + gpa - r.gpa
        raise ValueError(f"guest address {gpa:#x} is in no range")

    def to_json(self) -> dict[str, Any]:
        written = self.written
        return {
            "size": self.size,
            "snapshot_type": self.snapshot_type,
            "huge_pages": self.huge_pages,
            "ranges": [[r.gpa, r.size] for r in self.ranges],
            "written": None if written is None else b"".join(_WRITTEN.pack(*r) for r in written),
            "samples": self.samples,
        }

    @classmethod
    def of(cls, found: State) -> Layout:
        """The layout in a state file.

        Raises:
            SnapshotError: it is none; says what is wrong.
        """
        value = found["memory"]
        try:
            return cls._from_json(value)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise SnapshotError(f"{found.path}: section memory: {problem}") from None

    @classmethod
    def _from_json(cls, value: Any) -> Layout:
        ranges = value["ranges"]
        if not isinstance(ranges, list) or not 1 <= len(ranges) <= RANGES_MAX:
            raise ValueError(f"ranges: a list of 1 to {RANGES_MAX} is allowed")
        taken: list[tuple[int, int]] = []
        for index, item in enumerate(ranges):
            match item:
                case [int(gpa), int(size)]:
                    pass
                case _:
                    raise ValueError(f"ranges[{index}]: {item!r}; two numbers are allowed")
            if gpa % PAGE or size % PAGE or gpa < 0 or not 0 < size <= GPA_MAX - gpa:
                raise ValueError(
                    f"ranges[{index}]: {gpa:#x} + {size:#x}; whole pages below {GPA_MAX:#x}"
                )
            for start, end in taken:
                if gpa < end and start < gpa + size:
                    raise ValueError(f"ranges[{index}]: {gpa:#x} + {size:#x} overlaps another")
            taken.append((gpa, gpa + size))
        layout = cls(
            [(start, end - start) for start, end in taken],
            huge_pages=_one_of(value, "huge_pages", ("None", "Transparent", "2M")),
            snapshot_type=_one_of(value, "snapshot_type", ("Full", "Diff")),
        )
        if value["size"] != layout.size:
            raise ValueError(f"size: {value['size']!r}; the ranges have {layout.size}")
        if value["written"] is not None:
            layout.written = _written_of(value["written"], layout.size)
        layout.samples = _samples_of(value["samples"], layout.size)
        return layout


def _written_of(value: Any, size: int) -> list[Range]:
    if not isinstance(value, bytes) or len(value) % _WRITTEN.size:
        raise ValueError(f"written: pairs of 8 bytes are allowed, not {value!r:.80}")
    found = list(_WRITTEN.iter_unpack(value))
    last = 0
    for start, end in found:
        if not last <= start < end <= size or start % PAGE or end % PAGE:
            raise ValueError(
                f"written: {start:#x} to {end:#x}; whole pages in order below {size:#x} are allowed"
            )
        last = end
    return found


def _samples_of(value: Any, size: int) -> list[tuple[int, int]]:
    if not isinstance(value, list) or len(value) > SAMPLES_MAX:
        raise ValueError(f"samples: a list of at most {SAMPLES_MAX} is allowed")
    found = []
    for index, item in enumerate(value):
        match item:
            case [int(offset), int(crc)] if 0 <= offset <= size - PAGE and offset % PAGE == 0:
                found.append((offset, crc))
            case _:
                raise ValueError(
                    f"samples[{index}]: {item!r}; a page's offset below {size:#x} and its CRC-32 "
                    "are allowed"
                )
    return found


def _one_of(value: Any, field: str, allowed: tuple[str, ...]) -> str:
    word = value[field]
    if word not in allowed:
        raise ValueError(f"{field}: {word!r}; {', '.join(allowed)} are allowed")
    return str(word)
