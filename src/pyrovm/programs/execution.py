"""One program in its VM, from the caller's side: started, served, ended, killed."""

from __future__ import annotations

import time
from socket import socket

from pyrovm import errors
from pyrovm.errors import HostError
from pyrovm.programs import wire
from pyrovm.programs.exchange import Exchange, NotStarted
from pyrovm.programs.helper import HELPERS
from pyrovm.programs.streams import Stream, Streams

# What the VM's process may say has gone wrong; all else is a mistake of ours.
FAULTS = {
    kind.__name__: kind
    for kind in (errors.ConfigError, errors.GuestError, errors.HostError, errors.Unsupported)
}


class Execution:
    """One run of a program: :meth:`run` in one thread, :meth:`kill` from any.

    ``stdout`` and ``stderr`` are what was captured, also after an error; None where nothing was.
    """

    def __init__(self, record: bytes, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self._record = record
        self._streams = stdin, stdout, stderr
        self._channel: socket | None = None
        self._is_killed = False
        self.stdout: bytes | None = None
        self.stderr: bytes | None = None

    def kill(self) -> None:
        """End it, now or as soon as it begins."""
        self._is_killed = True
        channel = self._channel
        if channel is not None:
            HELPERS.shut(channel)

    def run(
        self,
        data: bytes | memoryview = b"",
        timeout: float | None = None,
        limit: int | None = None,
    ) -> Report:
        """Run it to its end, with ``data`` as its input where that is a pipe.

        Raises:
            TimeoutError: killed, because it took longer than ``timeout`` seconds.
            TooLong: killed, because an output became longer than ``limit`` bytes.
            PyrovmError: it could not be run.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in range(2):
            try:
                return Report(self._once(data, deadline, limit))
            except NotStarted:  # the helper has ended meanwhile: once more, with a new one
                if self._is_killed:
                    break
            except wire.BrokenRecord as error:
                raise HostError(f"The VM's process has ended without a report: {error}") from None
        raise HostError("The VM's process has ended before it began")

    def _once(
        self, data: bytes | memoryview, deadline: float | None, limit: int | None
    ) -> wire.Fields:
        streams = Streams(*self._streams)
        try:
            channel = HELPERS.open(streams.theirs)
        except BaseException:
            streams.close()
            raise
        streams.release()
        exchange = Exchange(channel, self._record, limit)
        try:
            if streams.stdin >= 0:
                exchange.add_input(streams.stdin, data)
            for fd in (streams.stdout, streams.stderr):
                if fd >= 0:
                    exchange.add_output(fd)
            self._channel = channel
            if self._is_killed:
                self.kill()
            try:
                return exchange.run(deadline)
            except TimeoutError:
                HELPERS.shut(channel)
                exchange.drain()
                raise
            finally:
                self.stdout = _captured(exchange, streams.stdout)
                self.stderr = _captured(exchange, streams.stderr)
        finally:
            self._channel = None
            exchange.close()
            HELPERS.close(channel)


def _captured(exchange: Exchange, fd: int) -> bytes | None:
    return bytes(exchange.outputs[fd]) if fd >= 0 else None


class Report:
    """How a program has ended: ``returncode`` as :mod:`subprocess` has it (-N: by signal N)."""

    def __init__(self, fields: wire.Fields) -> None:
        """Read a report.

        Raises:
            PyrovmError: the program could not be run.
            BrokenRecord: it is none.
        """
        try:
            self._read(fields)
        except (KeyError, ValueError) as error:
            raise wire.BrokenRecord(f"a report without a good {error}") from None

    def _read(self, fields: wire.Fields) -> None:
        if "error" in fields:
            raise FAULTS.get(fields["error"][0], HostError)(fields["message"][0])
        if panic := fields["panic"][0]:
            raise HostError(f"The library OS has failed: {panic}")
        status, number, self.exits, build_ns, run_ns = (
            int(fields[name][0]) for name in ("status", "signal", "exits", "build_ns", "run_ns")
        )
        self.returncode = -number if number else status
        self.build_ms, self.run_ms = build_ns / 1e6, run_ns / 1e6
