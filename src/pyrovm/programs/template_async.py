"""``pyrovm.AsyncTemplate``: templates for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pyrovm.programs.running import CompletedProgram, cancellable
from pyrovm.programs.template import Template

if TYPE_CHECKING:
    from pyrovm.programs.branches import Branch
    from pyrovm.programs.plan import Word

R = TypeVar("R")


class AsyncBranch:
    """A :class:`Branch` for asyncio."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    async def generation(self) -> int:
        """As :attr:`Branch.generation`."""
        return await asyncio.to_thread(lambda: self._branch.generation)

    async def ports(self) -> dict[str, tuple[str, int]]:
        """As :attr:`Branch.ports`."""
        return await asyncio.to_thread(lambda: self._branch.ports)

    async def wait(self, timeout: float | None = None) -> CompletedProgram:
        """As :meth:`Branch.wait`; cancelled, it ends the VM."""
        return await cancellable(lambda: self._branch.wait(timeout), self._branch.kill)

    def kill(self) -> None:
        """As :meth:`Branch.kill`."""
        self._branch.kill()

    async def __aenter__(self) -> AsyncBranch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._branch.close()


class AsyncTemplate:
    """A :class:`Template` for asyncio, with the same arguments; it starts as a context manager.

    >>> async with pyrovm.AsyncTemplate(["python3", "-c", PROGRAM]) as template:
    ...     done = await template.run(capture_output=True)
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._arguments = args, options
        self._template: Template | None = None

    async def __aenter__(self) -> AsyncTemplate:
        args, options = self._arguments
        self._template = await asyncio.to_thread(lambda: Template(*args, **options))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._started.close()

    @property
    def _started(self) -> Template:
        if self._template is None:
            raise RuntimeError("an AsyncTemplate is to be used with 'async with'")
        return self._template

    async def fork(self, arguments: Sequence[Word] = (), **options: Any) -> AsyncBranch:
        """As :meth:`Template.fork`."""
        template = self._started
        return AsyncBranch(await asyncio.to_thread(lambda: template.fork(arguments, **options)))

    async def run(
        self,
        arguments: Sequence[Word] = (),
        *,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> CompletedProgram:
        """As :meth:`Template.run`; cancelled, it ends the VM."""
        async with await self.fork(arguments, **options) as branch:
            done = await branch.wait(timeout)
        if check:
            done.check_returncode()
        return done

    async def map(
        self,
        function: Callable[..., R],
        *inputs: Iterable[Any],
        workers: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[R]:
        """As :meth:`Template.map`; after an error the others are ended."""
        call = self._started.function(function, timeout=timeout).acall
        workers = workers or len(os.sched_getaffinity(0))
        waiting: deque[asyncio.Task[R]] = deque()
        try:
            for args in zip(*inputs, strict=False):
                waiting.append(asyncio.create_task(call(*args)))
                if len(waiting) > workers:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
