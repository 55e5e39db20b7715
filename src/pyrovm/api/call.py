"""One call of the API on its way from the request to the controller."""

from __future__ import annotations

from pyrovm.machine.controller_fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyrovm.config.serde.reader import Reader
    from pyrovm.machine.controller import Controller
    from pyrovm.machine.metrics import Metrics

    T = TypeVar("T")


class Call:
    """A call: ``tokens`` are the parts of the path, ``body`` is None or not empty.

    A handler calls :meth:`count` first, then parses, then asks ``controller``.  What it notes here
    on the way (:attr:`deprecation`, :attr:`timed`) is for whoever answers.
    """

    __slots__ = (
        "_counted",
        "_metrics",
        "body",
        "controller",
        "deprecation",
        "method",
        "timed",
        "tokens",
    )

    def __init__(
        self,
        method: str,
        tokens: list[str],
        body: bytes | None,
        controller: Controller,
        metrics: Metrics,
    ) -> None:
        self.method = method
        self.tokens = tokens
        self.body = body
        self.controller = controller
        self.deprecation = ""  # what to say about an old field that was used
        self.timed = ("", "")  # (words for the log, field of latencies_us) of a slow action
        self._metrics = metrics
        self._counted = ("", "")

    @property
    def first(self) -> str:
        """The first part of the path, empty for ``/``."""
        return self.token(0) or ""

    def token(self, index: int) -> str | None:
        """A part of the path; None if it has fewer."""
        return self.tokens[index] if index < len(self.tokens) else None

    def count(self, resource: str) -> None:
        """Count the call in the metrics of its method; failures to parse will count too."""
        group = f"{self.method.lower()}_api_requests"
        self._counted = (group, resource)
        self._metrics.add(group, f"{resource}_count")

    def _fail(self, message: str) -> Fault:
        group, resource = self._counted
        if group:
            self._metrics.add(group, f"{resource}_fails")
        return Fault(message)

    def deprecate(self, message: str) -> None:
        """Note that an old field was used: the response tells so, whatever its status."""
        self.deprecation = message
        self._metrics.add("deprecated_api", "deprecated_http_api_calls")

    # ----------------------------------------------------------------- parsing

    def parse(self, read: Callable[[Reader], T]) -> T:
        """The body as a record.

        Raises:
            Fault: it is not one.
        """
        from pyrovm.config.serde.schema import parse

        return self._parsed(lambda body: parse(read, body))

    def value(self) -> Any:
        """The body as JSON of any shape.

        Raises:
            Fault: it is no JSON.
        """
        from pyrovm.config.serde.value import parse_value

        return self._parsed(parse_value)

    def _parsed(self, parse: Callable[[bytes], T]) -> T:
        from pyrovm.errors import ConfigError

        assert self.body is not None
        try:
            return parse(self.body)
        except ConfigError as error:
            raise self._fail(
                f"An error occurred when deserializing the json body of a request: {error}."
            ) from None

    def resource_id(self) -> str:
        """The id in the path.

        Raises:
            Fault: there is none, or it has other than letters, digits and underscores.
        """
        found = self.token(1)
        if not found:
            raise self._fail("The ID cannot be empty.")
        if not found.replace("_", "a").isalnum():
            raise self._fail(
                "API Resource IDs can only contain alphanumeric characters and underscores."
            )
        return found

    def check_same_id(self, path_id: str, body_id: str) -> None:
        """The id in the body must be the one in the path.

        Raises:
            Fault: it is another.
        """
        if path_id != body_id:
            raise self._fail("The id from the path does not match the id from the body!")

    def check_same_iface_id(self, path_id: str, body_id: str) -> None:
        """As :meth:`check_same_id`, in the words for network interfaces.

        Raises:
            Fault: it is another.
        """
        if path_id != body_id:
            raise self._fail(
                f"The id from the path [{path_id}] does not match the id from the body [{body_id}]!"
            )

    def no_such_path(self, path: str | None = None) -> Fault:
        """The fault for a path or a pair of method and path that there is not."""
        shown = self.first if path is None else path
        return Fault(f"Invalid request method and/or path: {self.method} {shown}.")

    def unrecognized(self, path: str) -> Fault:
        """The fault for a path that is wrong behind its first part."""
        return Fault(f"Unrecognized {self.method} request path `{path}`.")
