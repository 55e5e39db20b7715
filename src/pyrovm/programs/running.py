"""``pyrovm.run`` and ``pyrovm.arun``: a program in a VM of its own, as :func:`subprocess.run`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pyrovm.programs import plan
from pyrovm.programs.execution import Execution
from pyrovm.programs.plan import Word
from pyrovm.programs.streams import Stream, piped
from pyrovm.programs.text import Text

T = TypeVar("T")


class CompletedProgram(subprocess.CompletedProcess[Any]):
    """How a program has ended: a :class:`subprocess.CompletedProcess`.

    ``returncode`` is its exit status, or -N where signal N has ended it. ``build_ms`` and
    ``run_ms`` say how long it took to make its VM and to run it.
    """

    build_ms: float = 0.0
    run_ms: float = 0.0


class Job:
    """A call of :func:`run`, its arguments checked; to be made once."""

    def __init__(
        self,
        args: Word | Sequence[Word],
        *,
        input: bytes | str | None,  # noqa: A002  (subprocess's name)
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        capture_output: bool,
        text: bool | None,
        encoding: str | None,
        errors: str | None,
        timeout: float | None,
        check: bool,
        **machine: Any,
    ) -> None:
        stdin, stdout, stderr = piped(input, stdin, stdout, stderr, capture_output=capture_output)
        self._text = Text(text, encoding, errors)
        self._data = self._text.encoded(input)
        self._args, self._timeout, self._check = args, timeout, check
        words = plan.words_of(args)
        image = plan.find_image(words[0] if words else "")
        record = plan.request(image, words[1:], **machine)
        self._execution = Execution(record, stdin, stdout, stderr)
        self.kill = self._execution.kill

    def run(self) -> CompletedProgram:
        """Make the call."""
        execution = self._execution
        try:
            report = execution.run(self._data, self._timeout)
        except TimeoutError:
            assert self._timeout is not None
            # Bytes, as subprocess has it, text or not: they may end within a character.
            raise subprocess.TimeoutExpired(
                self._args, self._timeout, execution.stdout, execution.stderr
            ) from None
        done = CompletedProgram(
            self._args,
            report.returncode,
            self._text.decoded(execution.stdout),
            self._text.decoded(execution.stderr),
        )
        done.build_ms, done.run_ms = report.build_ms, report.run_ms
        if self._check:
            done.check_returncode()
        return done


def run(
    args: Word | Sequence[Word],
    *,
    input: bytes | str | None = None,  # noqa: A002  (subprocess's name)
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    memory: int | str = "512M",
    cpus: int = 1,
    hostname: str = "pyrovm",
    allow: Iterable[str] = (),
    publish: Iterable[str] = (),
    volumes: Iterable[str] = (),
) -> CompletedProgram:
    """Run a program in a VM of its own and wait for its end, in the manner of ``subprocess.run``.

    >>> done = pyrovm.run(["python3", "-c", "print(6 * 7)"], capture_output=True, text=True)
    >>> done.stdout
    '42\\n'

    From any thread, as many at once as there is memory for. When the call is interrupted, or this
    process ends, the VM ends.

    Args:
        args: an image's name or a program of this machine, of which an image is made on first use,
            and its arguments.
        input: what the program reads from its standard input; ``stdin`` and the options up to
            ``check`` mean what they mean to ``subprocess.run``, text is UTF-8.
        timeout: seconds; the VM is ended then.
        env: variables to add to its environment, which has nothing of ours.
        cwd: absolute path of a folder in the image.
        memory: of the VM; a number counts MiB.
        cpus: of the VM, 1 to 8, for the program's threads.
        allow: what it may connect to, each ``HOST[:PORT]``, ``CIDR[:PORT]`` or ``*``.
        publish: its ports that can be reached, each ``[HOST_IP:]HOST_PORT:GUEST_PORT[/udp]``.
        volumes: folders of this machine that it sees, each ``HOST_FOLDER:GUEST_FOLDER[:ro]``.

    Raises:
        TimeoutExpired: of ``subprocess``; with what was captured until then.
        CalledProcessError: of ``subprocess``, with ``check``: it did not end with status 0.
        ConfigError: there is no such program, or an option does not fit.
        HostError: it cannot be run here; says why.
    """
    return Job(**locals()).run()


async def arun(args: Word | Sequence[Word], **options: Any) -> CompletedProgram:
    """:func:`run` for asyncio, with the same options; cancelled, it ends the VM."""
    job = await asyncio.to_thread(Job, args, **{**(run.__kwdefaults__ or {}), **options})
    return await cancellable(job.run, job.kill)


async def cancellable(call: Callable[[], T], kill: Callable[[], None]) -> T:
    """``call()`` in a thread; where this is cancelled, ``kill`` makes it return soon."""
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        kill()
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # that it was killed; nobody else asks
        raise
