"""The lean guest kernels, built from Debian's kernel source package.

    linux-source-6.12 + fragments (data/*.config) + compiler  ->  vmlinux, bzImage, config

What determines the result is hashed into the kernel's key: the same input is built once.  Build
time, user and host name are fixed, so that the same compiler makes the same bytes again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
from collections import deque
from pathlib import Path

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import cache, debian, kernel_config, kernels, programs
from pyrovm.guest.kernels import Kernel
from pyrovm.guest.progress import Progress, Silent

SOURCE_PACKAGE = "linux-source-6.12"

_PROGRAMS = (
    *("gcc", "make", "flex", "bison", "bc", "perl", "strip"),
    *("xz", "lz4", "tar", "dpkg-deb", "apt-cache", "apt-get"),
)
_LIBELF = Path("/usr/include/gelf.h")  # objtool is linked with it

_WAITING = "waiting for another process that builds this flavour"

# Lines that make prints for each flavour; they only scale the percentage.
_STEPS = {"full": 2000, "serverless": 1500, "pci": 2030}
_STEP = re.compile(rb"  (?:CC|AS|LD|AR|HOSTCC|HOSTLD|GEN|UPD|WRAP|OBJCOPY|NM|LDS|KSYMS)  ")

# Large parts of the source that an x86 kernel never reads.
_NOT_UNPACKED = (
    "arch/arm/boot",
    "arch/arm/mach-*",
    "arch/arm64/boot",
    "arch/m68k",
    "arch/powerpc/boot",
    "drivers/gpu/drm/amd/include/asic_reg",
    "tools/perf",
    "tools/testing",
)

_REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "pyrovm",
    "KBUILD_BUILD_HOST": "pyrovm",
    "KCONFIG_NOTIMESTAMP": "1",
    "LC_ALL": "C",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one build is made of."""

    flavour: str
    options: dict[str, str]
    source: debian.Package
    compiler: str

    @property
    def key(self) -> str:
        """A hash of everything that determines the kernel."""
        text = "\0".join(
            [
                self.source.filename,
                kernel_config.render(self.options),
                self.compiler,
                *sorted(f"{k}={v}" for k, v in _REPRODUCIBLE.items()),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name of the kernel's folder in the cache."""
        version = self.source.version.replace(":", "_").replace("~", "-")
        return f"{self.flavour}-{version}-{self.key[:8]}"


def check_programs() -> None:
    """Find out before a long build whether all it needs is there.

    Raises:
        Unsupported: something is missing; the message has the apt line.
    """
    absent = [program for program in _PROGRAMS if not programs.find(program)]
    packages = {programs.PACKAGE_OF[program] for program in absent}
    if not _LIBELF.exists():
        absent.append("libelf")
        packages.add("libelf-dev")
    if absent:
        raise programs.missing(absent, sorted(packages))


def plan(flavour: str) -> Plan:
    """What a build of ``flavour`` would be made of.

    Raises:
        ConfigError: there is no such flavour.
        Unsupported: programs or the source package are missing.
    """
    if flavour not in kernel_config.FLAVOURS:
        raise ConfigError(f"flavour {flavour!r}: one of {', '.join(kernel_config.FLAVOURS)}")
    check_programs()
    return Plan(
        flavour,
        kernel_config.merge(kernel_config.fragments(flavour)),
        debian.show([SOURCE_PACKAGE])[SOURCE_PACKAGE],
        programs.run("gcc", "--version").decode().splitlines()[0],
    )


def build(flavour: str, *, jobs: int = 0, progress: Progress | None = None) -> Kernel:
    """Build a lean kernel, unless the cache has it; ``jobs`` compilers at a time (0: all CPUs).

    Raises:
        ConfigError: there is no such flavour.
        Unsupported: programs or the source package are missing.
        HostError: the build failed; the message has the end of its output.
    """
    show = progress or Silent("")
    show.step("asking apt for the kernel's source")
    todo = plan(flavour)
    present = kernels.find(todo.name)
    if present and present.key == todo.key:
        return present
    with (
        cache.locked(kernels.home() / f".build-{flavour}", on_wait=lambda: show.step(_WAITING)),
        cache.scratch(kernels.home()) as scratch,
    ):
        present = kernels.find(todo.name)  # the process that was waited for may have made it
        if present:
            return present
        show.step(f"downloading {todo.source.filename}")
        deb = debian.download(todo.source)
        show.step(f"unpacking {todo.source.filename}")
        source = unpack_source(deb, scratch)
        out = scratch / "build"
        out.mkdir()
        show.step("configuring")
        configure(source, out, todo.options)
        show.step(f"compiling {todo.name}")
        compile_kernel(out, jobs or os.cpu_count() or 1, show, _STEPS[flavour])
        files = scratch / "files"
        files.mkdir()
        programs.run("strip", "-s", "-o", files / "vmlinux", out / "vmlinux")
        (out / "arch/x86/boot/bzImage").rename(files / "bzImage")
        (out / ".config").rename(files / "config")
        release = (out / "include/config/kernel.release").read_text().strip()
        origin = f"{todo.source.name} {todo.source.version}"
        return kernels.add(
            files, todo.name, flavour=flavour, release=release, source=origin, key=todo.key
        )


def unpack_source(deb: Path, scratch: Path) -> Path:
    """Unpack the source tree out of its package; the tree."""
    debian.unpack(deb, scratch / "deb", lambda path: path.name.startswith("linux-source-"))
    archive = next((scratch / "deb/usr/src").glob("linux-source-*.tar.xz"), None)
    if archive is None:
        raise HostError(f"{deb.name} has no usr/src/linux-source-*.tar.xz")
    excludes = [f"--exclude=linux-source-*/{path}" for path in _NOT_UNPACKED]
    programs.run("tar", "xf", archive, "-C", scratch, *excludes)
    archive.unlink()
    return next(scratch.glob("linux-source-*"))


def configure(source: Path, out: Path, options: dict[str, str]) -> None:
    """Make ``out/.config``: ``options`` over allnoconfig.

    Raises:
        HostError: the kernel does not grant an option: a typing error, or a name that another
            version of the kernel uses.
    """
    wish = out / "wish.config"
    wish.write_text(kernel_config.render(options))
    env = {**_REPRODUCIBLE, "KCONFIG_ALLCONFIG": str(wish)}
    programs.run("make", "-C", source, f"O={out}", "ARCH=x86", "allnoconfig", env=env)
    final = kernel_config.parse((out / ".config").read_text())
    if refused := kernel_config.not_granted(options, final):
        raise HostError(f"the kernel's configuration does not grant: {', '.join(refused)}")


def compile_kernel(out: Path, jobs: int, show: Progress, steps: int) -> None:
    """Run make in ``out``, telling ``show`` how far it is."""
    argv = ["make", "-C", str(out), f"-j{jobs}", "ARCH=x86", "vmlinux", "bzImage"]
    tail: deque[bytes] = deque(maxlen=40)
    done = 0
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **_REPRODUCIBLE},
    ) as make:
        assert make.stdout
        for line in make.stdout:
            tail.append(line)
            if _STEP.match(line):
                done += 1
                show.at(min(0.99, done / steps))
    if make.returncode:
        text = b"".join(tail).decode(errors="replace")
        raise HostError(f"building the kernel failed with status {make.returncode}:\n{text}")
