"""What runs in a VM: a program of an image, with its arguments, environment and limits."""

from __future__ import annotations

import os

from pyrovm.abi.libos import PV_CPU_MAX
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrovm.abi.libos import pv_boot

MIB = 1 << 20
STRINGS_MAX = 256 << 10
STACK_SIZE = 8 << 20
DEFAULT_MEMORY = 512 * MIB
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(hostname: str) -> dict[str, str]:
    """What every program finds in its environment, whatever its image and user add."""
    return {"PATH": DEFAULT_PATH, "HOME": "/", "HOSTNAME": hostname}


def check_cpus(cpus: int) -> None:
    """Raise ConfigError where a program's VM cannot have so many."""
    if not isinstance(cpus, int) or not 1 <= cpus <= PV_CPU_MAX:
        raise ConfigError(f"cpus: {cpus!r} given; 1 to {PV_CPU_MAX} are allowed")


class Program:
    """One program to run; sizes are in bytes, a multiple of 2 MiB for ``memory``."""

    def __init__(
        self,
        image: str,
        exe: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        memory: int = DEFAULT_MEMORY,
        cpus: int = 1,
        cwd: str = "/",
        hostname: str = "pyrovm",
        stack_size: int = STACK_SIZE,
        flags: int = 0,
        folders: Sequence[tuple[str, bool]] = (),
    ) -> None:
        """Check what was given.  ``folders`` are where the host's are mounted, and if read-only.

        Raises:
            ConfigError: the memory is too small, or no multiple of 2 MiB; there are no or too many
                CPUs.
        """
        if memory < 8 * MIB or memory % (2 * MIB):
            raise ConfigError(
                f"memory: {memory} bytes given; at least 8 MiB and a multiple of 2 MiB are needed"
            )
        check_cpus(cpus)
        self.image = image
        self.memory = memory
        self.cpus = cpus
        self.flags = flags
        self.stack_size = stack_size
        self._texts = [exe, cwd, hostname]
        self._folders = list(folders)
        self._argv = list(argv)
        self._env = [f"{key}={value}" for key, value in env.items()]

    def strings(self) -> bytes:
        """All strings, as the boot information points to them.

        Raises:
            ConfigError: one has a NUL, or together they are longer than 256 KiB.
        """
        paths = (path for path, _ in self._folders)
        words = [os.fsencode(word) for word in (*self._texts, *self._argv, *self._env, *paths)]
        for word in words:
            if b"\0" in word:
                raise ConfigError(f"argument or environment: {word!r} has a NUL byte")
        offsets, blob = [], bytearray()
        for word in words:
            offsets.append(len(blob))
            blob += word + b"\0"
        if len(blob) > STRINGS_MAX:
            raise ConfigError(
                f"arguments and environment: {len(blob)} bytes given; {STRINGS_MAX} are allowed"
            )
        self._offsets = [*offsets, len(blob)]
        return bytes(blob)

    def fill(self, boot: pv_boot) -> None:
        """Write what is known here into the boot information; after :meth:`strings`."""
        offsets = self._offsets
        boot.flags = self.flags
        boot.exe_offset, boot.cwd_offset, boot.hostname_offset = offsets[:3]
        boot.argc = len(self._argv)
        boot.argv_offset = offsets[3]
        boot.envc = len(self._env)
        boot.env_offset = offsets[3 + len(self._argv)]
        boot.share_count = len(self._folders)
        for n, (_, read_only) in enumerate(self._folders):
            boot.shares[n].path_offset = offsets[3 + len(self._argv) + len(self._env) + n]
            boot.shares[n].read_only = read_only
        boot.stack_size = self.stack_size
        boot.umask = 0o022
