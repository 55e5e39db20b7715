"""VMM processes that the launcher makes, as the clients use subprocess's and asyncio's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Protocol

from pyrovm.launcher import client, place
from pyrovm.launcher.environment import FIRECRACKER, reads
from pyrovm.sdk.errors import MicroVMError


class Launched(Protocol):
    """A process that is not our child, and how it is doing."""

    pid: int
    status: int | None

    def fileno(self) -> int:
        """Readable when there is news of it."""

    def poll(self) -> int | None:
        """How it has ended; None while it runs."""

    def wait(self, timeout: float | None) -> int | None:
        """Its status; None where it has not ended in ``timeout`` seconds."""

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there."""

    def close(self) -> None:
        """Kill it if it runs, and forget it."""


class WarmProcess:
    """What :class:`MicroVM` needs of a subprocess.Popen with pipes."""

    def __init__(self, launched: Launched, stdin: int, stdout: int) -> None:
        self._launched = launched
        self.pid = launched.pid
        self.stdin = open(stdin, "wb")  # noqa: SIM115 (closed by whoever closes the process)
        self.stdout = open(stdout, "rb", buffering=0)  # noqa: SIM115

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as is known."""
        return self._launched.status

    def poll(self) -> int | None:
        """How it has ended; None while it runs."""
        return self._launched.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Its status.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        status = self._launched.wait(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("the VMM", timeout or 0.0)
        return status

    def terminate(self) -> None:
        """SIGTERM."""
        self._launched.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._launched.send_signal(signal.SIGKILL)

    def release(self) -> None:
        """Kill it if it runs, and forget it."""
        self._launched.poll()
        self._launched.close()


class AsyncWarmProcess:
    """What :class:`AsyncMicroVM` needs of an asyncio.subprocess.Process with pipes."""

    def __init__(
        self,
        launched: Launched,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        reading: asyncio.ReadTransport,
    ) -> None:
        self._launched = launched
        self.pid = launched.pid
        self.stdin = stdin
        self.stdout = stdout
        self._reading = reading
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._watched = launched.fileno()
        self._loop.add_reader(self._watched, self._look)

    def _look(self) -> None:
        status = self._launched.poll()
        watched = self._launched.fileno()
        if status is not None or watched != self._watched:
            self._loop.remove_reader(self._watched)
            self._watched = -1
            if status is None:
                self._watched = watched
                self._loop.add_reader(watched, self._look)
            elif not self._ended.done():
                self._ended.set_result(status)

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as is known."""
        return self._launched.status

    async def wait(self) -> int:
        """Its status, when it has ended."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """SIGTERM."""
        self._launched.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._launched.send_signal(signal.SIGKILL)

    def release(self) -> None:
        """Kill it if it runs, and forget it."""
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._watched = -1
        self._reading.close()
        self._launched.close()


def start(arguments: Sequence[str], log: int) -> WarmProcess | None:
    """A VMM by the launcher, its log on ``log``; None where it is to be started without.

    Raises:
        MicroVMError: the launcher says that there shall be none.
    """
    started = _start(arguments, log)
    return None if started is None else WarmProcess(*started)


async def start_async(arguments: Sequence[str], log: int) -> AsyncWarmProcess | None:
    """As :func:`start`."""
    started = await asyncio.to_thread(_start, arguments, log)
    if started is None:
        return None
    return await connect(*started)


async def connect(launched: Launched, stdin: int, stdout: int) -> AsyncWarmProcess:
    """A process whose pipes we hold, for asyncio."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    output, our_input = os.fdopen(stdout, "rb", 0), os.fdopen(stdin, "wb", 0)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), output)
    writing, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), our_input
    )
    writer = asyncio.StreamWriter(writing, protocol, None, loop)
    return AsyncWarmProcess(launched, writer, reader, reading)


def _start(arguments: Sequence[str], log: int) -> tuple[client.Launched, int, int] | None:
    switch = place.switch()
    if switch == place.OFF:
        return None
    opened: list[int] = []
    try:
        connection = client.reach(switch)
        child_in, our_out = os.pipe()
        opened += [child_in, our_out]
        our_in, child_out = os.pipe()
        opened += [our_in, child_out]
        launched = client.Launched(
            connection,
            "firecracker",
            arguments,
            {0: child_in, 1: child_out, 2: log},
            environment={n: v for n, v in os.environ.items() if reads(FIRECRACKER, n)},
            blocked=[int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            ignored=[n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],
        )
    except client.Unavailable:  # everything can be done without it
        for fd in opened:
            os.close(fd)
        return None
    except BaseException as error:
        for fd in opened:
            os.close(fd)
        if isinstance(error, client.Failed):
            raise MicroVMError(str(error)) from None
        raise
    os.close(child_in)
    os.close(child_out)
    return launched, our_out, our_in
