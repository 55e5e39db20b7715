"""What goes into an image and why, before it is written.

Paths are absolute paths in the image.  What is taken from the host keeps its path, with the links
that lead to it, so that a program finds everything where it was on the host.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pyrovm.errors import ConfigError, HostError

MAX_LINKS = 40  # as the kernel has it
DEFAULT_MAX_BYTES = 4 << 30
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Node:
    """A file, a folder or a symbolic link of the image."""

    kind: Literal["file", "folder", "link"]
    why: str
    source: Path | bytes | None = None  # of a file
    target: str = ""  # of a link
    mode: int = 0o755
    size_bytes: int = 0


class Tree:
    """The files of an image to be; at most ``max_bytes`` of contents."""

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.nodes: dict[str, Node] = {}
        self.size_bytes = 0
        self.remarks: list[str] = []
        self._max_bytes = max_bytes

    def add_folder(self, path: str, why: str, mode: int = 0o755) -> str:
        """A folder, unless there is one; its path without links."""
        path = self.resolve(path)
        node = self.nodes.get(path)
        if path != "/" and (node is None or node.kind != "folder"):
            self._add(path, Node("folder", why, mode=mode))
        return path

    def add_link(self, path: str, target: str, why: str) -> None:
        """A symbolic link."""
        self._add(self._in_parent(path), Node("link", why, target=target, mode=0o777))

    def add_file(self, path: str, source: Path | bytes, why: str, executable: bool = False) -> str:
        """A file with the contents of a file of the host, or these; its path without links.

        Raises:
            HostError: the source cannot be read.
            ConfigError: the image becomes too large, or there is something else at the path.
        """
        path = self.resolve(path)
        if isinstance(source, bytes):
            size, mode = len(source), 0o755 if executable else 0o644
        else:
            try:
                info = source.stat()
            except OSError as error:
                raise HostError.wrap(str(source), error) from None
            if not stat.S_ISREG(info.st_mode):
                raise ConfigError(f"{source}: not a regular file")
            size = info.st_size
            mode = 0o755 if executable or info.st_mode & 0o111 else 0o644
        self._add(path, Node("file", why, source=source, mode=mode, size_bytes=size))
        return path

    def add_host(self, path: str, why: str) -> str:
        """A file of the host at the path where it is, and the links to it; its path without links.

        What the image has already comes first, so a library of a root folder hides the host's.

        Raises:
            HostError: neither the image nor the host has the file.
        """
        return self._walk(path, why)

    def add_host_place(self, folder: str, why: str) -> str:
        """A folder of the host, empty, at the path where it is; its path without links.

        Raises:
            HostError: neither the image nor the host has it.
        """
        return self._walk(folder, why, is_folder=True)

    def add_host_folder(
        self,
        folder: Path,
        at: str,
        why: str,
        skip: Callable[[str, bool], bool] = lambda relative, is_folder: False,
    ) -> list[str]:
        """All that is in a folder of the host; ``skip(relative path, is folder)`` leaves out.

        Returns the paths of the files.  Sockets, devices and the like are left out with a remark.
        """
        files = []
        top_path = self.add_folder(at, why)
        for top, names, others in os.walk(folder, onerror=_raise):
            inside = os.path.relpath(top, folder)
            inside = "" if inside == "." else f"{inside}/"
            base = f"{top_path.rstrip('/')}/{inside}"
            links = [name for name in names if os.path.islink(os.path.join(top, name))]
            names[:] = sorted(n for n in names if n not in links and not skip(inside + n, True))
            for name in names:
                self.add_folder(base + name, why)
            for name in sorted([*others, *links]):
                source = os.path.join(top, name)
                if skip(inside + name, False):
                    continue
                mode = os.lstat(source).st_mode
                if stat.S_ISLNK(mode):
                    self.add_link(base + name, os.readlink(source), why)
                elif stat.S_ISREG(mode):
                    files.append(self.add_file(base + name, Path(source), why))
                else:
                    self.remarks.append(f"{source}: left out, neither file, folder nor link")
        return files

    def resolve(self, path: str) -> str:
        """The path without the links that the image has; what is not there stays as it is."""
        return self._walk(path, None)

    def get(self, path: str) -> Node | None:
        """What is at a path, links followed; None where the image has nothing."""
        resolved = self.resolve(path)
        return Node("folder", "root") if resolved == "/" else self.nodes.get(resolved)

    def write(self, folder: Path, at: Callable[[float], None]) -> None:
        """Write everything to an empty folder of the host; ``at`` is told the fraction done."""
        done = 0
        for path in sorted(self.nodes):
            node, target = self.nodes[path], f"{folder}{path}"
            if node.kind == "folder":
                os.mkdir(target)
                os.chmod(target, node.mode)
                continue
            if node.kind == "link":
                os.symlink(node.target, target)
                continue
            if isinstance(node.source, bytes):
                Path(target).write_bytes(node.source)
            elif node.source is not None:
                try:
                    shutil.copyfile(node.source, target)
                except OSError as error:
                    raise HostError.wrap(str(node.source), error) from None
            if os.stat(target).st_size != node.size_bytes:
                raise HostError(f"{node.source!s}: changed while it was read")
            os.chmod(target, node.mode)
            done += node.size_bytes
            at(done / max(1, self.size_bytes))

    def _walk(self, path: str, why: str | None, *, is_folder: bool = False) -> str:
        """Follow ``path`` through the image; with ``why``, bring in what is only on the host."""
        if not path.startswith("/") or "\0" in path:
            raise ConfigError(f"{path!r}: not an absolute path")
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        here, links = "", 0
        while left:
            part = left.pop()
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            place = f"{here}/{part}"
            node = self.nodes.get(place)
            if node is None and why is not None:
                node = self._bring(place, bool(left) or is_folder, why)
            if node is None or node.kind != "link":
                here = place
                continue
            links += 1
            if links > MAX_LINKS:
                raise ConfigError(f"{path}: more than {MAX_LINKS} symbolic links")
            if node.target.startswith("/"):
                here = ""
            left += [word for word in reversed(node.target.split("/")) if word not in ("", ".")]
        return here or "/"

    def _bring(self, path: str, is_inner: bool, why: str) -> Node:
        """One link, folder or file of the host, at its own path."""
        try:
            mode = os.lstat(path).st_mode
            target = os.readlink(path) if stat.S_ISLNK(mode) else ""
        except OSError as error:
            raise HostError.wrap(path, error) from None
        if target:
            self._add(path, Node("link", why, target=target, mode=0o777))
        elif is_inner:
            self._add(path, Node("folder", why))
        else:
            self.add_file(path, Path(path), why)
        return self.nodes[path]

    def _in_parent(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        return f"{self.resolve(parent or '/').rstrip('/')}/{name}"

    def _add(self, path: str, node: Node) -> None:
        parent = path.rpartition("/")[0]
        above = self.nodes.get(parent)
        if parent and above is None:
            self._add(parent, Node("folder", node.why))
        elif above is not None and above.kind != "folder":
            raise ConfigError(f"{path}: {parent} is a {above.kind} in the image")
        known = self.nodes.get(path)
        if known is not None:
            if known.kind != node.kind:
                raise ConfigError(f"{path}: to be a {node.kind}, is a {known.kind} in the image")
            self.size_bytes -= known.size_bytes
        self.nodes[path] = node
        self.size_bytes += node.size_bytes
        if self.size_bytes > self._max_bytes:
            raise ConfigError(
                f"the image grows beyond {self._max_bytes / MIB:g} MiB with {path}; "
                "a larger limit: --max-size"
            )


def _raise(error: OSError) -> None:
    raise HostError.wrap(str(error.filename), error)
