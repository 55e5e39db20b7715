"""A page-fault handler: guest memory out of a memory file, page by page (userfaultfd(2)).

A missing page comes from the file, with its missing neighbours up to ``AROUND`` bytes; holes become
pages of zeros.  What the guest gives back (REMOVE) is zeros from then on.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from struct import Struct

from pyrovm.abi import userfaultfd as abi
from pyrovm.errors import HostError, SnapshotError
from pyrovm.host.address import address_of_mapping
from pyrovm.snapshot import pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.snapshot.pages import Range

AROUND = 64 << 10  # bytes
PAGE_SIZES = (4096, 2 << 20)
PARTS_MAX = 512
EAGAIN, EEXIST, ENOENT, ESRCH, EFAULT = 11, 17, 2, 3, 14

_EVENT = Struct("<B7xQQ8x")  # struct uffd_msg
_EVENTS = 64  # in one read
_COPY = Struct("<4Qq")  # struct uffdio_copy
_ZEROPAGE = Struct("<3Qq")  # struct uffdio_zeropage
_DONE = Struct("<q")  # the last field of either
_WAKE = Struct("<2Q")  # struct uffdio_range

LATER, NOWHERE = -1, -2  # for a number of pages


class MemoryFile:
    """A memory file that is served, mapped; ``data`` are its parts that are no holes."""

    def __init__(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError.wrap(path, error) from None
        try:
            self.path = path
            self._huge_zeros: mmap.mmap | None = None
            self.size = os.lseek(fd, 0, os.SEEK_END)
            if self.size == 0 or self.size % pages.PAGE:
                raise SnapshotError(f"{path}: {self.size} bytes; a memory file has whole pages")
            # Private and writable, which it never is written, to have an address in Python.
            self.memory = mmap.mmap(
                fd, self.size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
            )
            self.address = address_of_mapping(self.memory)
            self._is_data = bytearray(self.size // pages.PAGE)
            for start, end in pages.data_of(fd, 0, self.size):
                first, last = start // pages.PAGE, -(-end // pages.PAGE)
                self._is_data[first:last] = b"\1" * (last - first)
        except OSError as error:
            raise HostError.wrap(path, error) from None
        finally:
            os.close(fd)

    def huge_zeros(self) -> int:
        """The address of a huge page of zeros."""
        if self._huge_zeros is None:
            self._huge_zeros = mmap.mmap(-1, PAGE_SIZES[-1])
        return address_of_mapping(self._huge_zeros)

    def is_hole(self, offset: int) -> bool:
        """Whether the page at ``offset`` was never written."""
        return not self._is_data[offset // pages.PAGE]

    def close(self) -> None:
        self.memory.close()
        if self._huge_zeros is not None:
            self._huge_zeros.close()


class Part:
    """A part of a guest's memory; ``state`` has for each of its pages MISSING, THERE or REMOVED."""

    MISSING, THERE, REMOVED = 0, 1, 2
    __slots__ = ("address", "offset", "page_size", "size", "state")

    def __init__(self, address: int, size: int, offset: int, page_size: int) -> None:
        self.address = address
        self.size = size
        self.offset = offset
        self.page_size = page_size
        self.state = bytearray(size // page_size)


def parts_of(data: bytes, file_size: int) -> list[Part]:
    """What a VM asks for, checked.

    Raises:
        SnapshotError: it is no such message, or asks for what the memory file does not have.
    """
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"the VM's message is no JSON: {error}") from None
    if not isinstance(asked, list) or not 1 <= len(asked) <= PARTS_MAX:
        raise SnapshotError(f"the VM's message: a list of 1 to {PARTS_MAX} parts is allowed")
    return [_part_of(item, index, file_size) for index, item in enumerate(asked)]


def _part_of(item: Any, index: int, file_size: int) -> Part:
    where = f"the VM's message: part {index}"
    if not isinstance(item, dict):
        raise SnapshotError(f"{where}: no object")
    numbers = []
    for field in ("base_host_virt_addr", "size", "offset"):
        value = item.get(field)
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise SnapshotError(f"{where}: {field}: {value!r}; a number of bytes is allowed")
        numbers.append(value)
    # Firecracker has called the same number of bytes by both names.
    page_size = item.get("page_size", item.get("page_size_kib", PAGE_SIZES[0]))
    if page_size not in PAGE_SIZES:
        raise SnapshotError(f"{where}: page_size: {page_size!r}; {PAGE_SIZES} are allowed")
    address, size, offset = numbers
    if any(number % page_size for number in numbers) or not size or size > file_size - offset:
        raise SnapshotError(
            f"{where}: {size} bytes at {offset}; whole pages of {page_size} bytes within the "
            f"{file_size} of the memory file are allowed"
        )
    return Part(address, size, offset, page_size)


