"""``pyrovm.start``: a program that runs in a VM, and can be branched meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pyrovm.abi.libos import PV_GENERATION_FIRST
from pyrovm.programs import plan
from pyrovm.programs.branches import Branch, Forks, make_branch
from pyrovm.programs.execution import Execution, Over
from pyrovm.programs.streams import piped
from pyrovm.programs.text import Text

if TYPE_CHECKING:
    from pyrovm.programs.plan import Word
    from pyrovm.programs.streams import Stream


class Running(Branch):
    """A program that runs; made by :func:`pyrovm.start`. To wait and to kill it is as for a
    :class:`Branch`; its ports are where ``publish`` says."""

    _source: Forks

    @property
    def generation(self) -> int:
        """The first VM of its kind."""
        return PV_GENERATION_FIRST

    def begin(self, data: bytes) -> None:
        """Start it.

        Raises:
            PyrovmError: it cannot be run.
        """
        super().begin(data)
        try:
            self._execution.meet(None)
        except Over:  # why, the report says
            self._execution.finish(None)
            raise
        self._source = Forks(self._execution.channel)

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
        """Have a copy of it go on in a VM of its own, from wherever it is; it goes on here, too.

        The arguments are those of :meth:`pyrovm.Template.fork`. Where it waits for a time, so does
        the copy; connections are reset in the copy only.

        Raises:
            HostError: it has ended, or there is no room for another process.
        """
        return make_branch(
            self._source,
            *(arguments, publish, input, stdin, stdout, stderr),
            capture_output=capture_output,
            words=Text(text, encoding, errors),
        )


def start(
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
    **machine: Any,
) -> Running:
    """Start a program in a VM of its own, in the manner of ``subprocess.Popen``.

    >>> with pyrovm.start(["python3", "server.py"], publish=["8000:80"]) as server:
    ...     copy = server.fork()
    ...     copy.ports
    {'80/tcp': ('127.0.0.1', 41234)}

    Args:
        args: as for :func:`pyrovm.run`, and so are all others but ``timeout`` and ``check``.

    Raises:
        ConfigError: there is no such program, or an option does not fit.
        HostError: it cannot be run here; says why.
    """
    stdin, stdout, stderr = piped(input, stdin, stdout, stderr, capture_output=capture_output)
    words = plan.words_of(args)
    image = plan.find_image(words[0] if words else "")
    record = plan.request(image, words[1:], template=[("live", "1")], **machine)
    encoded = Text(text, encoding, errors)
    running = Running(words, Execution(record, stdin, stdout, stderr), encoded)
    running.begin(encoded.encoded(input))
    return running
