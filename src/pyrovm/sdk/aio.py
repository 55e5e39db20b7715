"""A microVM from Python, for asyncio: the same calls as :class:`MicroVM`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from pyrovm.sdk import _warm
from pyrovm.sdk._base import POLL, START_TIMEOUT, STOP_TIMEOUT, MicroVMBase, checked, drive_update
from pyrovm.sdk._process import Workspace, lifeline, vmm_command
from pyrovm.sdk.clones import Births, Clone
from pyrovm.sdk.errors import MicroVMError, WaitTimeout
from pyrovm.sdk.http1 import ResponseParser, build_request
from pyrovm.sdk.scrollback import Scrollback
from pyrovm.sdk.snapshots import Snapshot, create_request, load_request
from pyrovm.sdk.spec import Vsock

REQUEST_TIMEOUT = 60.0
Process = asyncio.subprocess.Process | _warm.AsyncWarmProcess


class AsyncConsole:
    """The serial console: what the guest printed so far, and what it shall read."""

    def __init__(self, process: Process, scrollback: Scrollback) -> None:
        self._process = process
        self._scrollback = scrollback
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65536):
            async with self._changed:
                self._scrollback.feed(data)
                self._changed.notify_all()
        async with self._changed:
            self._scrollback.ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All output so far."""
        return self._scrollback.text()

    async def write(self, data: str | bytes) -> None:
        """Type into the console."""
        assert self._process.stdin is not None
        self._process.stdin.write(data.encode() if isinstance(data, str) else data)
        await self._process.stdin.drain()

    async def wait_for(self, wanted: str | re.Pattern[str], timeout: float = 30.0) -> str:
        """Wait until the guest prints ``wanted`` (behind the last match); the text up to it.

        Raises:
            WaitTimeout: it did not within ``timeout`` seconds, or the console ended before.
        """
        found: str | None = None

        def settled() -> bool:
            nonlocal found
            found = self._scrollback.search(wanted)
            return found is not None or self._scrollback.ended

        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(settled)
        except TimeoutError:
            pass
        if found is None:
            shown = wanted if isinstance(wanted, str) else wanted.pattern
            raise WaitTimeout(f"waited for {shown!r} on the console", self._scrollback.tail())
        return found

    async def close(self) -> None:
        """Stop collecting; call when the VMM has ended."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class AsyncMicroVM(MicroVMBase):
    """One microVM, one VMM process, in an asyncio program."""

    _process: Process | None = None
    _console: AsyncConsole | None = None
    _lifeline: int = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -------------------------------------------------------------- life cycle

    async def launch(self, timeout: float = START_TIMEOUT) -> None:
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
                    words = workspace.arguments(self.id)
                    self._process = await _warm.start_async(words, log.fileno())
                if self._process is None:
                    self._process = await self._start_cold(workspace, log.fileno())
        except BaseException:
            await self.close()
            raise
        self._console = AsyncConsole(self._process, self._scrollback)
        try:
            async with asyncio.timeout(timeout):
                while not await self._try_connect():
                    if self._process.returncode is not None:
                        raise self._exited(self._process.returncode)
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise WaitTimeout(f"the VMM's API did not answer in {timeout:g} s", self.log) from None

    async def _start_cold(self, workspace: Workspace, log: int) -> asyncio.subprocess.Process:
        reader, self._lifeline = os.pipe()
        command, arguments = self._vmm, workspace.arguments(self.id)
        if command is None:  # ours knows the lifeline
            command, arguments = vmm_command(), [*lifeline(reader), *arguments]
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=(reader,),
                start_new_session=True,
            )
        finally:
            os.close(reader)

    async def _try_connect(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.workspace.api_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def configure(self) -> None:
        """Send the description; :meth:`start` does it too.

        Raises:
            ApiError: the VMM refused part of it.
        """
        for method, path, body in self.spec.requests(self.vsock_path):
            await self.request(method, path, body)

    async def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the VMM where it does not run, configure it and start the guest.

        Raises:
            ApiError: the VMM refused.
            VmmExited, WaitTimeout: it did not come up.
        """
        await self.launch(timeout)
        await self.configure()
        await self.request("PUT", "/actions", {"action_type": "InstanceStart"})

    async def pause(self) -> None:
        """Stop all vCPUs between two instructions."""
        await self.request("PATCH", "/vm", {"state": "Paused"})

    async def resume(self) -> None:
        """Let the vCPUs run on."""
        await self.request("PATCH", "/vm", {"state": "Resumed"})

    async def ctrl_alt_del(self) -> None:
        """Press the three keys: most guests shut down."""
        await self.request("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until the VMM has ended; its exit status (0: the guest stopped by itself).

        Raises:
            WaitTimeout: it has not within ``timeout`` seconds.
        """
        if self._process is None:
            raise RuntimeError("the microVM is not started: call start() first")
        try:
            async with asyncio.timeout(timeout):
                return await self._process.wait()
        except TimeoutError:
            raise WaitTimeout(
                f"the microVM did not stop in {timeout:g} s", self._scrollback.tail()
            ) from None

    async def stop(self, timeout: float = STOP_TIMEOUT) -> int | None:
        """End the VMM: ask by SIGTERM, insist by SIGKILL after ``timeout`` seconds."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(timeout):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode

    async def close(self) -> None:
        """Stop the VMM and remove the microVM's folder."""
        await self.stop()
        if self._console is not None:
            await self._console.close()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):  # input the guest never read
                await self._process.stdin.wait_closed()
        if isinstance(self._process, _warm.AsyncWarmProcess):
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
        return None if self._process is None else self._process.returncode

    @property
    def console(self) -> AsyncConsole:
        """The serial console.

        Raises:
            RuntimeError: the VMM is not started.
        """
        if self._console is None:
            raise RuntimeError("the microVM is not started: call start() first")
        return self._console

    # --------------------------------------------------------------------- API

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """One API request; the JSON of its answer.

        Raises:
            ApiError: the VMM refused.
            VmmExited: it is gone.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                reader, writer = await asyncio.open_unix_connection(str(self.workspace.api_socket))
                try:
                    writer.write(build_request(method, path, body))
                    await writer.drain()
                    parser = ResponseParser()
                    while data := await reader.read(65536):
                        response = parser.feed(data)
                        if response is not None:
                            return checked(method, path, response)
                    raise EOFError
                finally:
                    writer.close()
        except (ConnectionError, FileNotFoundError, EOFError):
            returncode = None
            if self._process is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_TIMEOUT):
                        returncode = await self._process.wait()
            raise self._exited(returncode) from None

    async def snapshot(
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
        was_running = (await self.info())["state"] == "Running"
        if was_running:
            await self.pause()
        try:
            await self.request("PUT", "/snapshot/create", create_request(found, diff=diff))
        finally:
            if was_running:
                await self.resume()
        return found

    @classmethod
    async def restore(
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
            await microvm.launch(timeout)
            if metadata is not None:
                await microvm.request("PUT", "/mmds", metadata)
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
            await microvm.request("PUT", "/snapshot/load", body)
        except BaseException:
            await microvm.close()
            raise
        return microvm

    async def fork(self, clones: int | Sequence[Clone] = 1, *, resume: bool = True) -> list[Self]:
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
            answer = await self.request("PUT", "/branch", births.body)
            for copy, process, stdin, stdout in births.born(answer):
                copy._process = await _warm.connect(process, stdin, stdout)
                copy._console = AsyncConsole(copy._process, copy._scrollback)
        except BaseException:
            births.abandon()
            for copy in births.copies:
                await copy.close()
            raise
        return births.copies

    async def info(self) -> dict[str, Any]:
        """The VMM's own account: id, state, version."""
        answer: dict[str, Any] = await self.request("GET", "/")
        return answer

    async def config(self) -> dict[str, Any]:
        """The whole configuration, as a config file would have it."""
        answer: dict[str, Any] = await self.request("GET", "/vm/config")
        return answer

    async def metrics(self) -> dict[str, Any]:
        """Fresh metrics; counters count since the last time they were written."""
        await self.request("PUT", "/actions", {"action_type": "FlushMetrics"})
        return self._metrics()

    async def set_balloon(self, amount_mib: int) -> None:
        """Ask the guest for ``amount_mib`` of its memory."""
        await self.request("PATCH", "/balloon", {"amount_mib": amount_mib})

    async def balloon_statistics(self) -> dict[str, Any]:
        """What the guest says of its memory; needs a statistics interval."""
        answer: dict[str, Any] = await self.request("GET", "/balloon/statistics")
        return answer

    async def set_hotplugged_memory(self, requested_mib: int) -> None:
        """Give the guest this much of its hotplug memory."""
        await self.request("PATCH", "/hotplug/memory", {"requested_size_mib": requested_mib})

    async def set_drive(
        self,
        drive_id: str,
        *,
        path: str | os.PathLike[str] | None = None,
        rate_limiter: dict[str, Any] | None = None,
    ) -> None:
        """Exchange a live drive's file, or its limits."""
        body = drive_update(drive_id, path, rate_limiter)
        await self.request("PATCH", f"/drives/{drive_id}", body)

    async def connect_vsock(
        self, port: int, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream to ``port`` in the guest, over vsock.

        Raises:
            MicroVMError: nobody listens there.
        """
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(self.vsock_path)
            writer.write(f"CONNECT {port}\n".encode())
            answer = await reader.readline()
        if not answer.endswith(b"\n"):
            writer.close()
            raise MicroVMError(f"vsock port {port} of the guest refused the connection")
        return reader, writer

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Paused inside the ``async with`` block, running again behind it."""
        await self.pause()
        try:
            yield
        finally:
            await self.resume()
