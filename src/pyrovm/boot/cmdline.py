"""The kernel command line: what the user wrote, then what the machine adds."""

from __future__ import annotations

from pyrovm.arch.x86.layout import CMDLINE_MAX
from pyrovm.errors import ConfigError

DEFAULT = (
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd "
    "swiotlb=noforce"
)


class CmdlineError(ConfigError):
    """The command line is too long or not printable ASCII."""


class Cmdline:
    """A command line under construction.

    Everything from `` -- `` on belongs to init and stays at the end, whatever is added.
    """

    def __init__(self, text: str) -> None:
        """Start from the user's words.

        Raises:
            CmdlineError: not printable ASCII, or over 2047 bytes.
        """
        if not (text.isascii() and (text.isprintable() or not text)):
            raise CmdlineError(
                "The kernel command line is invalid: it contains non-printable or non-ASCII "
                "characters"
            )
        kernel, separator, init = text.partition(" -- ")
        self._kernel = kernel.strip()
        self._init = separator + init if separator else ""
        self.check()

    def add(self, words: str) -> None:
        """Append kernel parameters.

        Raises:
            CmdlineError: the line gets longer than 2047 bytes.
        """
        self._kernel = f"{self._kernel} {words}" if self._kernel else words
        self.check()

    def check(self) -> None:
        size = len(self._kernel) + len(self._init) + 1
        if size > CMDLINE_MAX:
            raise CmdlineError(
                "The kernel command line is invalid: the command line string has "
                f"{size} bytes with its NUL, {CMDLINE_MAX} allowed"
            )

    def __str__(self) -> str:
        return self._kernel + self._init

    def __bytes__(self) -> bytes:
        return str(self).encode("ascii") + b"\0"


def as_word(name: str) -> str:
    """``name`` as one word of a command line, or ``kernel`` where it cannot be."""
    is_word = name.isascii() and name.isprintable() and name and " " not in name
    return name if is_word else "kernel"
