"""Functions that are called in branches of a template: its imports are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pyrovm.programs import plan
from pyrovm.programs.function import Call, Function

if TYPE_CHECKING:
    from pyrovm.programs.branches import Forks

P = ParamSpec("P")
R = TypeVar("R")


class TemplateFunction(Function[P, R]):
    """A function, each call of which runs in a branch; made by :meth:`Template.function`."""

    def __init__(
        self,
        function: Callable[P, R],
        source: Forks,
        *,
        timeout: float | None,
        max_result: int | str,
    ) -> None:
        wrapped: Any = getattr(function, "_function", function)  # of @pyrovm.function
        super().__init__(
            wrapped,
            memory="512M",  # the template has it, and its CPUs
            cpus=1,
            timeout=timeout,
            allow=(),
            requirements=(),
            max_result=max_result,
        )
        self._source = source

    def _call(self, frame: bytes) -> Call[R]:
        name = self._function.__qualname__
        return Call(name, plan.branch_request(()), frame, self._timeout, self._limit, self._source)
