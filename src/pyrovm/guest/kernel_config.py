"""Kernel configurations: fragments put together, and checked against what came out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources

_SET = re.compile(r"CONFIG_(\w+)=(.*)")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set")

# The fragments of each flavour, in data/, later ones win.
FLAVOURS: Mapping[str, tuple[str, ...]] = {
    "full": ("base.config", "acpi.config"),
    "serverless": ("base.config", "serverless.config"),
    "pci": ("base.config", "acpi.config", "pci.config"),
}

ABOUT = {
    "full": "ACPI, hotplug of memory and vCPUs, every virtio device, all file systems",
    "serverless": "one function per VM: no ACPI, no pty, no IPv6, no swap; starts soonest",
    "pci": "full, with virtio devices on a PCI bus",
}


def fragments(flavour: str) -> list[str]:
    """The texts of a flavour's fragments, in order."""
    data = resources.files("pyrovm.guest") / "data"
    return [(data / name).read_text() for name in FLAVOURS[flavour]]


def parse(text: str) -> dict[str, str]:
    """Options and their values; ``n`` for what "is not set"."""
    options = {}
    for line in text.splitlines():
        if found := _SET.fullmatch(line.strip()):
            options[found[1]] = found[2]
        elif found := _UNSET.fullmatch(line.strip()):
            options[found[1]] = "n"
    return options


def merge(texts: Iterable[str]) -> dict[str, str]:
    """The options of several fragments; a later one wins."""
    merged: dict[str, str] = {}
    for text in texts:
        merged.update(parse(text))
    return merged


def render(options: Mapping[str, str]) -> str:
    """The options as a .config file has them."""
    return "".join(
        f"# CONFIG_{name} is not set\n" if value == "n" else f"CONFIG_{name}={value}\n"
        for name, value in sorted(options.items())
    )


def not_granted(requested: Mapping[str, str], final: Mapping[str, str]) -> list[str]:
    """The requests that a kernel's configuration does not fulfil, as ``NAME=wanted (is ...)``.

    An option that does not exist counts as ``n``: asking for its absence is always granted.
    """
    return [
        f"{name}={value} (is {final.get(name, 'n')})"
        for name, value in sorted(requested.items())
        if final.get(name, "n") != value
    ]
