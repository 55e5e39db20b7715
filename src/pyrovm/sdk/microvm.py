"""A microVM from Python, blocking calls."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pyrovm.sdk import _warm
from pyrovm.sdk._base import POLL, START_TIMEOUT, STOP_TIMEOUT, MicroVMBase, checked, drive_update
from pyrovm.sdk._process import Workspace, lifeline, vmm_command
from pyrovm.sdk.clones import Births, Clone
from pyrovm.sdk.errors import MicroVMError, WaitTimeout
from pyrovm.sdk.http1 import Response, ResponseParser, build_request
from pyrovm.sdk.scrollback import Scrollback
from pyrovm.sdk.snapshots import Snapshot, create_request, load_request
from pyrovm.sdk.spec import Vsock

REQUEST_TIMEOUT = 60.0
Process = subprocess.Popen[bytes] | _warm.WarmProcess


class Console:
    """The serial console: what the guest printed so far, and what it shall read.

    A thread of its own collects the output; the last 4 MiB are kept.
    """

    def __init__(self, process: Process, scrollback: Scrollback) -> None:
        self._process = process
        self._scrollback = scrollback
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True, name="console")
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while data := os.read(fd, 65536):
            with self._changed:
                self._scrollback.feed(data)
                self._changed.notify_all()
        with self._changed:
            self._scrollback.ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All output so far."""
        with self._changed:
            return self._scrollback.text()

    def write(self, data: str | bytes) -> None:
        """Type into the console.

        Raises:
            BrokenPipeError: the VMM is gone.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(data.encode() if isinstance(data, str) else data)
        self._process.stdin.flush()

    def wait_for(self, wanted: str | re.Pattern[str], timeout: float = 30.0) -> str:
        """Wait until the guest prints ``wanted`` (behind the last match); the text up to it.

        Raises:
            WaitTimeout: it did not within ``timeout`` seconds, or the console ended before.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self._scrollback.search(wanted)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._scrollback.ended:
                    why = "ended" if self._scrollback.ended else f"did not in {timeout:g} s"
                    shown = wanted if isinstance(wanted, str) else wanted.pattern
                    raise WaitTimeout(
                        f"waited for {shown!r} on the console, which {why}",
                        self._scrollback.tail(),
                    )
                self._changed.wait(left)

    def close(self) -> None:
        """Stop collecting; call when the VMM has ended."""
        self._thread.join(timeout=STOP_TIMEOUT)


