"""Debian's source packages, for suites that are built here: downloaded into the cache.

The machine's own package lists often lack sources, so private lists are fetched, from the same
places as its packages.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from pyrovm.errors import HostError
from pyrovm.guest import cache, programs

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"


def fetch(package: str) -> tuple[list[Path], str]:
    """The files of a source package, and its version.

    Raises:
        Unsupported: this is no Debian.
        HostError: the download failed.
    """
    folder = cache.folder("sources", package)
    found = next(folder.glob("*.dsc"), None)
    if found is None:
        (apt_get,) = programs.require("apt-get")
        options = _private_lists(apt_get)
        programs.run(
            apt_get,
            *options,
            "-qq",
            "source",
            "--download-only",
            "--only-source",
            package,
            cwd=folder,
        )
        found = next(folder.glob("*.dsc"), None)
    if found is None:
        raise HostError(f"apt-get source {package}: no .dsc came")
    version = re.search(r"^Version: (\S+)", found.read_text(), re.M)
    return sorted(folder.iterdir()), version[1] if version else "?"


def unpack(package: str, into: Path, pattern: str = "*") -> str:
    """Unpack what matches from the original sources, without their first folder; the version."""
    files, version = fetch(package)
    (original,) = (file for file in files if ".orig.tar" in file.name)
    into.mkdir(parents=True, exist_ok=True)
    command = ["--strip-components=1", "-C", into, "--wildcards", "-xf", original, pattern]
    programs.run("tar", *command)
    return version


def _private_lists(apt_get: Path) -> list[str]:
    state = cache.folder("sources", ".apt")
    lines = set()
    found = subprocess.run(
        [str(apt_get), "indextargets", "--format", _FORMAT, "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in found.splitlines():
        origin, place, suite, component = line.split("|")
        # Sources of security updates come and go; the release's will do.
        if origin == "Debian" and not suite.endswith("-security"):
            lines.add(f"deb-src {place} {suite} {component}\n")
    if not lines:
        raise HostError("apt knows no repository of Debian's")
    sources = state / "sources.list"
    sources.write_text("".join(sorted(lines)))
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=-"),
        *("-o", f"Dir::State::Lists={state}/lists", "-o", "APT::Sandbox::User="),
        *("-o", "Debug::NoLocking=1"),
    ]
    programs.run(apt_get, *options, "-qq", "update")
    return options
