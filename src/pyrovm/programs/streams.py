"""A program's three streams, given as :mod:`subprocess` takes them."""

from __future__ import annotations

import os
import subprocess
from typing import IO, Any

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
Stream = int | IO[Any] | None


def piped(
    data: object, stdin: Stream, stdout: Stream, stderr: Stream, *, capture_output: bool
) -> tuple[Stream, Stream, Stream]:
    """The streams with a pipe for ``data``, unless it is None, and for what is to be captured.

    Raises:
        ValueError: they are given as well.
    """
    if data is not None:
        if stdin is not None:
            raise ValueError("stdin and input may not both be used")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr may not be used with capture_output")
        stdout = stderr = PIPE
    return stdin, stdout, stderr


class Streams:
    """Descriptors for the program, and our ends of the pipes among them (-1: it is no pipe)."""

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        """Open what has to be opened.

        Raises:
            ValueError: standard input or output is to go where standard output goes.
            OSError: there are no descriptors left.
        """
        self._opened: list[int] = []
        self.stdin = self.stdout = self.stderr = -1
        try:
            theirs, self.stdin = self._open(stdin, 0)
            out, self.stdout = self._open(stdout, 1)
            err, self.stderr = (out, -1) if stderr == STDOUT else self._open(stderr, 2)
        except BaseException:
            self.close()
            raise
        self.theirs = theirs, out, err

    def _open(self, stream: Stream, number: int) -> tuple[int, int]:
        if stream is None:
            try:
                os.fstat(number)
            except OSError:  # closed, as in a daemon
                return self._open(DEVNULL, number)
            return number, -1
        if stream == DEVNULL:
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._opened.append(fd)
            return fd, -1
        if stream == PIPE:
            ends = os.pipe2(os.O_CLOEXEC)
            self._opened += ends
            return ends if number == 0 else ends[::-1]
        if stream == STDOUT:
            raise ValueError("STDOUT can only be given for stderr")
        return stream if isinstance(stream, int) else stream.fileno(), -1

    def release(self) -> None:
        """The program has its descriptors: keep only our ends of the pipes."""
        ours = (self.stdin, self.stdout, self.stderr)
        for fd in self._opened:
            if fd not in ours:
                os.close(fd)
        self._opened.clear()  # our ends now belong to who reads and writes them

    def close(self) -> None:
        """Where the program did not start: close all."""
        for fd in self._opened:
            os.close(fd)
        self._opened.clear()
