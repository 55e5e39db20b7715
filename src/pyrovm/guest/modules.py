"""Kernel modules: finding them, what they depend on, and unpacking them."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable
from pathlib import Path

from pyrovm.errors import ConfigError
from pyrovm.guest import programs

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


class ModuleTree:
    """The modules of one kernel: the folder ``/lib/modules/RELEASE`` of its package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = {
            plain_name(path.name): path for path in sorted(folder.rglob("*.ko*")) if path.is_file()
        }
        builtin = folder / "modules.builtin"
        lines = builtin.read_text().split() if builtin.exists() else []
        self._builtin = {plain_name(line.rpartition("/")[2]) for line in lines}

    def has(self, name: str) -> bool:
        """Whether this kernel has the module, or has it built in."""
        return plain_name(name) in self._files or plain_name(name) in self._builtin

    def read(self, name: str) -> bytes:
        """A module's object code, uncompressed.

        Raises:
            ConfigError: this kernel has no such module.
        """
        path = self._files.get(plain_name(name))
        if path is None:
            raise ConfigError(f"no kernel module {name} in {self.folder}")
        return decompress(path)

    def closure(self, names: Iterable[str]) -> dict[str, bytes]:
        """The modules ``names`` with all they need, each after what it depends on.

        What is built into the kernel is left out.
        """
        loaded: dict[str, bytes] = {}
        under_way: list[str] = []

        def add(name: str) -> None:
            name = plain_name(name)
            if name in loaded or name in self._builtin:
                return
            if name in under_way:
                raise ConfigError(f"kernel modules depend on each other: {' '.join(under_way)}")
            under_way.append(name)
            code = self.read(name)
            for dependency in dependencies(code):
                add(dependency)
            under_way.pop()
            loaded[name] = code

        for name in names:
            add(name)
        return loaded


def plain_name(name: str) -> str:
    """``kvm-amd.ko.xz`` and ``kvm-amd`` are the module ``kvm_amd``."""
    return name.split(".ko")[0].replace("-", "_")


def dependencies(code: bytes) -> list[str]:
    """The modules that a module's ``.modinfo`` section names."""
    found = _DEPENDS.search(code)
    return [name for name in found[1].decode().split(",") if name] if found else []


def decompress(path: Path) -> bytes:
    """A module file's contents, whatever its compression."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        (zstd,) = programs.require("zstd")
        return programs.run(zstd, "-dcq", stdin=data)
    return data
