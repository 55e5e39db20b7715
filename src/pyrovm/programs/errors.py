"""What can go wrong with a function in a VM::

PyrovmError
+-- FunctionError        it raised an exception, or ended otherwise than with a result
    +-- FunctionTimeout  it took too long; also a TimeoutError
"""

from __future__ import annotations

from pyrovm.errors import PyrovmError


class FunctionError(PyrovmError):
    """A function has failed in its VM.

    ``type`` is the exception's name, ``message`` and ``traceback`` its texts: they come from the
    VM, like all that the function returns. Where there was no exception ``type`` and ``traceback``
    are empty.
    """

    def __init__(
        self,
        function: str,
        what: str,
        type: str = "",  # noqa: A002  (as users know it)
        message: str = "",
        traceback: str = "",
    ) -> None:
        text = f"{function} {what}"
        super().__init__(f"{text}\n\n{traceback}" if traceback else text)
        self.type = type
        self.message = message or what
        self.traceback = traceback


class FunctionTimeout(FunctionError, TimeoutError):
    """A function took longer than it may."""
