"""A kernel file and an initrd into guest memory, and where the guest starts.

The file is tried as ELF first, then as bzImage.  An ELF kernel with the PVH note starts there, any
other at its 64-bit entry, as on Firecracker.
"""

from __future__ import annotations

from pyrovm.abi.bootparam import boot_params, setup_header
from pyrovm.arch.x86 import layout
from pyrovm.boot import bzimage, elf
from pyrovm.errors import ConfigError
from pyrovm.memory.guest_memory import GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.memory.guest_memory import GuestMemory

    # (offset, view) -> bytes read into the view, straight from the file
    ReadInto = Callable[[int, memoryview], int]

LINUX64, PVH, MULTIBOOT = "Linux 64-bit", "PVH", "multiboot"

KERNEL_ALIGNMENT = 0x1000000
LOADER_UNKNOWN = 0xFF
PVH_MAGIC = 0x336EC578
PVH_VERSION = 1


class LoadError(ConfigError):
    """The kernel or the initrd does not fit this guest."""


class LoadedKernel:
    """What was loaded: ``protocol`` is LINUX64, PVH or MULTIBOOT, ``entry`` where it starts."""

    __slots__ = ("end", "entry", "header", "protocol")

    def __init__(self, protocol: str, entry: int, end: int, header: setup_header | None) -> None:
        self.protocol = protocol
        self.entry = entry
        self.end = end
        self.header = header


class Initrd:
    """Where the initrd lies in guest memory; ``size`` in bytes."""

    __slots__ = ("gpa", "size")

    def __init__(self, gpa: int, size: int) -> None:
        self.gpa = gpa
        self.size = size


def load_kernel(
    memory: GuestMemory, read_into: ReadInto, file_size: int, *, protocol: str | None = None
) -> LoadedKernel:
    """Copy a kernel into guest memory.

    ``protocol`` None starts a kernel with the PVH note that way and all others the Linux way.

    Raises:
        ConfigError: it is no kernel, damaged, or does not fit.
    """

    def read_at(offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: read_into(offset, memoryview(buffer))])

    if protocol == MULTIBOOT:
        from pyrovm.boot import multiboot

        entry, segments = multiboot.parse(read_at, file_size)
        return _load_segments(memory, read_into, segments, MULTIBOOT, entry)
    if read_at(0, 4) == elf.MAGIC:
        image = elf.parse(read_at, file_size)
        if protocol != LINUX64 and image.pvh_entry is not None:
            return _load_segments(memory, read_into, image.segments, PVH, image.pvh_entry)
        if protocol == PVH:
            raise LoadError("the kernel has no PVH entry (no XEN_ELFNOTE_PHYS32_ENTRY note)")
        return _load_segments(memory, read_into, image.segments, LINUX64, image.entry)
    if protocol == PVH:
        raise LoadError("a bzImage has no PVH entry")
    return _load_bzimage(memory, read_into, bzimage.parse(read_at, file_size))


def _load_segments(
    memory: GuestMemory,
    read_into: ReadInto,
    segments: list[elf.Segment],
    protocol: str,
    entry: int,
) -> LoadedKernel:
    end = 0
    for segment in segments:
        if segment.gpa < layout.HIMEM:
            raise LoadError(f"kernel segment at {segment.gpa:#x} is below {layout.HIMEM:#x}")
        _copy(
            memory, read_into, segment.gpa, segment.mem_size, segment.file_offset, segment.file_size
        )
        end = max(end, segment.gpa + segment.mem_size)
    if not any(s.gpa <= entry < s.gpa + s.mem_size for s in segments):
        raise LoadError(f"kernel entry {entry:#x} is in none of its segments")
    return LoadedKernel(protocol, entry, end, None)


def _load_bzimage(memory: GuestMemory, read_into: ReadInto, image: bzimage.BzImage) -> LoadedKernel:
    gpa = layout.HIMEM
    end = image.end(gpa)
    if end > memory.regions[0].end:
        raise LoadError(
            f"the kernel needs memory up to {end:#x} to unpack itself, the first memory region "
            f"ends at {memory.regions[0].end:#x}"
        )
    _copy(memory, read_into, gpa, image.size, image.offset, image.size)
    return LoadedKernel(LINUX64, gpa + bzimage.ENTRY_64, end, image.header)


