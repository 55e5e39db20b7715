"""What a program's VM has in its memory at the start, on every engine."""

from __future__ import annotations

import os
import time

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError, GuestError, HostError
from pyrovm.host import mapping
from pyrovm.unikernel import tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.host.mapping import Mapping
    from pyrovm.unikernel.library_os import Header
    from pyrovm.unikernel.program import Program


MADV_HUGEPAGE = 14
# Where Unicorn's guest sees RAM as code: Unicorn forgets what it has translated by such addresses.
CODE_ALIAS = abi.PV_PHYSMAP + (1 << 39)


def map_image(path: str) -> Mapping:
    """Map a root image, shared with all VMs of this host; in pages of 2 MiB where the host's file
    system has them in its cache so.  (It is mapped at such an address then: Linux does by itself.)

    Raises:
        HostError: it cannot be opened, is empty, or larger than PV_IMAGE_MAX.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError.wrap(f"Cannot open the image {path}", error) from None
    try:
        size = os.fstat(fd).st_size
        if not 0 < size <= abi.PV_IMAGE_MAX:
            raise HostError(f"The image {path} has {size} bytes; 1 to {abi.PV_IMAGE_MAX} can be")
        image = mapping.file(fd, size, writable=False, shared=True)
        prefer_huge_pages(image, 0)
        return image
    finally:
        os.close(fd)


def prefer_huge_pages(memory: Mapping, start: int) -> None:
    """Let the host use pages of 2 MiB from byte ``start`` on, where it has such."""
    if start < memory.size:
        try:
            memory.advise(MADV_HUGEPAGE, start, memory.size - start)
        except OSError:  # a kernel without: pages of 4 KiB do as well
            pass


def write_machine(
    view: memoryview, header: Header, engine: int, vcpu_count: int = 1
) -> tuple[abi.pv_boot, tables.Tables]:
    """Write descriptors, page tables and boot information into RAM; the last two, to go on with.

    ``engine`` is one of PV_ENGINE.  ``tsc_khz``, ``xcr0`` and ``xsave_size`` are left to whoever
    knows the CPU, and all about the program to :func:`write_program`.
    """
    tables.write_descriptors(view, vcpu_count=vcpu_count, vectors=header.vectors)
    made = tables.write_page_tables(
        view, tables.cpu_gpa(vcpu_count), ram_size=len(view), header=header
    )
    if engine == abi.PV_ENGINE_UNICORN:
        made.map_large(CODE_ALIAS, 0, len(view), tables.EXECUTABLE)
    boot = abi.pv_boot(view, abi.PV_BOOT_GPA)
    boot.magic = abi.PV_MAGIC
    boot.version = abi.PV_VERSION
    boot.size = abi.pv_boot.SIZE
    boot.engine = engine
    boot.vcpu_count = vcpu_count
    boot.ram_size = len(view)
    boot.libos_file_size = header.data_end
    boot.page_table_gpa = made.cr3
    boot.generation = abi.PV_GENERATION_FIRST
    return boot, made


def write_program(
    view: memoryview, boot: abi.pv_boot, made: tables.Tables, program: Program, image_size: int
) -> None:
    """Write what the guest is told about its program and its image, of ``image_size`` bytes, and
    what each VM has for itself: clocks and random numbers.

    Raises:
        ConfigError: the program's strings do not fit.
    """
    if image_size:
        made.map_image(image_size)
    strings = program.strings()
    strings_gpa = made.end
    view[strings_gpa : strings_gpa + len(strings)] = strings
    news_gpa = strings_gpa + len(strings)
    boot.free_start = -(-(news_gpa + abi.PV_NEWS_MAX) // tables.PAGE) * tables.PAGE
    boot.image_size = image_size
    boot.monotonic_base_ns = time.monotonic_ns()
    boot.realtime_base_ns = time.time_ns()
    boot.view[abi.pv_boot.seed.offset : abi.pv_boot.seed.offset + 64] = os.urandom(64)
    boot.strings_gpa = strings_gpa
    boot.strings_size = len(strings)
    boot.news_gpa = news_gpa
    boot.news_max = abi.PV_NEWS_MAX
    write_news(view, boot, ())
    program.fill(boot)


def write_news(view: memoryview, boot: abi.pv_boot, arguments: Sequence[str]) -> None:
    """Write what /dev/pyrovm says: the generation, and the arguments of a branch.

    Raises:
        ConfigError: an argument is not one line, or all of them are too long.
        GuestError: the guest has damaged its boot information.
    """
    text = b"".join((b"generation %d\n" % boot.generation, *map(_line, arguments)))
    if len(text) > boot.news_max:
        raise ConfigError(
            f"arguments of a branch: {len(text)} bytes given; {boot.news_max} are allowed"
        )
    if boot.news_gpa > len(view) - len(text):  # the guest has written there
        raise GuestError(f"its boot information has {boot.news_gpa:#x} for news, which is no RAM")
    view[boot.news_gpa : boot.news_gpa + len(text)] = text
    boot.news_size = len(text)


def _line(argument: str) -> bytes:
    raw = os.fsencode(argument)
    if b"\n" in raw or b"\0" in raw:
        raise ConfigError(f"arguments of a branch: {argument!r} given; each has to be one line")
    return raw + b"\n"
