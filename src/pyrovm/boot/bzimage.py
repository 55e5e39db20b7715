"""bzImage kernels (Documentation/arch/x86/boot.rst): the 64-bit entry of a compressed kernel."""

from __future__ import annotations

from pyrovm.abi.bootparam import XLF_KERNEL_64, setup_header
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.boot.elf import ReadAt

HEADER_OFFSET = 0x1F1
BOOT_FLAG = 0xAA55
HEADER_MAGIC = 0x53726448  # "HdrS"
MIN_VERSION = 0x020C
JUMP_TARGET = 0x202  # the header ends where the jump at 0x200 leads: here plus its distance
ENTRY_64 = 0x200


class BzImageError(ConfigError):
    """The file is not a bzImage that can be loaded."""


class BzImage:
    """A parsed bzImage: its setup header, and where its protected-mode part lies in the file.

    ``offset`` and ``size`` are in bytes.
    """

    __slots__ = ("header", "offset", "size")

    def __init__(self, header: setup_header, offset: int, size: int) -> None:
        self.header = header
        self.offset = offset
        self.size = size

    def end(self, gpa: int) -> int:
        """Up to where a kernel loaded at ``gpa`` needs memory to unpack itself.

        It moves up to its preferred address first if it was loaded below.
        """
        return max(gpa + self.size, max(gpa, self.header.pref_address) + self.header.init_size)


def parse(read_at: ReadAt, file_size: int) -> BzImage:
    """Parse the header of a bzImage of ``file_size`` bytes.

    Raises:
        BzImageError: it is no bzImage, too old, or without a 64-bit entry.
    """
    raw = read_at(HEADER_OFFSET, setup_header.SIZE)
    if len(raw) < setup_header.SIZE:
        raise BzImageError("Invalid bzImage: the file ends before its setup header")
    header = setup_header.from_bytes(raw)
    if header.boot_flag != BOOT_FLAG or header.header != HEADER_MAGIC:
        raise BzImageError("Invalid bzImage header: neither an ELF file nor a bzImage")
    if header.version < MIN_VERSION or not header.xloadflags & XLF_KERNEL_64:
        raise BzImageError("bzImage does not provide a 64-bit entry point")
    # A header of an older protocol is shorter than the structure; real-mode code follows it.
    length = JUMP_TARGET + (header.jump >> 8) - HEADER_OFFSET
    if length < setup_header.SIZE:
        header.view[length:] = bytes(setup_header.SIZE - length)
    sectors = header.setup_sects or 4
    offset = (sectors + 1) * 512
    size = file_size - offset
    if size < ENTRY_64:
        raise BzImageError(f"Invalid bzImage: no kernel behind {sectors} setup sectors")
    return BzImage(header, offset, size)
