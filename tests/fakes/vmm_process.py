"""``pyrovm-firecracker`` as a process of its own, for tests that look at it from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys

COMMAND = [
    sys.executable,
    "-I",
    "-c",
    "from pyrovm.cli.firecracker import main; raise SystemExit(main())",
]
TIMEOUT = 20
STARTED = "API server started."


def run(*arguments):
    """The program until it ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def message(method, path, body=None):
    """A request; ``body`` becomes JSON."""
    data = b"" if body is None else json.dumps(body).encode()
    length = f"Content-Length: {len(data)}\r\n" if data else ""
    return f"{method} {path} HTTP/1.1\r\n{length}\r\n".encode() + data


class Process:
    """A VMM with its API open; ``wrapper`` is a program that starts it, and its arguments.

    ``command`` is another way to start it; ``options`` are subprocess's.
    """

    def __init__(self, folder, *arguments, log_fd=None, wrapper=(), command=COMMAND, **options):
        self.socket = os.path.join(folder, "api.sock")
        self.log = ""
        self.process = subprocess.Popen(
            [*wrapper, *command, "--api-sock", self.socket, *arguments],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **options,
        )
        self.log_fd = self.process.stdout.fileno() if log_fd is None else log_fd
        try:
            self.wait_for(STARTED)
        except BaseException:
            self.process.kill()
            raise

    def wait_for(self, words):
        while words not in self.log:
            assert select.select([self.log_fd], [], [], TIMEOUT)[0], self.log
            chunk = os.read(self.log_fd, 65536)
            assert chunk, self.log
            self.log += chunk.decode()

    def request(self, method, path, body=None):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(self.socket)
            client.sendall(message(method, path, body))
            return client.recv(65536).decode()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.finish()

    def finish(self):
        out, err = self.process.communicate(timeout=TIMEOUT)
        self.log += out.decode()
        self.errors = err.decode()
        return self.process.returncode
