"""Talking to a program in its VM: request, input, output and report, all at once."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from socket import socket

from pyrovm.programs import wire

PIECE = 1 << 18  # bytes moved at once
REPORTS = {"status", "error"}  # one of them is in each report
DRAIN_S = 5.0  # for what a killed program has left in its pipes


class NotStarted(Exception):
    """The VM's process has never begun: the request can be made again."""


class TooLong(Exception):
    """The program has written more than it may."""


class Exchange:
    """One program's channel and pipes, watched by one thread until all have been served."""

    def __init__(self, channel: socket, record: bytes, limit: int | None = None) -> None:
        """Begin to send ``record``; ``limit`` is how many bytes each output may have."""
        self._channel = channel
        self._limit = limit
        self._poll = select.poll()
        self._serve: dict[int, Callable[[int], None]] = {}
        self._to_write: dict[int, memoryview] = {}
        self.outputs: dict[int, bytearray] = {}
        self._request = memoryview(record)
        self._reply = bytearray()
        self._has_begun = self._has_ended = False
        self.news: wire.Fields | None = None  # what came before the report, if anything
        self._report: wire.Fields | None = None
        channel.setblocking(False)
        self._watch(channel.fileno(), select.POLLIN | select.POLLOUT, self._talk)

    def add_input(self, fd: int, data: bytes | memoryview) -> None:
        """Write ``data`` to this pipe, and close it."""
        os.set_blocking(fd, False)
        self._to_write[fd] = memoryview(data).cast("B")
        self._watch(fd, select.POLLOUT, self._write)

    def add_output(self, fd: int) -> None:
        """Read this pipe to its end into ``outputs``, and close it."""
        self.outputs[fd] = bytearray()
        self._watch(fd, select.POLLIN, self._read)

    def run(self, deadline: float | None) -> wire.Fields:
        """Serve all until they have ended; the report.  ``deadline`` is of ``time.monotonic``.

        Raises:
            TimeoutError: the deadline has passed.
            NotStarted: there is no VM.
            TooLong: an output is longer than it may be.
            BrokenRecord: the VM's process has ended without a report.
        """
        while not (self._has_ended and self._outputs_ended()):
            self._turn(deadline)
        if not self._has_begun:
            raise NotStarted
        if self._report is None:
            raise wire.BrokenRecord("was it killed?")
        return self._report

    def meet(self, deadline: float | None) -> wire.Fields | None:
        """Serve all until the VM's process sends ``news``; None where it has ended without.

        Raises:
            TimeoutError: the deadline has passed.
            TooLong, BrokenRecord: as :meth:`run`.
        """
        while self.news is None and not self._has_ended:
            self._turn(deadline)
        return self.news

    def drain(self) -> None:
        """After the end of the VM: read what is left in the pipes."""
        self._forget(self._channel.fileno())
        deadline = time.monotonic() + DRAIN_S
        try:
            while not self._outputs_ended():
                self._turn(deadline)
        except TimeoutError:  # somebody else holds the other end
            pass

    def close(self) -> None:
        """Close the pipes that are still open; the channel is its owner's."""
        for fd in list(self._serve):
            if fd != self._channel.fileno():
                self._end(fd)

    # ---------------------------------------------------------------------------------- inside

    def _watch(self, fd: int, events: int, serve: Callable[[int], None]) -> None:
        self._serve[fd] = serve
        self._poll.register(fd, events)

    def _forget(self, fd: int) -> None:
        if self._serve.pop(fd, None):
            self._poll.unregister(fd)

    def _end(self, fd: int) -> None:
        self._forget(fd)
        self._to_write.pop(fd, None)
        os.close(fd)

    def _outputs_ended(self) -> bool:
        return not any(fd in self._serve for fd in self.outputs)

    def _turn(self, deadline: float | None) -> None:
        timeout = None
        if deadline is not None:
            timeout = (deadline - time.monotonic()) * 1000
            if timeout <= 0:
                raise TimeoutError
        for fd, _ in self._poll.poll(timeout):
            self._serve[fd](fd)

    def _write(self, fd: int) -> None:
        data = self._to_write[fd]
        try:
            data = data[os.write(fd, data[:PIECE]) :] if data else data
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program does not read it all
            data = data[:0]
        self._to_write[fd] = data
        if not data:
            self._end(fd)

    def _read(self, fd: int) -> None:
        data = os.read(fd, PIECE)
        output = self.outputs[fd]
        output += data
        if not data:
            self._end(fd)
        elif self._limit is not None and len(output) > self._limit:
            raise TooLong(f"more than {self._limit} bytes of output")

    def push(self) -> None:
        """Send of the request what goes at once: the program begins though nobody serves it yet."""
        try:
            self._send_request()
        except (BlockingIOError, ConnectionError):  # it is seen again when it is served
            pass

    def _send_request(self) -> None:
        if self._request:
            self._request = self._request[self._channel.send(self._request) :]
        if not self._request:
            self._poll.modify(self._channel.fileno(), select.POLLIN)

    def _talk(self, fd: int) -> None:
        try:
            self._send_request()
            data = self._channel.recv(PIECE)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self._reply += data
        self._take_records()
        if not data or self._report is not None:
            self._has_ended = True
            self._forget(fd)

    def _take_records(self) -> None:
        reply = self._reply
        if reply and not self._has_begun:
            if reply[:1] != wire.STARTED:
                raise wire.BrokenRecord(f"it begins with {bytes(reply[:1])!r}")
            self._has_begun = True
            del reply[:1]
        while len(reply) >= wire.LENGTH_SIZE and self._report is None:
            end = wire.LENGTH_SIZE + wire.length(bytes(reply[: wire.LENGTH_SIZE]))
            if len(reply) < end:
                return
            fields = wire.decode(bytes(reply[wire.LENGTH_SIZE : end]))
            del reply[:end]
            if self.news is None and not REPORTS & fields.keys():
                self.news = fields
            else:
                self._report = fields
