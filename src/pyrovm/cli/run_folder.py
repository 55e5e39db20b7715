"""The run-time folder of one ``pyrovm run``: its sockets, gone when it is gone."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile

from pyrovm.errors import HostError, os_error
from pyrovm.machine.probe import runtime_directory

FOLDER = "vms"


class RunFolder:
    """``<run-time directory>/vms/<pid>-<id>``, private to this user.

    Folders of processes that were killed are removed by whoever comes next.
    """

    def __init__(self, instance_id: str) -> None:
        base = runtime_directory() or os.path.join(tempfile.gettempdir(), f"pyrovm-{os.getuid()}")
        self._parent = os.path.join(base, FOLDER)
        for folder in (base, self._parent):
            _private(folder)
        self._clean()
        self.path = os.path.join(self._parent, f"{os.getpid()}-{instance_id}")
        os.mkdir(self.path, 0o700)

    @property
    def api_socket(self) -> str:
        """Where the API listens by default."""
        return os.path.join(self.path, "api.sock")

    @property
    def vsock(self) -> str:
        """The vsock's Unix socket by default."""
        return os.path.join(self.path, "vsock.sock")

    def _clean(self) -> None:
        for name in os.listdir(self._parent):
            pid = name.partition("-")[0]
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                shutil.rmtree(os.path.join(self._parent, name), ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _private(folder: str) -> None:
    """Make ``folder``, or check that nobody else can have a hand in it.

    Raises:
        HostError: it is somebody else's, or others may write to it.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise HostError(f"{folder}: {os_error(error)}", error.errno or 0) from None
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HostError(f"{folder} is not a folder that only this user may write to")
