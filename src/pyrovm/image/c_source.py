"""C sources: compiled to one static program, by musl's compiler where it can, else by gcc.

musl makes the smaller program (some 20 KiB for a hello, glibc 750); what needs the kernel's or
glibc's own headers is beyond it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import programs

COMPILERS = ("musl-gcc", "gcc")
FLAGS = ("-O2", "-pipe")


def compile_static(
    source: Path, into: Path, cc: str | None = None, flags: Sequence[str] = ()
) -> tuple[Path, str, list[str]]:
    """The program, the compiler that made it, and the files that it was made of.

    Raises:
        ConfigError: it does not compile; the message has what the compiler said.
        Unsupported: there is no compiler.
    """
    candidates = [cc] if cc else [name for name in COMPILERS if programs.find(name)]
    if not candidates:
        raise programs.missing(["gcc"])
    said = ""
    for compiler in candidates:
        (found,) = programs.require(compiler)
        program, dependencies = into / source.stem, into / "dependencies"
        fixed: list[str | Path] = [
            "-static",
            "-s",
            f"-ffile-prefix-map={source.parent}=.",
            "-MMD",
            "-MF",
            dependencies,
        ]
        try:
            # libraries behind the source, as the linker wants them
            programs.run(found, *FLAGS, *fixed, source, "-o", program, *flags, "-lm", "-pthread")
        except HostError as error:
            said = str(error)
            continue
        _, _, names = dependencies.read_text().replace("\\\n", " ").partition(":")
        inputs = [str((source.parent / name).absolute()) for name in shlex.split(names)]
        return program, compiler, inputs
    raise ConfigError(f"{source}: does not compile: {said}")
