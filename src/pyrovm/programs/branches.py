"""The branches of a template, and where their processes come from."""

from __future__ import annotations

import array
import socket
import subprocess
import time
from errno import ETOOMANYREFS
from typing import TYPE_CHECKING

from pyrovm.errors import HostError, PyrovmError
from pyrovm.programs import plan, wire
from pyrovm.programs.execution import Execution, Over
from pyrovm.programs.helper import HELPERS
from pyrovm.programs.running import CompletedProgram
from pyrovm.programs.streams import piped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.programs.plan import Word
    from pyrovm.programs.streams import Stream
    from pyrovm.programs.text import Text

BUSY_S = 0.001


class Forks:
    """Branches' processes, from that of a template; safe for threads."""

    def __init__(self, template: socket.socket) -> None:
        """``template`` is the channel to it."""
        self._template = template
        self._template.setblocking(True)

    def open(self, streams: tuple[int, int, int]) -> socket.socket:
        """A channel to a new one.

        Raises:
            HostError: the template is gone.
            OSError: a stream is closed, or there are no descriptors left.
        """
        if self._template.fileno() < 0:
            raise HostError("The template has ended")
        channel, theirs = socket.socketpair()
        try:
            with theirs:
                fds = array.array("i", [theirs.fileno(), *streams])
                self._send([(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except ConnectionError:
            channel.close()
            raise HostError("The template has ended") from None
        except BaseException:
            channel.close()
            raise
        HELPERS.adopt(channel)
        return channel

    def _send(self, rights: list[tuple[int, int, array.array[int]]]) -> None:
        while True:
            try:
                self._template.sendmsg([wire.PASS], rights)
            except OSError as error:
                if error.errno != ETOOMANYREFS:
                    raise
                time.sleep(BUSY_S)  # more descriptors on their way than a user may have
            else:
                return

    def shut(self, channel: socket.socket) -> None:
        """Kill a branch."""
        HELPERS.shut(channel)

    def close(self, channel: socket.socket) -> None:
        """Close the channel to a branch; if it still runs, it is killed."""
        HELPERS.close(channel)


class Branch:
    """A program that goes on from where its template was; as a context manager it is killed at the
    end, if it still runs."""

    def __init__(self, arguments: list[str], execution: Execution, text: Text) -> None:
        self.args = arguments
        self._execution = execution
        self._text = text
        self._done: CompletedProgram | None = None
        self._news: wire.Fields | None = None

    def begin(self, data: bytes) -> None:
        """Have it made, with ``data`` as its input.

        Raises:
            HostError: there can be no more.
        """
        try:
            self._execution.begin(data)
        except OSError as error:
            if isinstance(error, PyrovmError):
                raise
            raise HostError.wrap("A branch cannot be made", error) from None

    def __enter__(self) -> Branch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _told(self) -> wire.Fields:
        if self._news is None:
            try:
                self._news = self._execution.meet(None)
            except Over:  # why, wait() says
                self.wait()
                raise HostError("The branch has ended before it began") from None
        return self._news

    @property
    def generation(self) -> int:
        """The number that tells this VM from all others, as /dev/pyrovm says it inside."""
        return int(self._told()["generation"][0])

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Where the ports that it listens at are on the host: {"80/tcp": ("127.0.0.1", 41234)}.

        Those that it opens later are where ``publish`` says.
        """
        found = {}
        for text in self._told().get("published", ()):
            protocol, port, address, host_port = text.split(" ")
            found[f"{port}/{protocol}"] = address, int(host_port)
        return found

    def wait(self, timeout: float | None = None) -> CompletedProgram:
        """Give it its input, take its output, and wait for its end.

        Raises:
            TimeoutExpired: of ``subprocess``, with what was captured; it goes on.
            HostError: it could not be made; says why.
        """
        if self._done is not None:
            return self._done
        execution = self._execution
        try:
            report = execution.finish(timeout)
        except TimeoutError:
            assert timeout is not None
            raise subprocess.TimeoutExpired(
                self.args, timeout, execution.stdout, execution.stderr
            ) from None
        except PyrovmError:
            self.close()
            raise
        self._done = done = CompletedProgram(
            self.args,
            report.returncode,
            self._text.decoded(execution.stdout),
            self._text.decoded(execution.stderr),
        )
        done.build_ms, done.run_ms = report.build_ms, report.run_ms
        execution.close()
        return done

    def kill(self) -> None:
        """End it now; from any thread."""
        self._execution.kill()

    def close(self) -> None:
        """End it and give back what is open."""
        self._execution.close()


def make_branch(
    source: Forks,
    arguments: Sequence[Word],
    publish: Iterable[str],
    data: bytes | str | None,
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    *,
    capture_output: bool,
    words: Text,
) -> Branch:
    """A branch from ``source``, as :meth:`Template.fork` is asked for it."""
    stdin, stdout, stderr = piped(data, stdin, stdout, stderr, capture_output=capture_output)
    record = plan.branch_request(arguments, publish)
    execution = Execution(record, stdin, stdout, stderr, source)
    branch = Branch(plan.words_of(arguments), execution, words)
    branch.begin(words.encoded(data))
    return branch
