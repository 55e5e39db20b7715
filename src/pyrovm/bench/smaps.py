"""What /proc/PID/smaps says of a process's memory (proc(5)); sizes in KiB."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S{4} ")
_FIELD = re.compile(r"(\w+): +(\d+) kB")


@dataclasses.dataclass(frozen=True)
class Mapping:
    """One mapping: its length, and what of it is in memory for this process alone, or its share."""

    size_kib: int
    private_kib: int
    pss_kib: int


def parse_smaps(lines: Iterable[str]) -> Iterator[Mapping]:
    """The mappings that the lines of an smaps file describe."""
    fields: dict[str, int] = {}
    for line in lines:
        if _HEADER.match(line):
            if fields:
                yield _mapping(fields)
            fields = {}
        elif field := _FIELD.match(line):
            fields[field[1]] = int(field[2])
    if fields:
        yield _mapping(fields)


def _mapping(fields: dict[str, int]) -> Mapping:
    private = fields["Private_Clean"] + fields["Private_Dirty"] + fields.get("Private_Hugetlb", 0)
    return Mapping(fields["Size"], private, fields["Pss"])


def read_smaps(pid: int) -> list[Mapping]:
    """The mappings of a process."""
    with open(f"/proc/{pid}/smaps") as lines:
        return list(parse_smaps(lines))


def outside_guest(mappings: list[Mapping], guest_kib: int) -> list[Mapping]:
    """All but the mapping that is the guest's memory, ``guest_kib`` long or somewhat longer.

    Raises:
        LookupError: there is not exactly one of that size.
    """
    largest = guest_kib + (4 << 10)  # the kernel may join a neighbour to it
    guests = [m for m in mappings if guest_kib <= m.size_kib <= largest]
    if len(guests) != 1:
        raise LookupError(f"{len(guests)} mappings could be the guest's {guest_kib} KiB of memory")
    return [m for m in mappings if m is not guests[0]]


def sizes(pid: int) -> tuple[int, int]:
    """Private and proportional memory of a process, in KiB."""
    mappings = read_smaps(pid)
    return sum(m.private_kib for m in mappings), sum(m.pss_kib for m in mappings)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:  # which grows meanwhile
        found += children(each)
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


# Kernel stacks are in vmalloc's; the second stage's page tables have a line of their own.
_KERNELS = ("Slab", "PageTables", "SecPageTables", "VmallocUsed", "Percpu")


def parse_meminfo(text: str) -> dict[str, int]:
    """KiB by name, of /proc/meminfo.

    >>> parse_meminfo("MemTotal:  2048 kB\\nHugePages_Total:  0\\n")
    {'MemTotal': 2048}
    """
    return {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


def kernel_parts() -> dict[str, int]:
    """What the kernel uses for itself, without caches of files: KiB by /proc/meminfo's names."""
    found = parse_meminfo(Path("/proc/meminfo").read_text())
    return {name: found.get(name, 0) for name in _KERNELS}


def kernel_kib() -> int:
    """The sum of :func:`kernel_parts`."""
    return sum(kernel_parts().values())