class MicroVM(MicroVMBase):
    """One microVM, one VMM process.

    >>> with MicroVM("vmlinux", initrd="initrd.cpio", memory="256M") as vm:   # doctest: +SKIP
    ...     vm.start()
    ...     vm.console.wait_for("login:")
    """

    _process: Process | None = None
    _console: Console | None = None
    _lifeline: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------- life cycle

    def launch(self, timeout: float = START_TIMEOUT) -> None:
        """Start the VMM process and wait until its API answers; the guest does not run yet.

        Raises:
            VmmExited: it ended instead; its log says why.
            WaitTimeout: its API did not answer within ``timeout`` seconds.
        """
        if self._process is not None:
            return
        workspace = self._workspace = Workspace()
        try:
            with workspace.log.open("ab") as log:
                if self._vmm is None:
                    self._process = _warm.start(workspace.arguments(self.id), log.fileno())
                if self._process is None:
                    self._process = self._start_cold(workspace, log.fileno())
        except BaseException:
            self.close()
            raise
        self._console = Console(self._process, self._scrollback)
        deadline = time.monotonic() + timeout
        while not self._try_connect():
            if self._process.poll() is not None:
                raise self._exited(self._process.returncode)
            if time.monotonic() > deadline:
                raise WaitTimeout(f"the VMM's API did not answer in {timeout:g} s", self.log)
            time.sleep(POLL)

    def _start_cold(self, workspace: Workspace, log: int) -> subprocess.Popen[bytes]:
        reader, self._lifeline = os.pipe()
        command, arguments = self._vmm, workspace.arguments(self.id)
        if command is None:  # ours knows the lifeline
            command, arguments = vmm_command(), [*lifeline(reader), *arguments]
        try:
            return subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(reader,),
                start_new_session=True,
            )
        finally:
            os.close(reader)

    def _try_connect(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.workspace.api_socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        return True

    def configure(self) -> None:
        """Send the description; :meth:`start` does it too.

        Raises:
            ApiError: the VMM refused part of it.
        """
        for method, path, body in self.spec.requests(self.vsock_path):
            self.request(method, path, body)

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the VMM where it does not run, configure it and start the guest.

        Raises:
            ApiError: the VMM refused.
            VmmExited, WaitTimeout: it did not come up.
        """
        self.launch(timeout)
        self.configure()
        self.request("PUT", "/actions", {"action_type": "InstanceStart"})

    def pause(self) -> None:
        """Stop all vCPUs between two instructions."""
        self.request("PATCH", "/vm", {"state": "Paused"})

    def resume(self) -> None:
        """Let the vCPUs run on."""
        self.request("PATCH", "/vm", {"state": "Resumed"})

    def ctrl_alt_del(self) -> None:
        """Press the three keys: most guests shut down."""
        self.request("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the VMM has ended; its exit status (0: the guest stopped by itself).

        Raises:
            WaitTimeout: it has not within ``timeout`` seconds.
        """
        if self._process is None:
            raise RuntimeError("the microVM is not started: call start() first")
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WaitTimeout(
                f"the microVM did not stop in {timeout:g} s", self._scrollback.tail()
            ) from None
        if self._console is not None:
            self._console.close()
        return status

    def stop(self, timeout: float = STOP_TIMEOUT) -> int | None:
        """End the VMM: ask by SIGTERM, insist by SIGKILL after ``timeout`` seconds.

        Returns its exit status, None if it never ran.  The guest is not asked; for that there is
        :meth:`ctrl_alt_del`, or its own console.
        """
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def close(self) -> None:
        """Stop the VMM and remove the microVM's folder."""
        self.stop()
        if self._console is not None:
            self._console.close()
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):  # input the guest never read
                        stream.close()
            if isinstance(self._process, _warm.WarmProcess):
                self._process.release()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._workspace is not None:
            self._workspace.remove()
            self._workspace = None

    @property
    def pid(self) -> int | None:
        """The VMM's process id."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The VMM's exit status, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def console(self) -> Console:
        """The serial console.

        Raises:
            RuntimeError: the VMM is not started.
        """
        if self._console is None:
            raise RuntimeError("the microVM is not started: call start() first")
        return self._console

    # --------------------------------------------------------------------- API

    def request(self, method: str, path: str, body: object = None) -> Any:
        """One API request; the JSON of its answer.

        Raises:
            ApiError: the VMM refused.
            VmmExited: it is gone.
        """
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(REQUEST_TIMEOUT)
                connection.connect(str(self.workspace.api_socket))
                connection.sendall(build_request(method, path, body))
                return checked(method, path, self._receive(connection))
        except (ConnectionError, FileNotFoundError, EOFError):
            returncode = None
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    returncode = self._process.wait(STOP_TIMEOUT)
            raise self._exited(returncode) from None

    @staticmethod
    def _receive(connection: socket.socket) -> Response:
        parser = ResponseParser()
        while data := connection.recv(65536):
            response = parser.feed(data)
            if response is not None:
                return response
        raise EOFError

    def snapshot(
        self,
        state: Snapshot | str | os.PathLike[str],
        memory: str | os.PathLike[str] | None = None,
        *,
        diff: bool = False,
    ) -> Snapshot:
        """Save the microVM into a state file and a memory file; see :class:`Snapshot`.

        A running one is paused meanwhile.  ``diff`` saves only what changed since the last one; a
        memory file of the guest's size that is there already is taken for that one, and updated.

        Raises:
            ApiError: the VMM refused; the microVM goes on.
        """
        found = Snapshot.at(state, memory)
        was_running = (self.info())["state"] == "Running"
        if was_running:
            self.pause()
        try:
            self.request("PUT", "/snapshot/create", create_request(found, diff=diff))
        finally:
            if was_running:
                self.resume()
        return found

    @classmethod
    def restore(
        cls,
        snapshot: Snapshot | str | os.PathLike[str],
        *,
        memory: str | os.PathLike[str] | None = None,
        page_server: str | os.PathLike[str] | None = None,
        resume: bool = True,
        track_dirty_pages: bool = False,
        taps: Mapping[str, str] | None = None,
        vsock: Vsock | None = None,
        clock_realtime: bool = False,
        huge_pages: str = "Snapshot",
        metadata: Any = None,
        id: str = "anonymous-instance",  # noqa: A002 (the API's own word)
        vmm: Sequence[str] | None = None,
        timeout: float = START_TIMEOUT,
    ) -> Self:
        """A microVM that goes on from a snapshot, in a VMM of its own; close it as any other.

        Args:
            snapshot: a :class:`Snapshot`, or the path of its state file.
            memory: the memory file, by default the state's path with ``.mem`` behind it.
            page_server: the socket of a page-fault handler that provides memory instead.
            resume: let the guest run at once; else it is paused.
            track_dirty_pages: log written pages, so that diffs are small.
            taps: another tap for interfaces, by their id.
            vsock: another socket for the vsock device: its ``path``, or one in the new folder.
            clock_realtime: have the guest's clock catch up with the host's.
            huge_pages: ``"None"``, ``"Transparent"``, ``"2M"``, or as they were.
            metadata: JSON for the metadata service, whose contents are in no snapshot.
            id, vmm: as for a new microVM.

        Raises:
            ApiError: the VMM refused: something is missing, damaged, or not for this host.
            VmmExited, WaitTimeout: the VMM did not come up.
        """
        microvm = cls("", vsock=vsock, entropy=False, id=id, vmm=vmm)
        try:
            microvm.launch(timeout)
            if metadata is not None:
                microvm.request("PUT", "/mmds", metadata)
            body = load_request(
                Snapshot.at(snapshot, memory),
                page_server=page_server,
                resume=resume,
                track_dirty_pages=track_dirty_pages,
                taps=taps,
                vsock_path=None if vsock is None else microvm.vsock_path,
                clock_realtime=clock_realtime,
                huge_pages=huge_pages,
            )
            microvm.request("PUT", "/snapshot/load", body)
        except BaseException:
            microvm.close()
            raise
        return microvm

    def fork(self, clones: int | Sequence[Clone] = 1, *, resume: bool = True) -> list[Self]:
        """Copies of this microVM as it is now, each in a process of its own; close them as any.

        It runs on as it did. The copies share its memory until either writes, and have the sockets
        of their own folders. A running source with a drive that can be written needs a file for
        each clone (:class:`Clone`); a paused one stays paused as long as clones read its drives.

        Args:
            clones: how many, or one :class:`Clone` for each.
            resume: let the copies run at once.

        Raises:
            ApiError: the VMM refused; there is no copy, and this one goes on.
        """
        births = Births(self, clones, resume=resume)
        try:
            answer = self.request("PUT", "/branch", births.body)
            for copy, process, stdin, stdout in births.born(answer):
                copy._process = _warm.WarmProcess(process, stdin, stdout)
                copy._console = Console(copy._process, copy._scrollback)
        except BaseException:
            births.abandon()
            for copy in births.copies:
                copy.close()
            raise
        return births.copies

    def info(self) -> dict[str, Any]:
        """The VMM's own account: id, state, version."""
        answer: dict[str, Any] = self.request("GET", "/")
        return answer

    def config(self) -> dict[str, Any]:
        """The whole configuration, as a config file would have it."""
        answer: dict[str, Any] = self.request("GET", "/vm/config")
        return answer

    def metrics(self) -> dict[str, Any]:
        """Fresh metrics; counters count since the last time they were written."""
        self.request("PUT", "/actions", {"action_type": "FlushMetrics"})
        return self._metrics()

    def set_balloon(self, amount_mib: int) -> None:
        """Ask the guest for ``amount_mib`` of its memory."""
        self.request("PATCH", "/balloon", {"amount_mib": amount_mib})

    def balloon_statistics(self) -> dict[str, Any]:
        """What the guest says of its memory; needs a statistics interval."""
        answer: dict[str, Any] = self.request("GET", "/balloon/statistics")
        return answer

    def set_hotplugged_memory(self, requested_mib: int) -> None:
        """Give the guest this much of its hotplug memory."""
        self.request("PATCH", "/hotplug/memory", {"requested_size_mib": requested_mib})

    def set_drive(
        self,
        drive_id: str,
        *,
        path: str | os.PathLike[str] | None = None,
        rate_limiter: dict[str, Any] | None = None,
    ) -> None:
        """Exchange a live drive's file, or its limits."""
        body = drive_update(drive_id, path, rate_limiter)
        self.request("PATCH", f"/drives/{drive_id}", body)

    def connect_vsock(self, port: int, timeout: float = 10.0) -> socket.socket:
        """A stream to ``port`` in the guest, over vsock.

        Raises:
            MicroVMError: nobody listens there.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(self.vsock_path)
            connection.sendall(f"CONNECT {port}\n".encode())
            answer = b""
            while not answer.endswith(b"\n"):
                byte = connection.recv(1)
                if not byte:
                    raise MicroVMError(f"vsock port {port} of the guest refused the connection")
                answer += byte
        except BaseException:
            connection.close()
            raise
        connection.settimeout(None)
        return connection

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Paused inside the ``with`` block, running again behind it."""
        self.pause()
        try:
            yield
        finally:
            self.resume()
