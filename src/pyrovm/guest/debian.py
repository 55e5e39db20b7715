"""Debian packages as a source of files: looked up, downloaded and unpacked, never installed.

``apt-get download`` needs no root and checks signatures and hashes.  Where the machine has no
package lists (a fresh container), private ones are fetched into the cache, again without root.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from pyrovm.errors import HostError, Unsupported
from pyrovm.guest import cache, programs

_FIELD = re.compile(r"^([A-Za-z0-9-]+): *(.*(?:\n .*)*)", re.M)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclasses.dataclass(frozen=True)
class Package:
    """What apt knows of a package's candidate version."""

    name: str
    version: str
    filename: str  # of the .deb, without folders
    depends: tuple[str, ...]  # the first alternative of each dependency


def parse_records(text: str) -> list[Package]:
    """Parse what ``apt-cache show`` prints."""
    packages = []
    for paragraph in re.split(r"\n\n+", text):
        field = dict(_FIELD.findall(paragraph))
        if "Package" not in field or "Filename" not in field:
            continue
        clauses = f"{field.get('Pre-Depends', '')},{field.get('Depends', '')}".split(",")
        depends = [name[0] for clause in clauses if (name := _NAME.match(clause.strip()))]
        filename = field["Filename"].rpartition("/")[2]
        packages.append(Package(field["Package"], field["Version"], filename, tuple(depends)))
    return packages


def show(names: Iterable[str]) -> dict[str, Package]:
    """Look up packages by name; names that are no real package are absent from the result.

    Raises:
        Unsupported: this is no Debian, or it knows none of them.
    """
    wanted = list(dict.fromkeys(names))
    apt_cache, _ = programs.require("apt-cache", "apt-get")
    found = _show(apt_cache, wanted)
    if not found:
        _fetch_private_lists()
        found = _show(apt_cache, wanted)
    if not found:
        raise Unsupported(f"apt knows none of: {', '.join(wanted)}; is this a Debian system?")
    return found


def _show(apt_cache: Path, names: list[str]) -> dict[str, Package]:
    # apt-cache ends with 100 where one name of many is unknown: its status says nothing.
    done = subprocess.run(
        [str(apt_cache), *_options(), "show", "--no-all-versions", *names],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    return {package.name: package for package in parse_records(done.stdout)}


def _private_state() -> Path:
    return cache.root() / "apt"


def _options() -> list[str]:
    state = _private_state()
    if not (state / "complete").exists():
        return []
    return ["-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"]


def _fetch_private_lists() -> None:
    (apt_get,) = programs.require("apt-get")
    state = _private_state()
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    with cache.locked(state / cache.LOCK_NAME):
        programs.run(
            apt_get,
            *("-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"),
            *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
            *("-qq", "update"),
        )
        (state / "complete").touch()


def download(package: Package) -> Path:
    """The .deb of ``package``, from the cache or from Debian's servers."""
    return download_all([package])[0]


def download_all(packages: Sequence[Package]) -> list[Path]:
    """The .deb files of ``packages``, in order; what the cache lacks is downloaded in one go."""
    (apt_get,) = programs.require("apt-get")
    debs = cache.folder("debs")
    lacking = [package for package in packages if not (debs / package.filename).exists()]
    if lacking:
        with cache.scratch(debs) as into:
            # apt puts a version's epoch into the name, the pool does not.
            # "_apt" may not write into the user's cache, so the download is not handed to it
            argv = [*_options(), "-o", "APT::Sandbox::User=", "-qq", "download"]
            names = [f"{package.name}={package.version}" for package in lacking]
            programs.run(apt_get, *argv, *names, cwd=into)
            for fetched in into.glob("*.deb"):
                fetched.replace(debs / re.sub(r"_\d+%3a", "_", fetched.name))
    targets = [debs / package.filename for package in packages]
    for target in targets:
        if not target.exists():
            raise HostError(f"apt-get download did not bring {target.name}")
        cache.touch(target)
    return targets


def closure(names: Iterable[str], *, without: Collection[str] = ()) -> list[Package]:
    """The packages and all they depend on, but for ``without`` and what only those need."""
    known: dict[str, Package] = {}
    ahead = [name for name in names if name not in without]
    while ahead:
        found = show(ahead)
        if lost := sorted(set(ahead) - set(found)):
            raise HostError(f"apt has no package {', '.join(lost)}")
        known.update(found)
        ahead = sorted(
            {name for package in found.values() for name in package.depends}
            - known.keys()
            - set(without)
        )
    return [known[name] for name in sorted(known)]


def unpack(deb: Path, into: Path, accept: Callable[[PurePosixPath], bool] | None = None) -> None:
    """Unpack a package's files below ``into``, as an unprivileged user can.

    Paths follow the merged /usr: ``bin/x`` becomes ``usr/bin/x`` where ``into/bin`` is a link.
    Device nodes are left out.  ``accept`` chooses files by their path without leading ``./``.
    """
    (dpkg_deb,) = programs.require("dpkg-deb")
    argv = [str(dpkg_deb), "--fsys-tarfile", str(deb)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if accept and not accept(path):
                    continue
                _unpack_member(archive, member, path, into)
    if process.returncode:
        raise HostError(f"dpkg-deb could not read {deb}")


def _unpack_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath, into: Path
) -> None:
    target = into.joinpath(*path.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        target.unlink()
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        target.hardlink_to(into.joinpath(*PurePosixPath(member.linkname).parts))
    elif member.isfile():
        source = archive.extractfile(member)
        assert source
        with source, open(target, "wb") as sink:
            while chunk := source.read(1 << 20):
                sink.write(chunk)
        target.chmod(member.mode | 0o600)
        os.utime(target, (member.mtime, member.mtime))
