"""Two of Unicorn's hooks in machine code: what is called for every block and every system call.

Python's would be too slow for a block and cost 15 us for each system call.  There is a page of code
and one of data; a hook's first argument (RDI) is the ``uc_engine``, which the functions want, too.
"""

from __future__ import annotations

import ctypes
import mmap
from struct import Struct

from pyrovm.errors import HostError
from pyrovm.host.address import address_of_mapping
from pyrovm.unikernel.tables import PAGE

SYSCALL_SIZE = 2
RUN_PAGE = 0x100  # offsets in the page of data
VALUES = 0x200  # RCX, R11, RIP; of 8 bytes
READ_IDS, WRITE_IDS, POINTERS = 0x300, 0x320, 0x340

_IDS = Struct("<3I")
_WORDS = Struct("<3Q")

MOV_RAX, MOV_RSI, MOV_RDX = b"\x48\xb8", b"\x48\xbe", b"\x48\xba"  # and 8 bytes
MOV_ECX = b"\xb9"  # and 4
PUSH_RBX, POP_RBX = b"\x53", b"\x5b"
MOV_RBX_RDI, MOV_RDI_RBX = b"\x48\x89\xfb", b"\x48\x89\xdf"
CALL_RAX, JMP_RAX, RET = b"\xff\xd0", b"\xff\xe0", b"\xc3"
CMPB_0_AT_RAX = b"\x80\x38\x00"
JNE_1 = b"\x75\x01"  # over one byte
ADDQ_AT_RAX = b"\x48\x83\x00"  # and 1


def _word(value: int) -> bytes:
    return value.to_bytes(8, "little")


class Hooks:
    """The pages.  ``run_page`` is as in kvm_run: while byte 1 is not 0, a run ends at once."""

    def __init__(self) -> None:
        """Map them.

        Raises:
            HostError: memory may not be writable and executable here, which Unicorn needs as well.
        """
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        try:
            self._pages = mmap.mmap(-1, 2 * PAGE, prot=protection)
        except OSError as error:
            raise HostError.wrap("Unicorn needs memory to run code in", error) from None
        self._code = address_of_mapping(self._pages)
        self._data = self._code + PAGE
        self._end = 0
        self.run_page = memoryview(self._pages)[PAGE + RUN_PAGE : PAGE + RUN_PAGE + 8]

    def _add(self, code: bytes) -> ctypes.c_void_p:
        start = self._end
        self._end = start + -(-len(code) // 16) * 16
        self._pages[start : start + len(code)] = code
        return ctypes.c_void_p(self._code + start)

    def stop(self, uc_emu_stop: int) -> ctypes.c_void_p:
        """A hook that stops the run while ``run_page[1]`` is not 0."""
        return self._add(
            MOV_RAX
            + _word(self._data + RUN_PAGE + 1)
            + CMPB_0_AT_RAX
            + JNE_1
            + RET
            + MOV_RAX
            + _word(uc_emu_stop)
            + JMP_RAX
        )

    def syscall(
        self, entry: int, registers: tuple[int, int, int, int], read: int, write: int
    ) -> ctypes.c_void_p:
        """A hook that goes to ``entry`` with RIP in RCX and RFLAGS in R11.

        Args:
            registers: Unicorn's numbers of RIP, EFLAGS, RCX and R11.
            read: the address of ``uc_reg_read_batch``.
            write: that of ``uc_reg_write_batch``.
        """
        rip, flags, rcx, r11 = registers
        values = self._data + VALUES
        for at, content in (
            (VALUES, _WORDS.pack(0, 0, entry - SYSCALL_SIZE)),  # Unicorn adds that afterwards
            (READ_IDS, _IDS.pack(rip, flags, 0)),
            (WRITE_IDS, _IDS.pack(rcx, r11, rip)),
            (POINTERS, _WORDS.pack(values, values + 8, values + 16)),
        ):
            self._pages[PAGE + at : PAGE + at + len(content)] = content
        return self._add(
            PUSH_RBX
            + MOV_RBX_RDI
            + self._batch(READ_IDS, 2, read)
            + CALL_RAX
            + MOV_RAX
            + _word(values)
            + ADDQ_AT_RAX
            + bytes([SYSCALL_SIZE])
            + MOV_RDI_RBX
            + self._batch(WRITE_IDS, 3, write)
            + POP_RBX
            + JMP_RAX
        )

    def _batch(self, ids: int, count: int, function: int) -> bytes:
        """Load RAX with ``function``, and what it takes: register numbers, pointers, count."""
        return (
            MOV_RSI
            + _word(self._data + ids)
            + MOV_RDX
            + _word(self._data + POINTERS)
            + MOV_ECX
            + count.to_bytes(4, "little")
            + MOV_RAX
            + _word(function)
        )
