"""Which shared libraries a program needs, found as its loader will find them.

glibc: ld.so(8); musl: ldso/dynlink.c.  Nothing is executed: names come out of the ELF files, places
out of RPATH, RUNPATH, ``/etc/ld.so.cache`` and the default folders.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyrovm.errors import ConfigError, HostError
from pyrovm.image import elf, ldcache
from pyrovm.image.tree import Tree

CACHE = "/etc/ld.so.cache"
GLIBC_FOLDERS = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
MUSL_FOLDERS = ("/lib", "/usr/local/lib", "/usr/lib")
MUSL_PATH = "/etc/ld-musl-x86_64.path"
_LATER = {"libc.so.6": "libgcc_s.so.1"}  # what a library loads when a thread is cancelled


class Libraries:
    """Brings the libraries of programs and of other libraries into a tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[str, str] = {}  # name or soname -> path in the image
        self._visited: set[str] = set()
        self._is_musl = False
        self._cache: dict[str, list[str]] | None = None

    def add_program(self, path: str) -> elf.Elf:
        """Bring what the program at ``path`` (of the image) needs to start.

        Raises:
            ConfigError: it is none for x86-64, or something it needs is missing; names both.
        """
        program = self._parse(path)
        if not program.is_program:
            raise ConfigError(f"{path}: a shared library, not a program")
        if program.interpreter is None:
            return program
        self._is_musl = os.path.basename(program.interpreter).startswith("ld-musl-")
        try:
            self._tree.add_host(program.interpreter, f"loader of {path}")
        except HostError:
            raise ConfigError(f"{path}: its loader {program.interpreter} is missing") from None
        self._known[os.path.basename(program.interpreter)] = program.interpreter
        missing = self._add_needed(path, program, ())
        if missing:
            raise ConfigError(f"{path}: not found: {'; '.join(missing)}")
        return program

    def add_object(self, path: str, *, is_optional: bool = False) -> None:
        """Bring what a plug-in or extension module needs.

        What is missing is remarked upon, unless the object is one of many that may be used or not.
        """
        try:
            library = self._parse(path)
        except elf.ElfError:
            return  # data that happens to be called like a library, or for another machine
        missing = self._add_needed(path, library, ())
        for text in () if is_optional else missing:
            self._tree.remarks.append(f"{path}: not found: {text}")

    def finish(self) -> None:
        """Bring what libraries load later, and the cache by which the loader finds them all."""
        for name, later in _LATER.items():
            if name in self._known and later not in self._known:
                found = self._find(later, "/", None, ())
                if found is not None:
                    self._add_library(found, later, f"loaded by {name} to end threads", ())
        if self._is_musl:
            if os.path.exists(MUSL_PATH):
                self._tree.add_host(MUSL_PATH, "where musl's loader looks")
        elif self._known and self._tree.get(CACHE) is None:
            data = ldcache.encode(self._known)
            self._tree.add_file(CACHE, data, "where the loader finds libraries")

    @property
    def paths(self) -> list[str]:
        """Where the libraries are in the image."""
        return sorted(set(self._known.values()))

    @property
    def names(self) -> list[str]:
        """The names by which they are asked for."""
        return sorted(self._known)

    def _add_needed(self, path: str, needing: elf.Elf, rpaths: tuple[str, ...]) -> list[str]:
        """Bring the libraries of one object, and theirs; texts about those that are missing."""
        if path in self._visited:
            return []
        self._visited.add(path)
        rpaths = (*self._expand(needing.rpath, path), *rpaths)  # RPATH is inherited
        missing = []
        for name in needing.needed:
            if name in self._known or self._is_own(name):
                continue
            found = self._find(name, path, needing, rpaths)
            if found is None:
                missing.append(f"{name}, needed by {path}")
            else:
                missing += self._add_library(found, name, f"needed by {path}", rpaths)
        return missing

    def _add_library(self, found: str, name: str, why: str, rpaths: tuple[str, ...]) -> list[str]:
        self._known[name] = found
        place = self._tree.add_host(found, why)
        library = self._parse(place)
        if library.soname:
            self._known.setdefault(library.soname, found)
        return self._add_needed(found, library, rpaths)

    def _is_own(self, name: str) -> bool:
        """musl's C library is its loader, by whatever name it is asked for."""
        return self._is_musl and (name == "libc.so" or name.startswith("libc.musl-"))

    def _find(
        self, name: str, path: str, needing: elf.Elf | None, rpaths: tuple[str, ...]
    ) -> str | None:
        """Where the loader would find ``name`` for the object at ``path``, or None."""
        if "/" in name:
            return name if self._is_usable(name) else None
        runpath = self._expand(needing.runpath, path) if needing else []
        folders = [*(() if runpath and not self._is_musl else rpaths), *runpath]
        places = [f"{folder}/{name}" for folder in folders]
        if self._is_musl:
            places += [f"{folder}/{name}" for folder in self._musl_folders()]
        elif needing is None or not needing.no_default_libraries:
            places += self._cached().get(name, [])
            places += [f"{folder}/{name}" for folder in GLIBC_FOLDERS]
        for place in places:
            normal = os.path.normpath(place) if "/../" not in place else place
            if self._is_usable(normal):
                return normal
        return None

    def _is_usable(self, path: str) -> bool:
        """Whether there is a library for this architecture; others are passed over by loaders."""
        if not path.startswith("/"):
            return False
        source = self._source(path)
        if source is None:
            return False
        try:
            read_elf(source)
        except elf.OtherArchitecture:
            return False
        except elf.ElfError as error:
            raise ConfigError(f"{path}: {error}") from None
        return True

    def _source(self, path: str) -> Path | bytes | None:
        """The contents of a file of the image, else of the host."""
        node = self._tree.get(path)
        if node is not None:
            return node.source
        return Path(path) if os.path.isfile(path) else None

    def _parse(self, path: str) -> elf.Elf:
        source = self._source(path)
        if source is None:
            raise ConfigError(f"{path}: not there")
        try:
            return read_elf(source)
        except elf.OtherArchitecture as error:
            raise elf.OtherArchitecture(f"{path}: {error}") from None
        except elf.ElfError as error:
            raise elf.ElfError(f"{path}: {error}") from None

    def _expand(self, folders: tuple[str, ...], path: str) -> list[str]:
        """RPATH or RUNPATH with $ORIGIN and the like replaced; what is relative is left out."""
        origin = os.path.dirname(self._real(path))
        expanded = []
        for folder in folders:
            for name, value in (("ORIGIN", origin), ("LIB", "lib/x86_64-linux-gnu")):
                folder = folder.replace(f"${name}", value).replace(f"${{{name}}}", value)
            if folder.startswith("/") and "$" not in folder:
                expanded.append(folder)
        return expanded

    def _real(self, path: str) -> str:
        resolved = self._tree.resolve(path)
        return resolved if resolved in self._tree.nodes else os.path.realpath(path)

    def _cached(self) -> dict[str, list[str]]:
        if self._cache is None:
            source = self._source(CACHE)
            data = b"" if source is None else _contents(source)
            try:
                self._cache = ldcache.parse(data) if data else {}
            except ldcache.CacheError as error:
                self._tree.remarks.append(f"{error}; only default folders are searched")
                self._cache = {}
        return self._cache

    def _musl_folders(self) -> list[str]:
        source = self._source(MUSL_PATH)
        if source is None:
            return list(MUSL_FOLDERS)
        words = os.fsdecode(_contents(source)).replace("\n", ":").split(":")
        return [word for word in words if word.startswith("/")]


def _contents(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def read_elf(source: Path | bytes) -> elf.Elf:
    """Parse an ELF file.

    Raises:
        elf.ElfError: it is none, damaged, or for another machine.
        HostError: it cannot be read.
    """
    if isinstance(source, bytes):
        return elf.parse(lambda offset, size: source[offset : offset + size], len(source))
    try:
        with open(source, "rb") as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size

            def read_at(offset: int, count: int) -> bytes:
                # a file offset is signed
                return os.pread(descriptor, count, offset) if offset < size else b""

            return elf.parse(read_at, size)
    except OSError as error:
        raise HostError.wrap(str(source), error) from None
