"""How ``pyrovm-firecracker`` ends when it cannot go on."""

from __future__ import annotations

EXIT_GENERIC_ERROR = 1


class StartError(Exception):
    """The process ends with ``code``; ``debug`` is the error as standard error shows it."""

    def __init__(self, text: str, debug: str, code: int = EXIT_GENERIC_ERROR) -> None:
        super().__init__(text)
        self.debug = debug
        self.code = code


class Panic(Exception):
    """A misuse that Firecracker answers with an abort: files and numbers of the command line."""
