"""``pyrovm solo5``: a Solo5 hvt unikernel, such as MirageOS makes them, with its tender's options.

The options' syntax is that of ``solo5-hvt``, whose place this takes: name and value are one word.
"""

from __future__ import annotations

import os
import sys

from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.solo5.plan import Plan

USAGE = """\
usage: pyrovm solo5 [OPTIONS] [--] IMAGE [ARGUMENTS ...]

Run a Solo5 unikernel built for the hvt target (MirageOS: mirage configure -t hvt).  Every
device that its manifest declares must be attached.

options:
  --mem=MIB                   guest memory, a multiple of 2 (default 512)
  --block:NAME=FILE           attach a file or block device as block device NAME
  --block-sector-size:NAME=N  its block size, a power of two from 512 on (default 512)
  --net:NAME=TAP|@FD          attach a tap, or an open descriptor, as network device NAME
  --net-mac:NAME=MAC          its MAC address (default: random)
  --kvm=DEVICE                the KVM device (default /dev/kvm)
  --help                      print this

exit status: the guest's own (0 success, 1 failure, 255 abort); 1 where it broke a rule, 2 for a
wrong command line.
"""

EXIT_USAGE = 2
PREFIX = "pyrovm solo5: "


class UsageError(ConfigError):
    """A word of the command line that does not fit."""


def main(argv: Sequence[str]) -> int:
    """Run the guest; the exit status."""
    if "--help" in argv[:1] or "-h" in argv[:1]:
        print(USAGE, end="")
        return 0
    try:
        plan = parse(argv)
    except UsageError as error:
        print(f"{PREFIX}{error}\n\n{USAGE}", end="", file=sys.stderr)
        return EXIT_USAGE
    from pyrovm.host import signals
    from pyrovm.solo5.tender import Tender

    def warn(text: str) -> None:
        print(PREFIX + text, file=sys.stderr)

    with Tender(plan, warn) as tender:
        # A handler in Python would wait for the guest's next exit, which may never come.
        signals.default(signals.SIGINT)
        return tender.run()


def parse(argv: Sequence[str]) -> Plan:
    """The guest that the command line describes.

    Raises:
        UsageError: a word does not fit.
    """
    from pyrovm.solo5.plan import Plan

    words = list(argv)
    options = _Options()
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        options.take(word)
    if not words:
        raise UsageError("Missing IMAGE operand")
    return Plan(
        words[0],
        arguments=os.fsencode(" ".join(words[1:])),
        mem_size=options.mem_size,
        blocks=options.blocks,
        block_sizes=options.block_sizes,
        nets=options.nets,
        macs=options.macs,
        kvm_device=options.kvm_device,
    )


class _Options:
    def __init__(self) -> None:
        self.mem_size = 512 << 20
        self.kvm_device = "/dev/kvm"
        self.blocks: dict[str, str] = {}
        self.block_sizes: dict[str, int] = {}
        self.nets: dict[str, str] = {}
        self.macs: dict[str, bytes] = {}

    def take(self, word: str) -> None:
        """Note one option.

        Raises:
            UsageError: there is no such option, or its value cannot be.
        """
        option, separator, value = word.partition("=")
        kind, colon, name = option.partition(":")
        if not separator or not value:
            raise UsageError(f"Invalid option: '{word}'")
        if option == "--mem":
            self.mem_size = _memory(word, value)
        elif option == "--kvm":
            self.kvm_device = value
        elif not colon or kind not in ("--block", "--block-sector-size", "--net", "--net-mac"):
            raise UsageError(f"Invalid option: '{word}'")
        else:
            self._device(word, kind, name, value)

    def _device(self, word: str, kind: str, name: str, value: str) -> None:
        from pyrovm.solo5.manifest import NAME_MAX, is_name

        if not is_name(name):
            raise UsageError(
                f"Invalid option: '{word}': a device's name has 1 to {NAME_MAX} letters and digits"
            )
        if kind == "--block":
            self.blocks[name] = self._once(self.blocks, word, name, value)
        elif kind == "--net":
            self.nets[name] = self._once(self.nets, word, name, value)
        elif kind == "--net-mac":
            self.macs[name] = _mac(word, value)
        else:
            self.block_sizes[name] = _block_size(word, value)

    def _once(self, taken: dict[str, str], word: str, name: str, value: str) -> str:
        if name in taken:
            raise UsageError(f"'{word}': {name} is attached to {taken[name]} already")
        return value


def _memory(word: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or int(value) % 2 or not 2 <= int(value) <= 4096:
        raise UsageError(
            f"Malformed argument to --mem: '{word}': a multiple of 2 from 2 to 4096 is expected"
        )
    return int(value) << 20


def _block_size(word: str, value: str) -> int:
    from pyrovm.solo5.host import MAX_BLOCK_SIZE, MIN_BLOCK_SIZE

    size = int(value) if value.isascii() and value.isdigit() else 0
    if not MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE or size & (size - 1):
        raise UsageError(
            f"'{word}': the block size must be a power of two from {MIN_BLOCK_SIZE} to "
            f"{MAX_BLOCK_SIZE}"
        )
    return size


def _mac(word: str, value: str) -> bytes:
    parts = value.split(":")
    if len(parts) != 6 or not all(1 <= len(p) <= 2 and _is_hex(p) for p in parts):
        raise UsageError(f"'{word}': a MAC address such as 02:00:00:00:00:01 is expected")
    return bytes(int(part, 16) for part in parts)


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
