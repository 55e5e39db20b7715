"""``pyrovm.function``: a decorator that has a Python function run in a VM of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
import marshal
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pyrovm.config.size import size_mib
from pyrovm.programs import codec, plan
from pyrovm.programs.codec import CodecError, Encoder
from pyrovm.programs.errors import FunctionError, FunctionTimeout
from pyrovm.programs.exchange import TooLong
from pyrovm.programs.execution import Execution, Source
from pyrovm.programs.helper import HELPERS
from pyrovm.programs.inside import INSIDE
from pyrovm.programs.interpreter import image_with
from pyrovm.programs.running import cancellable
from pyrovm.programs.source import Shipment
from pyrovm.programs.streams import PIPE
from pyrovm.unikernel.program import check_cpus

P = ParamSpec("P")
R = TypeVar("R")
MIB = 1 << 20


class Function(Generic[P, R]):
    """A function that runs in a VM of its own for each call; made by :func:`pyrovm.function`.

    ``__wrapped__`` is the function itself, to be called here.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        memory: int | str,
        cpus: int,
        timeout: float | None,
        allow: Sequence[str],
        requirements: Sequence[str],
        max_result: int | str,
    ) -> None:
        if not (callable(function) and inspect.isfunction(inspect.unwrap(function))):
            raise TypeError(f"{function!r}: a function made with def is needed")
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self._timeout = timeout
        self._requirements = tuple(requirements)
        self._limit = size_mib(max_result) * MIB
        self._memory, self._cpus, self._allow = memory, cpus, allow
        plan.memory_bytes(memory)
        check_cpus(cpus)
        self._shipment: Shipment | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it in a VM and wait for its result.

        Raises:
            FunctionError: it has raised an exception, or ended without a result.
            FunctionTimeout: it took longer than ``timeout``.
            TypeError: an argument cannot be passed, or the function cannot be shipped.
            PyrovmError: there can be no VM.
        """
        return self._call(self._frame(args, kwargs)).run()

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """As a call, for asyncio; cancelled, it ends the VM."""
        call = await asyncio.to_thread(lambda: self._call(self._frame(args, kwargs)))
        return await cancellable(call.run, call.kill)

    def map(self, *inputs: Iterable[Any], workers: int | None = None) -> Iterator[R]:
        """The results for the items of ``inputs``, in order, as the built-in ``map``.

        As many VMs run at once as there are CPUs, or ``workers``; no more inputs are taken than are
        needed. After an error the others are ended.
        """
        workers = workers or len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(workers, "pyrovm-map") as pool:
            waiting: deque[tuple[Call[R], Future[R]]] = deque()
            try:
                for args in zip(*inputs, strict=False):
                    call = self._call(self._frame(args, {}))
                    waiting.append((call, pool.submit(call.run)))
                    if len(waiting) > workers:
                        yield waiting.popleft()[1].result()
                while waiting:
                    yield waiting[0][1].result()
                    waiting.popleft()
            finally:
                for call, future in waiting:
                    future.cancel()
                    call.kill()

    def _frame(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The request to the VM."""
        bound = self._signature.bind(*args, **kwargs)
        if self._shipment is None:
            self._shipment = Shipment(self._function, _unwrapped, function)
        shipment, encoder = self._shipment, Encoder()
        name = self._function.__qualname__
        # Names as the caller knows them.
        names = [
            key
            for key, value in bound.arguments.items()
            for _ in (value if self._signature.parameters[key].kind is VAR_POSITIONAL else (0,))
        ]
        tree = {
            "name": shipment.name,
            "module": shipment.module,
            "imports": shipment.imports,
            "pieces": shipment.pieces,
            "constants": encoder.tree(shipment.constants(), f"{name}(): the globals it uses"),
            "args": [
                encoder.tree(value, f"{name}(): the argument {names[n]!r}")
                for n, value in enumerate(bound.args)
            ],
            "kwargs": _pairs(
                (key, encoder.tree(value, f"{name}(): the argument {key!r}"))
                for key, value in bound.kwargs.items()
            ),
        }
        return encoder.frame(_pairs(tree.items()))

    def _call(self, frame: bytes) -> Call[R]:
        image = image_with(self._requirements)
        words = ["-I", *([] if self._requirements else ["-S"]), "-c", inside()]
        record = plan.request(image, words, memory=self._memory, cpus=self._cpus, allow=self._allow)
        return Call(self._function.__qualname__, record, frame, self._timeout, self._limit)


VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL


