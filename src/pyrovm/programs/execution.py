"""One program in its VM, from the caller's side: started, served, ended, killed."""

from __future__ import annotations

import time
from socket import socket
from typing import Protocol

from pyrovm import errors
from pyrovm.errors import HostError
from pyrovm.programs import wire
from pyrovm.programs.exchange import Exchange, NotStarted
from pyrovm.programs.helper import HELPERS
from pyrovm.programs.streams import Stream, Streams

# What the VM's process may say has gone wrong; all else is a mistake of ours.
FAULTS = {
    kind.__name__: kind
    for kind in (
        errors.ConfigError,
        errors.GuestError,
        errors.HostError,
        errors.SnapshotError,
        errors.Unsupported,
    )
}


class Source(Protocol):
    """Where processes of VMs come from: the helper, or a template."""

    def open(self, streams: tuple[int, int, int]) -> socket:
        """A channel to a new one with these streams."""

    def shut(self, channel: socket) -> None:
        """Kill it, if it still runs."""

    def close(self, channel: socket) -> None:
        """Kill it and close the channel."""


class Over(Exception):
    """The VM's process has sent its report, or is gone."""


class Execution:
    """One run of a program: :meth:`run` in one thread, :meth:`kill` from any.

    Or, to talk to it meanwhile, :meth:`begin`, :meth:`meet` and :meth:`finish`, and :meth:`close`.
    ``stdout`` and ``stderr`` are what was captured, also after an error; None where nothing was.
    """

    def __init__(
        self, record: bytes, stdin: Stream, stdout: Stream, stderr: Stream, source: Source = HELPERS
    ) -> None:
        """``source`` is where the VM's process comes from."""
        self._record = record
        self._source = source
        self._streams = stdin, stdout, stderr
        self._pipes: Streams | None = None
        self._exchange: Exchange | None = None
        self._channel: socket | None = None
        self._is_killed = False
        self.stdout: bytes | None = None
        self.stderr: bytes | None = None

    def kill(self) -> None:
        """End it, now or as soon as it begins."""
        self._is_killed = True
        channel = self._channel
        if channel is not None:
            self._source.shut(channel)

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
            self.begin(data, limit)
            try:
                return Report(self._finish(deadline))
            except TimeoutError:
                self.kill()
                self._drain()
                raise
            except NotStarted:  # the helper has ended meanwhile: once more, with a new one
                if self._is_killed:
                    break
            except wire.BrokenRecord as error:
                raise _broken(error) from None
            finally:
                self.close()
        raise HostError("The VM's process has ended before it began")

    @property
    def channel(self) -> socket:
        """To its process, once it has begun."""
        assert self._channel
        return self._channel

    def begin(self, data: bytes | memoryview = b"", limit: int | None = None) -> None:
        """Have a process for it.

        Raises:
            HostError: there is none to be had.
            OSError: one of the streams is closed.
        """
        streams = Streams(*self._streams)
        try:
            channel = self._source.open(streams.theirs)
        except BaseException:
            streams.close()
            raise
        streams.release()
        self._pipes, self._channel = streams, channel
        self._exchange = exchange = Exchange(channel, self._record, limit)
        if streams.stdin >= 0:
            exchange.add_input(streams.stdin, data)
        for fd in (streams.stdout, streams.stderr):
            if fd >= 0:
                exchange.add_output(fd)
        exchange.push()
        if self._is_killed:
            self.kill()

    def meet(self, timeout: float | None) -> wire.Fields:
        """What its process has to say before the report.

        Raises:
            TimeoutError: it says nothing for ``timeout`` seconds.
            Over: it has ended; :meth:`finish` says how.
        """
        assert self._exchange
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            news = self._exchange.meet(deadline)
        except wire.BrokenRecord as error:
            raise _broken(error) from None
        finally:
            self._capture()
        if news is None:
            raise Over
        return news

    def finish(self, timeout: float | None) -> Report:
        """Serve it to its end.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds; it goes on.
            PyrovmError: it could not be run.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            return Report(self._finish(deadline))
        except NotStarted:
            raise HostError("The VM's process has ended before it began") from None
        except wire.BrokenRecord as error:
            raise _broken(error) from None

    def _finish(self, deadline: float | None) -> wire.Fields:
        assert self._exchange
        try:
            return self._exchange.run(deadline)
        finally:
            self._capture()

    def _drain(self) -> None:
        assert self._exchange
        self._exchange.drain()
        self._capture()

    def _capture(self) -> None:
        assert self._exchange
        assert self._pipes
        self.stdout = _captured(self._exchange, self._pipes.stdout)
        self.stderr = _captured(self._exchange, self._pipes.stderr)

    def close(self) -> None:
        """Give back what is open; a program that still runs is killed."""
        channel, self._channel = self._channel, None
        if self._exchange:
            self._exchange.close()
        if channel is not None:
            self._source.close(channel)


def _broken(error: wire.BrokenRecord) -> HostError:
    return HostError(f"The VM's process has ended without a report: {error}")


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
