"""``pyrovm.Template``: a program that was started once and goes on in as many VMs as one likes."""

from __future__ import annotations

import array
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from errno import ETOOMANYREFS
from typing import TYPE_CHECKING, Any

from pyrovm.errors import HostError, PyrovmError
from pyrovm.programs import plan, wire
from pyrovm.programs.execution import Execution, Over
from pyrovm.programs.helper import HELPERS
from pyrovm.programs.running import CompletedProgram
from pyrovm.programs.streams import DEVNULL, PIPE
from pyrovm.programs.text import Text

if TYPE_CHECKING:
    import os

    from pyrovm.programs.plan import Word
    from pyrovm.programs.streams import Stream

READY_S = 60.0
BUSY_S = 0.001


class TemplateError(PyrovmError):
    """A template's program did not become ready; ``stdout`` and ``stderr`` are what it has said,
    where they were captured."""

    stdout: bytes | None = None
    stderr: bytes | None = None


class Template:
    """A program that has run until it was ready, at rest in memory; its branches go on from there.

    >>> with pyrovm.Template(["python3", "-c", PROGRAM], ready="call") as template:
    ...     done = template.run(input=b"one", capture_output=True)
    ...     others = [template.fork() for _ in range(100)]

    A branch is a VM of its own: what it writes to its memory is its own, and so are its generation
    and random numbers, its streams and its ports. Its clock goes on from where it stood. Network
    connections that were open have been reset. It outlives the template.
    """

    def __init__(
        self,
        args: Word | Sequence[Word],
        *,
        ready: str = "call",
        timeout: float | None = READY_S,
        pool: int = 0,
        stdin: Stream = DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        memory: int | str = "512M",
        cpus: int = 1,
        hostname: str = "pyrovm",
        allow: Iterable[str] = (),
        publish: Iterable[str] = (),
        volumes: Iterable[str] = (),
    ) -> None:
        """Start the program and wait until it is ready.

        Args:
            args: as for :func:`pyrovm.run`, like the options from ``env`` on.
            ready: when it is: ``call`` (it writes ``ready`` to /dev/pyrovm), ``line:TEXT`` (it
                writes TEXT to standard output or error), ``port:N`` (it listens at that TCP port).
            timeout: seconds that it may take.
            pool: how many branches wait in advance, so that the next ones begin at once.
            stdin, stdout, stderr: of the program until it is ready.
            publish: ports that branches publish; each has a port of the host to itself, see
                :meth:`fork`.

        Raises:
            TemplateError: it is not ready in time, or has ended.
            ConfigError: there is no such program, or an option does not fit.
            HostError: it cannot be run here; says why.
        """
        words = plan.words_of(args)
        image = plan.find_image(words[0] if words else "")
        record = plan.request(
            image,
            words[1:],
            env=env,
            cwd=cwd,
            memory=memory,
            cpus=cpus,
            hostname=hostname,
            allow=allow,
            publish=publish,
            volumes=volumes,
            ready=ready,
            pool=pool,
        )
        self._execution = Execution(record, stdin, stdout, stderr)
        self._start(ready, timeout)
        self._source = Forks(self._execution.channel)

    def _start(self, ready: str, timeout: float | None) -> None:
        execution = self._execution
        try:
            execution.begin()
            execution.meet(timeout)
        except TimeoutError:
            self.close()
            raise self._failed(f"is not ready ({ready}) after {timeout:g} s") from None
        except Over:
            try:
                report = execution.finish(None)
            finally:
                self.close()
            how = f"status {report.returncode}"
            if report.returncode < 0:
                how = f"signal {-report.returncode}"
            raise self._failed(f"has ended with {how} before it was ready ({ready})") from None
        except BaseException:
            self.close()
            raise

    def _failed(self, what: str) -> TemplateError:
        error = TemplateError(f"The template's program {what}")
        error.stdout, error.stderr = self._execution.stdout, self._execution.stderr
        return error

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; branches that run go on."""
        self._execution.close()

    # ------------------------------------------------------------------------------- branches

    def fork(
        self,
        arguments: Sequence[Word] = (),
        *,
        input: bytes | str | None = None,  # noqa: A002  (subprocess's name)
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        capture_output: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        publish: Iterable[str] = (),
    ) -> Branch:
        """Have the program go on in a VM of its own; it runs when this returns, or will soon.

        Args:
            arguments: what it finds in /dev/pyrovm, a line each.
            input: what it reads from its standard input; this and what follows is as for
                :func:`pyrovm.run`.
            publish: where its ports are on the host, as for :func:`pyrovm.run`; those that the
                template publishes and that are not named here get any port: see ``Branch.ports``.

        Raises:
            ConfigError: an argument does not fit.
            HostError: the template has ended, or there is no room for another process.
        """
        if input is not None:
            if stdin is not None:
                raise ValueError("stdin and input may not both be used")
            stdin = PIPE
        if capture_output:
            if stdout is not None or stderr is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            stdout = stderr = PIPE
        words = Text(text, encoding, errors)
        branch = Branch(
            plan.words_of(arguments),
            Execution(plan.branch_request(arguments, publish), stdin, stdout, stderr, self._source),
            words,
        )
        branch._begin(words.encoded(input))
        return branch

    def run(
        self,
        arguments: Sequence[Word] = (),
        *,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> CompletedProgram:
        """:meth:`fork` a branch, with its options, and wait for its end.

        Args:
            timeout: seconds; the branch is ended then.

        Raises:
            TimeoutExpired: of ``subprocess``, as :func:`pyrovm.run`; so CalledProcessError.
        """
        with self.fork(arguments, **options) as branch:
            done = branch.wait(timeout)
        if check:
            done.check_returncode()
        return done


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

    def _begin(self, data: bytes) -> None:
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
