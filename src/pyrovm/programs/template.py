"""``pyrovm.Template``: a program that was started once and goes on in as many VMs as one likes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pyrovm.errors import ConfigError, PyrovmError
from pyrovm.programs import plan, store
from pyrovm.programs.branches import Branch, Forks, make_branch
from pyrovm.programs.execution import Execution, Over
from pyrovm.programs.streams import DEVNULL
from pyrovm.programs.text import Text
from pyrovm.unikernel.saving import Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrovm.image.index import Entry
    from pyrovm.programs.plan import Word
    from pyrovm.programs.running import CompletedProgram
    from pyrovm.programs.streams import Stream
    from pyrovm.programs.template_function import TemplateFunction

P = ParamSpec("P")
R = TypeVar("R")
READY_S = 60.0


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
        args: Word | Sequence[Word] = (),
        *,
        setup: str | None = None,
        requirements: Sequence[str] = (),
        ready: str = "call",
        timeout: float | None = READY_S,
        pool: int = 0,
        name: str | None = None,
        replace: bool = False,
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
            setup: instead of ``args``, statements of Python, after which functions of this program
                can be called in branches (:meth:`function`, :meth:`map`), which find there what the
                statements have imported and assigned.
            requirements: packages that ``setup`` and these functions need, as for
                :func:`pyrovm.function`.
            ready: when it is: ``call`` (it writes ``ready`` to /dev/pyrovm), ``line:TEXT`` (it
                writes TEXT to standard output or error), ``port:N`` (it listens at that TCP port).
            timeout: seconds that it may take.
            pool: how many branches wait in advance, so that the next ones begin at once.
            name: keep it on disk under this name, for :meth:`load` and ``pyrovm template``;
                ``replace`` says that there may be one already.
            stdin, stdout, stderr: of the program until it is ready.
            publish: ports that branches publish; each has a port of the host to itself, see
                :meth:`fork`.

        Raises:
            TemplateError: it is not ready in time, or has ended.
            ConfigError: there is no such program, or an option does not fit.
            HostError: it cannot be run here; says why.
        """
        image, words = self._program(args, setup, requirements)
        fields = [("ready", ready), ("spares", str(pool))]
        if setup is not None:
            fields.append(("functions", "1"))
        with contextlib.ExitStack() as stack:
            if name is not None:
                folder = stack.enter_context(store.making(name, replace=replace))
                fields.append(("save", folder))
            record = plan.request(
                image,
                words,
                env=env,
                cwd=cwd,
                memory=memory,
                cpus=cpus,
                hostname=hostname,
                allow=allow,
                publish=publish,
                volumes=volumes,
                template=fields,
            )
            self._start(Execution(record, stdin, stdout, stderr), ready, timeout)

    @classmethod
    def load(cls, name: str | os.PathLike[str], *, pool: int = 0) -> Template:
        """A template that is kept on disk, by its name or its folder: it need not start again.

        Raises:
            ConfigError: there is none of this name.
            SnapshotError: its files are damaged, or this machine cannot run it.
            HostError: it cannot be run here; says why.
        """
        folder = os.fspath(name)
        if os.sep not in folder:
            folder = str(store.folder_of(folder))
        saved = Saved(folder)
        self = cls.__new__(cls)
        self._has_functions = "functions" in saved.request
        record = plan.template_request(os.path.abspath(folder), pool)
        self._start(Execution(record, DEVNULL, None, None), "saved", READY_S)
        return self

    def _program(
        self, args: Word | Sequence[Word], setup: str | None, requirements: Sequence[str]
    ) -> tuple[Entry, list[str]]:
        self._has_functions = setup is not None
        if setup is None:
            if requirements:
                raise ConfigError("requirements: they are for a template with setup")
            words = plan.words_of(args)
            return plan.find_image(words[0] if words else ""), words[1:]
        if args:
            raise ConfigError("setup: a template has either args or setup")
        from pyrovm.programs.function import inside
        from pyrovm.programs.interpreter import image_with

        flags = ["-I", *([] if requirements else ["-S"])]
        return image_with(requirements), [*flags, "-c", inside(setup)]

    def _start(self, execution: Execution, ready: str, timeout: float | None) -> None:
        self._execution = execution
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
        self._source = Forks(execution.channel)

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
        return make_branch(
            self._source,
            *(arguments, publish, input, stdin, stdout, stderr),
            capture_output=capture_output,
            words=Text(text, encoding, errors),
        )

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

    def function(
        self,
        function: Callable[P, R],
        *,
        timeout: float | None = None,
        max_result: int | str = "64M",
    ) -> TemplateFunction[P, R]:
        """``function``, each call of which runs in a branch; as :func:`pyrovm.function`, with
        ``acall`` and ``map``. What ``setup`` has imported needs no import there.

        Raises:
            ConfigError: the template was made without ``setup``.
        """
        if not self._has_functions:
            raise ConfigError("functions are called in a template that was made with setup")
        from pyrovm.programs.template_function import TemplateFunction

        return TemplateFunction(function, self._source, timeout=timeout, max_result=max_result)

    def map(
        self,
        function: Callable[..., R],
        *inputs: Iterable[Any],
        workers: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[R]:
        """``function`` of the items of ``inputs``, each in a branch, in order; as many at once as
        there are CPUs, or ``workers``; ``timeout`` is in seconds for each."""
        return self.function(function, timeout=timeout).map(*inputs, workers=workers)
