"""A folder that becomes the lab's root file system, filled from the host's files.

What was taken from the host is noted, so that a later start can see whether it has changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from pyrovm.lab.errors import LabError

_LIBRARY = re.compile(r"(?:=> |^\s*)(/\S+) \(0x", re.M)  # in what ldd prints
_MOUNTED_OVER = ("tmp", "run", "dev", "proc", "sys", "job")

# Where the dynamic loader looks without a cache file (ld.so(8)), in Debian's multiarch form.
_LOADER_PATH = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib")


class Stage:
    """The root file system in the making, at the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources: dict[str, tuple[int, int]] = {}  # host path: size, mtime in ns
        self._programs: set[Path] = set()

    def at(self, path: str | Path) -> Path:
        """Where ``path`` of the lab lies on the host."""
        return self.root / str(path).lstrip("/")

    def add_dir(self, path: str) -> None:
        """Make a folder."""
        self.at(path).mkdir(parents=True, exist_ok=True)

    def add_text(self, path: str, text: str, mode: int = 0o644) -> None:
        """Make a file."""
        target = self.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def add_link(self, path: str | Path, target: str | Path) -> None:
        """Make a symbolic link, unless something is there."""
        at = self.at(path)
        at.parent.mkdir(parents=True, exist_ok=True)
        if not at.is_symlink() and not at.exists():
            at.symlink_to(target)

    def add_file(self, source: Path, path: str | Path | None = None) -> None:
        """Copy a file of the host, to the same place by default."""
        target = self.at(path or source)
        self._note(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            target.chmod(target.stat().st_mode | 0o600)

    def add_program(self, source: Path, path: str | Path | None = None) -> None:
        """Copy an ELF file, and the shared libraries that it names."""
        self.add_file(source, path)
        self._add_libraries(source.resolve())

    def add_library(self, name: str) -> None:
        """Copy a shared library that programs load by its name, where the host has it."""
        library = next(filter(Path.exists, (Path(folder, name) for folder in _LOADER_PATH)), None)
        if library is not None:
            self.add_file(library)

    def add_tree(self, source: Path, skip: Collection[str] = ()) -> None:
        """Copy a folder, links kept, and the shared libraries that its ELF files name."""
        if len(source.parts) > 1 and source.parts[1] in _MOUNTED_OVER:
            raise LabError(
                f"{source} cannot be taken along: the lab has its own /{source.parts[1]}. "
                "Use an interpreter installed elsewhere."
            )
        ignore = shutil.ignore_patterns(*skip)
        shutil.copytree(source, self.at(source), symlinks=True, dirs_exist_ok=True, ignore=ignore)
        for top, names, files in os.walk(self.at(source)):
            if "__pycache__" in names:
                names.remove("__pycache__")  # the interpreter may write there at any time
            for name in files:
                inside = Path(top, name)
                original = Path("/") / inside.relative_to(self.root)
                if not inside.is_symlink():
                    self._note(original)
                    if name.endswith(".so") or ".so." in name:
                        self._add_libraries(original)

    def _add_libraries(self, program: Path) -> None:
        if program in self._programs:
            return
        self._programs.add(program)
        # ldd ends with 1 for static programs: what it prints is all that counts
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        for found in _LIBRARY.findall(listed.stdout):
            library = Path(found)
            self.add_file(library)
            if str(library.parent) not in _LOADER_PATH:
                self.add_link(Path(_LOADER_PATH[1]) / library.name, library)

    def _note(self, source: Path) -> None:
        status = source.stat()
        self.sources[str(source)] = (status.st_size, status.st_mtime_ns)


def changed(sources: dict[str, tuple[int, int]]) -> str | None:
    """The first of the noted files that is not as it was, or None."""
    for path, (size, mtime_ns) in sources.items():
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return path
        if status.st_size != size or status.st_mtime_ns != mtime_ns:
            return path
    return None