class Guest:
    """One VM that is served; ``asked`` are the ranges of the file that it asked for, in order.

    ``copied`` and ``zeroed`` count pages of either kind, ``faults`` what was asked.
    """

    def __init__(self, file: MemoryFile, uffd: int, parts: list[Part]) -> None:
        self._file = file
        self.uffd = uffd
        self._parts = parts
        self.asked: list[Range] = []
        self.faults = self.copied = self.zeroed = 0
        self._late: list[int] = []  # addresses to be tried again

    def serve(self) -> bool:
        """Answer what has been asked until now; whether to call again soon, unasked.

        Raises:
            HostError: the kernel refuses, or the memory file has become shorter.
            ProcessLookupError: the VM has gone.
        """
        wanted, self._late = self._late, []
        while data := self._read():
            for event, first, second in _EVENT.iter_unpack(data):
                if event == abi.UFFD_EVENT_PAGEFAULT:
                    self.faults += 1
                    wanted.append(second)
                elif event in (abi.UFFD_EVENT_REMOVE, abi.UFFD_EVENT_UNMAP):
                    self._remove(first, second)
        for address in dict.fromkeys(wanted):
            self._fault(address)
        return bool(self._late)

    def _read(self) -> bytes:
        try:
            return os.read(self.uffd, _EVENTS * _EVENT.size)
        except BlockingIOError:
            return b""

    def _remove(self, start: int, end: int) -> None:
        for part in self._parts:
            first = max(start, part.address) - part.address
            last = min(end, part.address + part.size) - part.address
            if first < last:
                first, last = first // part.page_size, -(-last // part.page_size)
                part.state[first:last] = bytes([Part.REMOVED]) * (last - first)

    def _fault(self, address: int) -> None:
        for part in self._parts:
            if 0 <= address - part.address < part.size:
                break
        else:
            raise HostError(f"fault at {address:#x}, which is in no part of the VM's memory")
        number = (address - part.address) // part.page_size
        state = part.state[number]
        if state == Part.THERE:
            # Served meanwhile with a neighbour; or dropped without a word, which REMOVE rules out.
            self._wake(part, number)
            return
        first, last = self._around(part, number, state)
        start = part.offset + first * part.page_size
        self.asked.append((start, start + (last - first) * part.page_size))
        self._bring(part, first, last)

    def _around(self, part: Part, number: int, state: int) -> Range:
        """The pages beside one, that are missing in the same way."""
        each = max(1, AROUND // part.page_size)
        low = number - number % each
        high = min(low + each, len(part.state))
        first = last = number
        kind = self._comes_from(part, number)
        while first > low and part.state[first - 1] == state:
            if self._comes_from(part, first - 1) != kind:
                break
            first -= 1
        while last < high and part.state[last] == state and self._comes_from(part, last) == kind:
            last += 1
        return first, last

    def _comes_from(self, part: Part, number: int) -> bool:
        """Whether a page comes from the file; there are no huge pages of zeros to be given."""
        if part.page_size != pages.PAGE:
            return True
        if part.state[number] == Part.REMOVED:
            return False
        return not self._file.is_hole(part.offset + number * part.page_size)

    def bring(self, start: int, end: int) -> None:
        """Bring a range of the file that nobody has asked for yet.

        Raises:
            HostError, ProcessLookupError: as :meth:`serve`.
        """
        for part in self._parts:
            first = (max(start, part.offset) - part.offset) // part.page_size
            last = -(-(min(end, part.offset + part.size) - part.offset) // part.page_size)
            while first < last:
                if part.state[first] != Part.MISSING or not self._comes_from(part, first):
                    first += 1
                    continue
                stop = first
                while stop < last and part.state[stop] == Part.MISSING:
                    if not self._comes_from(part, stop):
                        break
                    stop += 1
                self._bring(part, first, stop)
                first = stop

    def _bring(self, part: Part, first: int, last: int) -> None:
        """Pages of one kind; ``last`` is behind the last one."""
        size = part.page_size
        comes_from_file = self._comes_from(part, first)
        at_once = last - first
        while first < last:
            count = min(at_once, last - first)
            done = self._put(part, first, count, is_zero=not comes_from_file)
            if done == LATER:
                self._late.append(part.address + first * size)
                return
            if done == NOWHERE:
                if count > 1:  # perhaps only part of it
                    at_once = 1
                    continue
                done = 1  # no memory of the guest's any more: nobody waits for it
            elif comes_from_file:
                self.copied += done
            else:
                self.zeroed += done
            part.state[first : first + done] = bytes([Part.THERE]) * done
            first += done

    def _put(self, part: Part, number: int, count: int, *, is_zero: bool) -> int:
        """Make the call; how many pages are there now, or LATER, or NOWHERE."""
        address, length = part.address + number * part.page_size, count * part.page_size
        if is_zero:
            command, request = abi.UFFDIO_ZEROPAGE, _ZEROPAGE.pack(address, length, 0, 0)
        else:
            source = self._file.address + part.offset + number * part.page_size
            if part.state[number] == Part.REMOVED:  # a huge page: there is no call that zeroes it
                source = self._file.huge_zeros()
                count, length = 1, part.page_size
            command, request = abi.UFFDIO_COPY, _COPY.pack(address, source, length, 0, 0)
        answer = bytearray(request)
        try:
            fcntl.ioctl(self.uffd, command, answer, True)
        except OSError as error:
            if error.errno == EAGAIN:  # part of it, or nothing: memory is being removed
                done: int = _DONE.unpack_from(answer, len(answer) - _DONE.size)[0]
                return done // part.page_size if done > 0 else LATER
            if error.errno == EEXIST:  # the first one is there
                self._wake(part, number)
                return 1
            if error.errno == ENOENT:
                return NOWHERE
            if error.errno == ESRCH:
                raise ProcessLookupError from None
            if error.errno == EFAULT:
                raise HostError(f"{self._file.path}: it has become shorter", EFAULT) from None
            raise HostError.wrap("Cannot bring a page", error) from None
        return count

    def _wake(self, part: Part, number: int) -> None:
        address = part.address + number * part.page_size
        try:
            fcntl.ioctl(self.uffd, abi.UFFDIO_WAKE, _WAKE.pack(address, part.page_size))
        except OSError as error:
            raise HostError.wrap("Cannot wake a vCPU", error) from None

    def close(self) -> None:
        os.close(self.uffd)