def _copy(
    memory: GuestMemory, read_into: ReadInto, gpa: int, mem_size: int, offset: int, size: int
) -> None:
    try:
        target = memory.writable(gpa, mem_size)
    except GuestMemoryError as error:
        raise LoadError(f"kernel segment at {gpa:#x}, {mem_size:#x} bytes: {error}") from None
    done = 0
    while done < size:
        count = read_into(offset + done, target[done:size])
        if count <= 0:
            raise LoadError(f"the kernel file ended {size - done} bytes early")
        done += count


def load_initrd(memory: GuestMemory, read_into: ReadInto, size: int, kernel_end: int) -> Initrd:
    """Copy an initrd to the end of the first RAM region, page-aligned.

    Raises:
        LoadError: it is empty, or does not fit above the kernel.
    """
    first = memory.regions[0]
    gpa = (first.end - size) & ~0xFFF
    if size <= 0:
        raise LoadError("the initrd is empty")
    if gpa < max(kernel_end, layout.HIMEM):
        raise LoadError(
            f"an initrd of {size} bytes does not fit into memory of {first.size >> 20} MiB "
            "beside the kernel"
        )
    _copy(memory, read_into, gpa, size, 0, size)
    return Initrd(gpa, size)


def write_zero_page(
    memory: GuestMemory,
    kernel: LoadedKernel,
    ranges: list[tuple[int, int]],
    cmdline: bytes,
    initrd: Initrd | None,
    *,
    acpi: bool = True,
) -> None:
    """Linux's boot_params (Documentation/arch/x86/zero-page.rst) and the command line.

    ``cmdline`` ends in NUL; ``ranges`` are the RAM regions.
    """
    params = boot_params()
    if kernel.header is not None:
        params.hdr = kernel.header
    header = params.hdr
    header.boot_flag = bzimage.BOOT_FLAG
    header.header = bzimage.HEADER_MAGIC
    header.type_of_loader = LOADER_UNKNOWN
    header.cmd_line_ptr = layout.CMDLINE
    header.cmdline_size = len(cmdline) - 1  # Unikraft takes this for the length of the text
    if kernel.header is None:
        header.kernel_alignment = KERNEL_ALIGNMENT
    if initrd is not None:
        header.ramdisk_image = initrd.gpa
        header.ramdisk_size = initrd.size
    params.acpi_rsdp_addr = layout.RSDP if acpi else 0
    table = layout.e820(ranges, acpi=acpi)
    params.e820_entries = len(table)
    for slot, (gpa, size, kind) in zip(params.e820_table, table, strict=False):
        slot.addr, slot.size, slot.type = gpa, size, kind
    memory.write(layout.ZERO_PAGE, params.view)
    memory.write(layout.CMDLINE, cmdline)


def write_pvh_info(
    memory: GuestMemory,
    ranges: list[tuple[int, int]],
    cmdline: bytes,
    initrd: Initrd | None,
    *,
    acpi: bool = True,
) -> None:
    """hvm_start_info, its module list and memory map (Xen's public/arch-x86/hvm/start_info.h)."""
    from struct import pack

    table = layout.e820(ranges, acpi=acpi)
    memory.write(
        layout.PVH_START_INFO,
        pack(
            "<IIIIQQQQII",
            PVH_MAGIC,
            PVH_VERSION,
            0,
            0 if initrd is None else 1,
            0 if initrd is None else layout.PVH_MODULES,
            layout.CMDLINE,
            0,  # RSDP: the guest scans for it
            layout.PVH_MEMORY_MAP,
            len(table),
            0,
        ),
    )
    if initrd is not None:
        memory.write(layout.PVH_MODULES, pack("<QQQQ", initrd.gpa, initrd.size, 0, 0))
    memory.write(
        layout.PVH_MEMORY_MAP,
        b"".join(pack("<QQII", gpa, size, kind, 0) for gpa, size, kind in table),
    )
    memory.write(layout.CMDLINE, cmdline)
