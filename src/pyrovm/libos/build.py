"""Compile the library OS, once for each state of its sources; the file is kept in the cache."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

SOURCES = os.path.dirname(os.path.abspath(__file__))
KEPT = 3  # versions in the cache

FLAGS = (
    *("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"),
    # No libc, no SSE: the registers that are left alone need not be saved.
    *("-ffreestanding", "-mgeneral-regs-only", "-fno-stack-protector", "-mno-red-zone"),
    # At an address above 2 GiB, so by distances and not by addresses.
    *("-fPIE", "-fvisibility=hidden", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-fno-strict-aliasing"),
    *("-nostdlib", "-static", "-no-pie", "-Wl,-z,noexecstack", "-Wl,--build-id=none"),
)
# The library that programs find by AT_SYSINFO_EHDR is within the library OS's file.
VDSO = "vdso"
VDSO_FLAGS = (
    *(
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
    ),
    *("-ffreestanding", "-mgeneral-regs-only", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-nostdlib", "-Wl,-soname=linux-vdso.so.1", "-s"),
    *("-Wl,--hash-style=both", "-Wl,--build-id=none", "-Wl,-z,noexecstack"),
)


def path() -> str:
    """The library OS's file; compiled now if that has not been done.

    Raises:
        Unsupported: there is no compiler.
        HostError: the compiler refuses.
    """
    from pyrovm.guest.cache_root import cache_root

    target = os.path.join(cache_root(), "libos", f"{_fingerprint()}.bin")
    if not os.path.exists(target):
        from pathlib import Path

        compile_to(Path(target))
    return target


def sources() -> list[str]:
    """All C and assembler files, headers and the linker's script, sorted."""
    found = []
    for folder in ("", "fs", VDSO):
        with os.scandir(os.path.join(SOURCES, folder)) as entries:
            found += [e.path for e in entries if e.name.endswith((".c", ".S", ".h", ".ld"))]
    return sorted(found)


def _fingerprint() -> str:
    """What tells one state of the sources from another without reading them: sizes and times."""
    import zlib

    text = "|".join((*FLAGS, *VDSO_FLAGS))
    for name in sources():
        status = os.stat(name)
        text += f"|{name}:{status.st_size}:{status.st_mtime_ns}"
    data = text.encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def compile_to(target: Path) -> None:
    """Compile and link; the ELF file with symbols is kept beside it, for debuggers.

    Raises:
        Unsupported: there is no compiler.
        HostError: the compiler refuses.
    """
    from pyrovm.guest import cache, programs

    gcc, objcopy = programs.require("gcc", "objcopy")
    target.parent.mkdir(parents=True, exist_ok=True)
    with cache.scratch(target.parent) as scratch:
        elf, flat = scratch / "libos.elf", scratch / "libos.bin"
        vdso = os.path.join(SOURCES, VDSO)
        script = f"-Wl,-T,{os.path.join(vdso, 'vdso.ld')}"
        programs.run(
            *(gcc, *VDSO_FLAGS, script, "-o", scratch / "vdso.so", os.path.join(vdso, "vdso.c"))
        )
        code = [name for name in sources() if name.endswith((".c", ".S"))]
        code = [name for name in code if os.path.dirname(name) != vdso]
        script = f"-Wl,-T,{os.path.join(SOURCES, 'link.ld')}"
        programs.run(gcc, *FLAGS, f"-Wa,-I,{scratch}", script, "-o", elf, *code)
        programs.run(objcopy, "-O", "binary", elf, flat)
        elf.rename(target.with_suffix(".elf"))
        flat.rename(target)
    old = cache.oldest_first(target.parent.glob("*.bin"))
    for file in old[:-KEPT]:
        cache.remove(file)
        cache.remove(file.with_suffix(".elf"))
