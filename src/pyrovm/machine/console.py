"""The host's side of the serial port: where its bytes go, and where they come from.

Input is taken only as fast as the guest reads it: with a full FIFO the descriptor is muted until
the guest has made room, so a pipe that feeds the console is never read into memory.
"""

from __future__ import annotations

import os

from pyrovm.devices.serial import DATA
from pyrovm.host import signals
from pyrovm.machine.loop import EPOLLIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from pyrovm.devices.rate_limiter import TokenBucket
    from pyrovm.devices.serial import Serial
    from pyrovm.machine.loop import EventLoop


class SerialOutput:
    """Takes the guest's bytes: a non-blocking descriptor, where what does not fit is lost.

    They go out by lines, since every byte is an exit of its own and a system call for each would
    double its cost; what is no line goes out after ``HOLD`` seconds, for which ``later`` is asked
    to call :meth:`flush_late`.  ``bucket`` drops what exceeds a rate and tells ``on_dropped`` how
    many bytes; ``output_filter`` decides what passes of the rest; ``on_lost`` hears how many the
    descriptor did not take.  All under the serial port's lock, mostly by vCPU threads.
    """

    HOLD = 0.004
    LONGEST = 256  # bytes held back
    ENDS = b"\n\a"  # of a line, and of the signs that "pyrovm run" watches for

    def __init__(
        self,
        fd: int,
        *,
        bucket: TokenBucket | None = None,
        output_filter: Callable[[bytes], bytes] | None = None,
        owned: bool = False,
    ) -> None:
        self._fd = fd
        self._owned = owned
        self._bucket = bucket
        self._filter = output_filter
        self.held = bytearray()
        self.is_asked = False
        self.on_dropped: Callable[[int], object] | None = None
        self.on_lost: Callable[[int], object] | None = None
        self.later: Callable[[], object] | None = None  # None: every byte at once

    def __call__(self, data: bytes) -> bool:
        """Pass bytes on.  hot: per byte of output."""
        if self._bucket is not None and self._bucket.reduce(len(data)) is None:
            if self.on_dropped is not None:
                self.on_dropped(len(data))
            return True
        held = self.held
        held += data
        if (data and data in self.ENDS) or self.later is None or len(held) >= self.LONGEST:
            self.flush()
        elif not self.is_asked:
            self.is_asked = True
            self.later()
        return True

    def flush_late(self) -> None:
        """Write what ``later`` was asked for."""
        self.is_asked = False
        self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        held = self.held
        data = bytes(held)
        del held[: len(data)]  # quick_sender() may have added to it meanwhile
        if self._filter is not None and data:
            data = self._filter(data)
        if not data:
            return
        try:
            lost = len(data) - os.write(self._fd, data)
        except OSError:  # a full pipe, a reader that is gone: the guest must not wait for it
            lost = len(data)
        if lost and self.on_lost is not None:
            self.on_lost(lost)

    def close(self) -> None:
        self.flush()
        if self._owned and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def quick_sender(serial: Serial, output: SerialOutput, lock: LockType) -> Callable[[int], None]:
    """What a vCPU calls for each byte of output.  hot: per byte.

    Bytes within a line are only put aside, without the lock: appending is one step for the
    interpreter.  They are seen by the flush that has been asked for, since that one says so
    (``is_asked``) before it looks.
    """
    held, counters = output.held, serial.counters
    longest, ends = output.LONGEST, frozenset(output.ENDS)

    def send(value: int) -> None:
        if serial.is_plain and value not in ends:
            held.append(value)
            counters.write_count += 1
            if output.is_asked and len(held) < longest:
                return
            with lock:
                output(b"")
            return
        with lock:
            serial.write(DATA, 1, value)

    return send


class SerialInput:
    """Feeds the serial port from a descriptor, as the guest reads.

    ``input_filter`` sees the bytes first and returns what the guest shall get (an interactive
    console looks for its escape there); ``on_end`` is called at the end of the input.
    """

    CHUNK = 64

    def __init__(
        self,
        loop: EventLoop,
        fd: int,
        serial: Serial,
        lock: LockType,
        *,
        input_filter: Callable[[bytes], bytes] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._serial = serial
        self._lock = lock
        self._filter = input_filter
        self._on_end = on_end
        self._waiting = b""
        self._open = True
        try:
            loop.watch(fd, self._readable)
        except PermissionError:  # a regular file or /dev/null is always ready: read it at once
            loop.post(lambda: self._readable(EPOLLIN))

    def _readable(self, _events: int) -> None:
        try:
            data = os.read(self._fd, self.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that hung up (EIO) has ended
        if not data:
            self._ended()
            return
        self._waiting += data if self._filter is None else self._filter(data)
        self._push()

    def _ended(self) -> None:
        self._open = False
        self._loop.unwatch(self._fd)
        if self._on_end is not None:
            self._on_end()

    def _push(self) -> None:
        with self._lock:
            taken = self._serial.enqueue(self._waiting) if self._waiting else 0
        self._waiting = self._waiting[taken:]
        if self._open:
            try:
                self._loop.modify(self._fd, 0 if self._waiting else EPOLLIN)
            except KeyError:  # a regular file: there is always more until its end
                if not self._waiting:
                    self._loop.post(lambda: self._readable(EPOLLIN))

    def on_room(self) -> None:
        """The guest has read some: from a vCPU thread, so the rest happens in the loop."""
        if self._waiting:
            self._loop.post(self._push)

    def close(self) -> None:
        """Stop reading; the descriptor stays open, it is not ours."""
        if self._open:
            self._open = False
            self._loop.unwatch(self._fd)


class RawTerminal:
    """Puts a terminal into raw mode and back again; harmless on anything else.

    A VMM killed by SIGTERM, SIGHUP or SIGINT leaves a usable terminal too: :meth:`enter` installs
    handlers that restore it and then let the signal do its work.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    def enter(self, *, keep_signals: bool = False) -> None:
        """Raw mode: every key goes to the guest, also Ctrl-C unless ``keep_signals``."""
        if not os.isatty(self._fd):
            return
        import termios

        saved = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        if not keep_signals:
            mode[3] &= ~termios.ISIG
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        self._saved = saved

    def restore(self) -> None:
        """The mode from before :meth:`enter`."""
        if self._saved is not None:
            import termios

            saved, self._saved = self._saved, None
            termios.tcsetattr(self._fd, termios.TCSANOW, saved)  # type: ignore[arg-type]

    def restore_on_signals(self) -> None:
        """Restore before a signal ends the process; from the main thread."""

        def handler(number: int, _frame: object) -> None:
            self.restore()
            signals.default(number)
            os.kill(os.getpid(), number)

        for number in (signals.SIGTERM, signals.SIGHUP, signals.SIGINT):
            signals.handle(number, handler)
