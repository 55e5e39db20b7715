"""When a program is ready to be branched: it says so, writes a line, or listens at a port."""

from __future__ import annotations

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.outside import Outside

LINE_MAX = 4096
AT_ONCE = "at once"  # of a VM that was saved when it was ready
FORMS = "call, line:TEXT or port:NUMBER"


class Readiness:
    """One of ``call`` (the program writes "ready" to /dev/pyrovm), ``line:TEXT`` (it writes TEXT to
    standard output or error) and ``port:N`` (it listens at that TCP port of its own)."""

    def __init__(self, text: str) -> None:
        """Parse it.

        Raises:
            ConfigError: it is none of them.
        """
        self._kind, _, value = text.partition(":")
        self._line, self._port = b"", 0
        if self._kind == "line" and value and "\n" not in value:
            self._line = value.encode()
            if len(self._line) > LINE_MAX:
                raise ConfigError(
                    f"ready: a text of {len(self._line)} bytes; {LINE_MAX} are allowed"
                )
        elif self._kind == "port" and value.isascii() and value.isdigit() and len(value) < 6:
            self._port = int(value)
        elif text not in ("call", AT_ONCE):
            raise ConfigError(f"ready: {text!r} given; {FORMS} is needed")
        if self._kind == "port" and not 0 < self._port < 65536:
            raise ConfigError(f"ready: {text!r} given; ports are 1 to 65535")
        self._is_over = False

    def watch(self, calls: Calls, outside: Outside) -> None:
        """Have the VM paused when it is so; once."""

        def pause(*_: int) -> int:
            if not self._is_over:
                self._is_over = True
                calls.waiting.ask_pause()
            return 0

        if self._kind == AT_ONCE:
            pause()
        elif self._kind == "call":
            calls.handlers[abi.PV_READY] = pause
        elif self._kind == "port":
            outside.listens = lambda port: pause() if port == self._port else 0
        else:
            self._watch_output(calls, pause)

    def _watch_output(self, calls: Calls, found: Callable[[], object]) -> None:
        write, line = calls.handlers[abi.PV_WRITE], self._line
        before = {abi.PV_STDOUT: b"", abi.PV_STDERR: b""}  # what the text may begin with

        def watching(handle: int, gpa: int, count: int, offset: int, e: int, f: int) -> int:
            result = write(handle, gpa, count, offset, e, f)
            if handle in before and result > 0:
                written = b"".join(calls.pieces(gpa, count, write=False))[:result]
                text = before[handle] + written
                if line in text:
                    calls.handlers[abi.PV_WRITE] = write
                    found()
                before[handle] = text[max(len(text) - len(line) + 1, 0) :]
            return result

        calls.handlers[abi.PV_WRITE] = watching
