"""From a request to its response: which handler, what the log says, what the client gets."""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.api.call import Call
from pyrovm.api.http import response
from pyrovm.config.serde.text import quoted
from pyrovm.config.serde.writer import dumps
from pyrovm.machine.controller_fault import PAYLOAD_TOO_LARGE, Fault
from pyrovm.machine.log import DEBUG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.api.http import Request
    from pyrovm.machine.controller import Controller
    from pyrovm.machine.log import Log
    from pyrovm.machine.metrics import Metrics

NS_PER_US = 1000


class Routes:
    """Answers requests with the help of ``controller``."""

    def __init__(self, controller: Controller, log: Log, metrics: Metrics) -> None:
        self._controller = controller
        self._log = log
        self._metrics = metrics

    def handle(self, request: Request) -> bytes:
        """The response to ``request``; everything a client can do wrong is in it."""
        log = self._log
        began = monotonic_ns()
        log.info(f"The API server received a {describe(request, log.is_enabled(DEBUG))}.")
        tokens = path_tokens(request.path)
        call = Call(request.method, tokens, request.body, self._controller, self._metrics)
        try:
            value = _dispatch(call)
        except Fault as fault:
            answer = self._refused(call, fault)
        else:
            answer = self._done(call, value, began)
        if call.deprecation:
            log.warn(call.deprecation)
        return answer

    def _done(self, call: Call, value: Any, began_ns: int) -> bytes:
        status, words = (204, "204 No Content") if value is None else (200, "200 OK")
        self._log.info(f"The request was executed successfully. Status code: {words}.")
        words, field = call.timed
        if field:
            took = (monotonic_ns() - began_ns) // NS_PER_US
            self._metrics.store("latencies_us", field, took)
            self._log.info(f"'{words}' API request took {took} us.")
        body = None if value is None else _encoded(value)
        return response(status, body, is_deprecated=bool(call.deprecation))

    def _refused(self, call: Call, fault: Fault) -> bytes:
        words = "Payload too large" if fault.status == PAYLOAD_TOO_LARGE else "Bad Request"
        self._log.error(f"Received Error. Status code: {fault.status} {words}. Message: {fault}")
        body = _encoded({"fault_message": str(fault)})
        return response(fault.status, body, is_deprecated=bool(call.deprecation))


def _encoded(value: Any) -> bytes:
    return dumps(value).encode("utf-8", "surrogateescape")


def path_tokens(path: str) -> list[str]:
    """The parts of a path: leading slashes and one trailing slash do not count."""
    trimmed = path.lstrip("/")
    return trimmed.removesuffix("/").split("/") if trimmed else []


def _dispatch(call: Call) -> Any:
    """Find and call the handler; what it returns, or None.

    Raises:
        Fault: there is none, or it refused.
    """
    has_body = call.body is not None
    first = call.first
    handler: Any = None
    if call.method == "GET":
        if has_body:
            raise Fault("GET request cannot have a body.")
        from pyrovm.api.gets import GETS

        handler = GETS.get(first)
    elif call.method == "PUT":
        if not has_body:
            raise Fault("Empty PUT request.")
        from pyrovm.api.puts import PUTS

        handler = PUTS.get(first)
    elif call.method == "PATCH":
        from pyrovm.api.patches import EMPTY, PATCHES

        if not has_body and call.tokens[:2] != ["balloon", "hinting"]:
            raise Fault(EMPTY)
        handler = PATCHES.get(first)
    else:
        if has_body:
            raise Fault("Empty Delete request.")
        from pyrovm.api.puts import DELETES

        handler = DELETES.get(first)
    if handler is None:
        raise call.no_such_path()
    return handler(call)


def describe(request: Request, with_template: bool) -> str:
    """What the log says of a request; metadata stay secret, CPU templates are long."""
    text = f"{request.method.capitalize()} request on {quoted(request.path)}"
    if request.body is None or request.path == "/mmds":
        return text
    if request.path == "/cpu-config" and not with_template:
        return f"{text}. To view the CPU template received by the API, configure log-level to DEBUG"
    try:
        body = request.body.decode()
    except UnicodeDecodeError:
        body = "inconvertible to UTF-8"
    return f"{text} with body {quoted(body)}"
