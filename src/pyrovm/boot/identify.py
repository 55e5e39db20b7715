"""What a kernel file is: Linux, or something else; and how it wants to be started.

Linux is linked to the uppermost addresses (Documentation/arch/x86/x86_64/mm.rst), also where it
decompresses itself; kernels that are linked to low addresses are unikernels and teaching systems.
A file that is no ELF file counts as Linux: its loader will say what is wrong with it.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.boot import elf, multiboot
from pyrovm.boot.loader import LINUX64, MULTIBOOT, PVH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.boot.elf import ReadAt

UPPER_HALF = 1 << 63
OSV_OFFSET = 1 << 30  # OSv is linked 1 GiB above where it is loaded

_EHDR = Struct("<4sB11xHH12xQ14xHH")  # ELF64: magic, class, type, machine, phoff, phentsize, phnum
_PHDR = Struct("<II6Q")


class Kernel:
    """``protocol`` is how to start it, None as Firecracker would; ``takes_name`` whether the first
    word of its command line is its own name."""

    __slots__ = ("is_linux", "protocol", "takes_name")

    def __init__(
        self, *, is_linux: bool, protocol: str | None = None, takes_name: bool = False
    ) -> None:
        self.is_linux = is_linux
        self.protocol = protocol
        self.takes_name = takes_name


LINUX = Kernel(is_linux=True)
MULTIBOOT_KERNEL = Kernel(is_linux=False, protocol=MULTIBOOT, takes_name=True)


def identify(read_at: ReadAt) -> Kernel:
    """What the file behind ``read_at`` is; a damaged one counts as Linux."""
    raw = read_at(0, _EHDR.size)
    if len(raw) < _EHDR.size or raw[:4] != elf.MAGIC:
        return LINUX
    _, bits, _, machine, phoff, phentsize, count = _EHDR.unpack(raw)
    is_multiboot = multiboot.find_header(read_at(0, multiboot.SEARCH)) is not None
    if machine == elf.EM_386 and is_multiboot:
        return MULTIBOOT_KERNEL
    if bits != 2 or machine != elf.EM_X86_64 or phentsize != _PHDR.size:
        return LINUX
    count = min(count, elf.MAX_SEGMENTS)
    table = read_at(phoff, count * _PHDR.size) if phoff < 1 << 62 else b""
    headers = list(_PHDR.iter_unpack(table[: len(table) // _PHDR.size * _PHDR.size]))
    loaded = [(vaddr, paddr) for kind, _, _, vaddr, paddr, *_ in headers if kind == elf.PT_LOAD]
    if not loaded or any(vaddr >= UPPER_HALF for vaddr, _ in loaded):
        return LINUX
    if all(vaddr - paddr == OSV_OFFSET for vaddr, paddr in loaded):
        return Kernel(is_linux=False, protocol=LINUX64)
    if _has_pvh_entry(read_at, headers):
        return Kernel(is_linux=False, protocol=PVH)
    if is_multiboot:
        return MULTIBOOT_KERNEL
    return Kernel(is_linux=False, protocol=LINUX64, takes_name=True)


def _has_pvh_entry(read_at: ReadAt, headers: list[tuple[int, ...]]) -> bool:
    return any(
        elf.find_pvh_entry(read_at(offset, size)) is not None
        for kind, _, offset, _, _, size, *_ in headers
        if kind == elf.PT_NOTE and size <= elf.MAX_NOTES and offset < 1 << 62
    )
