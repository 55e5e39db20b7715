"""What runs in a function's VM, with ``codec.py``, by whatever version of Python is there.

A frame comes by standard input, another one goes out by standard output; what the function prints
goes to standard error.
"""

from __future__ import annotations

import os
import sys

from pyrovm.programs.codec import Encoder, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INSIDE = "<pyrovm>"  # our file in tracebacks
TRACEBACK_MAX = 64 << 10  # characters
FUTURE_ANNOTATIONS = 0x1000000  # __future__.annotations.compiler_flag, since 3.7


def use_c_json(codec: Any) -> None:
    """JSON by the C half of the ``json`` module alone: the other one takes a third of the time that
    an interpreter needs to start."""
    try:
        import _json as found
    except ImportError:  # it is optional
        return

    c: Any = found  # private to json; the same from 3.11 to 3.14

    class Context:
        strict = True
        object_hook = object_pairs_hook = None
        parse_float, parse_int, parse_constant = float, int, float
        memo: dict[str, str] = {}  # noqa: RUF012  (as JSONDecoder has it)

    scan = c.make_scanner(Context)
    to_text = c.encode_basestring_ascii
    chunks = c.make_encoder(None, None, to_text, None, ":", ",", False, False, False)
    codec.loads = lambda text: scan(text.decode(), 0)[0]
    codec.dumps = lambda tree: "".join(chunks(tree, 0))


def call(request: dict[str, Any], scope: dict[str, Any]) -> object:
    """Define the function and what it uses, and call it."""
    for name, module, attribute in request["imports"]:
        found = __import__(module, fromlist=["*"])
        for word in attribute.split(".") if attribute else ():
            found = getattr(found, word)
        scope[name] = found
    scope.update(request["constants"])
    for file, source in request["pieces"]:
        code = compile(source, file, "exec", FUTURE_ANNOTATIONS, dont_inherit=True)
        exec(code, scope)
    result = scope[request["name"]](*request["args"], **request["kwargs"])
    if hasattr(result, "__await__"):
        import asyncio

        async def finish() -> object:
            return await result

        result = asyncio.run(finish())
    return result


def describe(error: BaseException, request: dict[str, Any]) -> dict[str, str]:
    """An exception as data, its traceback without what is ours."""
    import linecache
    import traceback

    for file, source in request["pieces"]:
        known = linecache.cache.get(file, (0, None, [], file))[2]
        lines = source.splitlines(True)
        width = max(len(known), len(lines))
        known, lines = ([*part, *["\n"] * (width - len(part))] for part in (known, lines))
        merged = [old if new == "\n" else new for old, new in zip(known, lines, strict=True)]
        linecache.cache[file] = (0, None, merged, file)  # the host's file, where it is not
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == INSIDE:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    try:
        message = str(error)
    except Exception:
        message = "(it cannot be printed)"
    return {
        "type": type(error).__qualname__,
        "message": message[:TRACEBACK_MAX],
        "traceback": text[-TRACEBACK_MAX:],
    }


def main(names: dict[str, Any] | None = None) -> None:
    """Answer one request; ``names`` are what the function finds beside what comes with it."""
    use_c_json(sys.modules[Encoder.__module__])
    out = os.dup(1)
    os.dup2(2, 1)
    request = decode(sys.stdin.buffer.read())
    try:
        value = call(request, {**(names or {}), "__name__": request["module"]})
        encoder = Encoder()
        reply = encoder.frame({"dict": ["value", encoder.tree(value, "the result")]})
    except BaseException as error:
        reply = encode({"error": describe(error, request)})
    sys.stdout.flush()
    view = memoryview(reply)
    while view:
        view = view[os.write(out, view) :]
    os._exit(0)  # neither threads nor destructors keep the VM
