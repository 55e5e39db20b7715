"""What a program's VM has in its memory at the start, on every engine."""

from __future__ import annotations

import os
import time

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError, HostError
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


def write(
    view: memoryview, program: Program, header: Header, image_size: int, engine: int
) -> abi.pv_boot:
    """Write descriptors, page tables, strings and boot information into RAM; the latter.

    ``image_size`` is in bytes, ``engine`` one of PV_ENGINE.  The clock's ``tsc_khz``, ``xcr0`` and
    ``xsave_size`` are left to whoever knows the CPU.

    Raises:
        ConfigError: the program's strings do not fit.
    """
    tables.write_descriptors(view, vcpu_count=1, vectors=header.vectors)
    made = tables.write_page_tables(
        view, tables.cpu_gpa(1), ram_size=len(view), image_size=image_size, header=header
    )
    if engine == abi.PV_ENGINE_UNICORN:
        made.map_large(CODE_ALIAS, 0, len(view), tables.EXECUTABLE)
    strings = program.strings()
    strings_gpa = made.end
    view[strings_gpa : strings_gpa + len(strings)] = strings
    boot = abi.pv_boot(view, abi.PV_BOOT_GPA)
    boot.magic = abi.PV_MAGIC
    boot.version = abi.PV_VERSION
    boot.size = abi.pv_boot.SIZE
    boot.engine = engine
    boot.vcpu_count = 1
    boot.ram_size = len(view)
    news_gpa = strings_gpa + len(strings)
    boot.free_start = -(-(news_gpa + abi.PV_NEWS_MAX) // tables.PAGE) * tables.PAGE
    boot.image_size = image_size
    boot.libos_file_size = header.data_end
    boot.page_table_gpa = made.cr3
    boot.generation = 1
    boot.monotonic_base_ns = time.monotonic_ns()
    boot.realtime_base_ns = time.time_ns()
    boot.view[abi.pv_boot.seed.offset : abi.pv_boot.seed.offset + 64] = os.urandom(64)
    boot.strings_gpa = strings_gpa
    boot.strings_size = len(strings)
    boot.news_gpa = news_gpa
    boot.news_max = abi.PV_NEWS_MAX
    write_news(view, boot, ())
    program.fill(boot)
    return boot


def write_news(view: memoryview, boot: abi.pv_boot, arguments: Sequence[str]) -> None:
    """Write what /dev/pyrovm says: the generation, and the arguments of a branch.

    Raises:
        ConfigError: an argument is not one line, or all of them are too long.
    """
    text = b"".join((b"generation %d\n" % boot.generation, *map(_line, arguments)))
    if len(text) > boot.news_max:
        raise ConfigError(
            f"arguments of a branch: {len(text)} bytes given; {boot.news_max} are allowed"
        )
    view[boot.news_gpa : boot.news_gpa + len(text)] = text
    boot.news_size = len(text)


def _line(argument: str) -> bytes:
    raw = os.fsencode(argument)
    if b"\n" in raw or b"\0" in raw:
        raise ConfigError(f"arguments of a branch: {argument!r} given; each has to be one line")
    return raw + b"\n"