def _pairs(items: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """A dict, as the codec has it, of parts that are encoded already."""
    return {"dict": [part for item in items for part in item]}


def _unwrapped(value: Any) -> Any:
    return value._function if isinstance(value, Function) else value


@functools.cache
def inside(setup: str | None = None) -> str:
    """The program that serves a call in the VM, where there is no pyrovm; as bytecode, for it is
    the same Python, and compiling takes longer than most functions.

    ``setup`` is run first, and then it is ready to be branched.
    """
    here = Path(__file__).parent
    lines = [
        "import marshal, sys",
        f"if sys.hexversion >> 16 != {sys.hexversion >> 16}:  # where bytecode may differ",
        "    sys.exit('another Python was installed: the program has to be started again')",
    ]
    for name in ("codec", "inside", *(() if setup is None else ("ready",))):
        code = compile((here / f"{name}.py").read_text(), INSIDE, "exec", dont_inherit=True)
        lines += [
            f"module = sys.modules['{__package__}.{name}'] = type(sys)('{__package__}.{name}')",
            f"exec(marshal.loads({marshal.dumps(code)!r}), module.__dict__)",
        ]
    names = "" if setup is None else f"module.prepare({setup!r})"
    lines.append(f"sys.modules[{__package__ + '.inside'!r}].main({names})")
    return "\n".join(lines)


class Call(Generic[R]):
    """One call on its way."""

    def __init__(
        self,
        name: str,
        record: bytes,
        frame: bytes,
        timeout: float | None,
        limit: int,
        source: Source = HELPERS,
    ) -> None:
        self._name, self._frame = name, frame
        self._timeout, self._limit = timeout, limit
        self._execution = Execution(record, PIPE, PIPE, None, source)
        self.kill = self._execution.kill

    def run(self) -> R:
        """Make it; the function's result."""
        try:
            report = self._execution.run(self._frame, self._timeout, self._limit)
        except TimeoutError:
            raise FunctionTimeout(self._name, f"took longer than {self._timeout} s") from None
        except TooLong:
            raise FunctionError(
                self._name, f"has a result of more than {self._limit} bytes (max_result)"
            ) from None
        answer = self._execution.stdout or b""
        if not answer:
            ended = f"status {report.returncode}"
            if report.returncode < 0:
                ended = f"signal {-report.returncode}"
            raise FunctionError(self._name, f"ended with {ended} and without a result")
        return result_of(self._name, answer)  # type: ignore[no-any-return]


def result_of(name: str, answer: bytes) -> Any:
    """What the VM says is the result of the function ``name``; the answer may come from an enemy.

    Raises:
        FunctionError: the function has raised an exception, or this is no answer.
    """
    try:
        reply = codec.decode(answer)
        if "value" in reply:
            return reply["value"]
        fault = [reply["error"][key] for key in ("type", "message", "traceback")]
        if not all(isinstance(text, str) for text in fault):
            raise CodecError("an error that is no text")
    except (CodecError, TypeError, KeyError) as error:
        raise FunctionError(name, f"has sent no result: {error}") from None
    raise FunctionError(name, "has raised an exception", *fault)


@overload
def function(function: Callable[P, R], /) -> Function[P, R]: ...
@overload
def function(
    *,
    memory: int | str = ...,
    cpus: int = ...,
    timeout: float | None = ...,
    allow: Sequence[str] = ...,
    requirements: Sequence[str] = ...,
    max_result: int | str = ...,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...


def function(
    function: Callable[P, R] | None = None,
    /,
    *,
    memory: int | str = "512M",
    cpus: int = 1,
    timeout: float | None = None,
    allow: Sequence[str] = (),
    requirements: Sequence[str] = (),
    max_result: int | str = "64M",
) -> Function[P, R] | Callable[[Callable[P, R]], Function[P, R]]:
    """Have each call of a function run in a VM of its own, without network and files.

    >>> @pyrovm.function(timeout=5)
    ... def total(text):
    ...     return sum(json.loads(text))
    >>> total("[1, 2, 3]")
    6

    The function's source goes to the VM, with that of the functions and classes of its module that
    it uses; other modules are imported there, other globals are constants. Arguments and results
    are data: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set,
    frozenset, date, time, datetime, timedelta. Nothing that comes from the VM is executed. What the
    function prints goes to standard error.

    Args:
        memory: of the VM; a number counts MiB.
        cpus: of the VM, 1 to 8, for the function's threads.
        timeout: seconds for a call.
        allow: what it may connect to, as in :func:`pyrovm.run`.
        requirements: packages that it needs, as pip takes them; installed once, into an image.
        max_result: the longest result. A small one of many parts takes up to twenty times its size
            here.
    """
    make = functools.partial(
        Function,
        memory=memory,
        cpus=cpus,
        timeout=timeout,
        allow=allow,
        requirements=requirements,
        max_result=max_result,
    )
    return make if function is None else make(function)
