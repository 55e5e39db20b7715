"""One request to the API socket of a running VMM, for commands that talk to it."""

from __future__ import annotations

import socket
from typing import Any

from pyrovm.errors import HostError, StateError
from pyrovm.sdk.http1 import ProtocolError, ResponseParser, build_request

TIMEOUT = 600.0  # seconds; a large guest on a slow disk


def ask(path: str, method: str, target: str, body: object = None) -> Any:
    """One request; the JSON of its answer.

    Raises:
        HostError: nobody answers there.
        StateError: the VMM refused; its words.
    """
    parser = ResponseParser()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(build_request(method, target, body))
            while data := connection.recv(65536):
                response = parser.feed(data)
                if response is not None:
                    if not response.ok:
                        raise StateError(response.fault)
                    return response.json()
    except OSError as error:
        if error.errno is None:
            raise HostError(f"{path}: {error}") from None
        raise HostError.wrap(path, error) from None
    except ProtocolError as error:
        raise HostError(f"{path}: {error}") from None
    raise HostError(f"{path}: the VMM ended without an answer to {method} {target}")
