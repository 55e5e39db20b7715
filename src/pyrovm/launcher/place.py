"""Where the launcher of this user listens, and whether it is to be used at all."""

from __future__ import annotations

import os
import stat
import sys

from pyrovm.errors import ConfigError, HostError

SWITCH = "PYROVM_LAUNCHER"
OFF, ON, AUTO = "off", "on", "auto"
SOCKET, LOCK = "launcher.sock", "launcher.lock"

_INSTALLED_NS = os.stat(__file__).st_mtime_ns  # as it was loaded: an upgrade changes it


def switch() -> str:
    """``off``, ``on`` (start it where it does not run) or ``auto`` (use it where it runs).

    Raises:
        ConfigError: the variable says something else.
    """
    value = os.environ.get(SWITCH) or AUTO
    if value not in (OFF, ON, AUTO):
        raise ConfigError(f"{SWITCH} is {value!r}: {OFF}, {ON} and {AUTO} are allowed")
    return value


def is_wanted() -> bool:
    """Whether asking may be of use: cheap, for those who start without it most of the time."""
    value = os.environ.get(SWITCH) or AUTO
    return value != OFF and (value != AUTO or os.path.lexists(socket_path()))


def folder() -> str:
    """``pyrovm`` in $XDG_RUNTIME_DIR, for root in /run; else a folder of the user's in $TMPDIR."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        return f"{base}/pyrovm"
    if os.geteuid() == 0:
        return "/run/pyrovm"
    base = os.environ.get("TMPDIR", "")
    return f"{base if base.startswith('/') else '/tmp'}/pyrovm-{os.geteuid()}"


def socket_path() -> str:
    """Of the launcher's socket."""
    return f"{folder()}/{SOCKET}"


def make_folder() -> str:
    """The folder, made where it is missing, and nobody else's to write in.

    Raises:
        HostError: it cannot be made, or it is not private.
    """
    path = folder()
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise HostError.wrap(f"Cannot make the launcher's folder {path}", error) from None
    if not stat.S_ISDIR(status.st_mode):
        raise HostError(f"{path}: the launcher needs a folder there, and it is something else")
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HostError(
            f"{path} belongs to user {status.st_uid} with mode {status.st_mode & 0o7777:o}: the "
            f"launcher needs a folder of user {os.geteuid()} that no other may write to"
        )
    return path


def build() -> str:
    """What client and launcher must have in common: release, interpreter, place."""
    release = vars(sys.modules["pyrovm"])["__version__"]  # an import would name the SDK's modules
    return f"{release} {sys.version.split()[0]} {sys.executable} {__file__} {_INSTALLED_NS}"
