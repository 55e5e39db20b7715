"""The real API server on a real Unix socket, in front of a fake machine."""

from __future__ import annotations

import os
import socket

from pyrovm.api.routes import Routes
from pyrovm.api.server import ApiServer, ApiSocket
from pyrovm.config.logger import LoggerConfig
from pyrovm.machine.controller import Controller
from pyrovm.machine.log import Log
from pyrovm.machine.loop import EventLoop
from pyrovm.machine.metrics import Metrics, PeriodicMetrics
from pyrovm.machine.resources import Resources
from tests.fakes.controller import FakeBuilder, FakeFactory


class Reply:
    """A response, taken apart."""

    def __init__(self, raw):
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.raw = raw
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:])
        self.body = body.decode()


def complete_length(data):
    """The length of the first response in ``data``, 0 while it is not complete."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    if not separator:
        return 0
    length = len(head) + 4
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length += int(line.split(b":")[1])
    return length if len(data) >= length else 0


class Client:
    """A connection to an :class:`Api`; it turns the server's loop while it waits."""

    def __init__(self, api, timeout=0.02):
        self.api = api
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(api.path)
        self.socket.setblocking(False)
        self.data = b""
        self.timeout = timeout
        self.at_end = False

    def send(self, data):
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self.api.turn()
        self.api.turn()

    def receive(self):
        try:
            chunk = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            chunk = b""
        self.data += chunk
        self.at_end = self.at_end or not chunk

    def reply(self, rounds=50):
        """The next response; None if there is none after ``rounds`` rounds."""
        for _ in range(rounds):
            self.receive()
            length = complete_length(self.data)
            if length:
                raw, self.data = self.data[:length], self.data[length:]
                return Reply(raw)
            if self.at_end:
                return None
            self.api.turn(self.timeout)
        return None

    def request(self, method, path, body=None):
        data = b"" if body is None else body if isinstance(body, bytes) else body.encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self.send(head.encode() + b"\r\n" + data)
        reply = self.reply()
        assert reply is not None, "no response"
        return reply

    def close(self):
        self.socket.close()


class Api:
    """``folder`` takes the socket and the log; use as a context manager."""

    def __init__(self, folder, *, payload_limit=51200, mmds_size_limit=51200):
        self.path = os.path.join(folder, "api.sock")
        self.log_path = os.path.join(folder, "log")
        self.loop = EventLoop()
        self.log = Log("test")
        self.log.update(LoggerConfig(log_path=self.log_path, level="Debug"))
        self.metrics = Metrics(self.log, "test")
        self.factory = FakeFactory()
        self.builder = FakeBuilder()
        self.exit_codes = []
        self.resources = Resources(
            self.factory, instance_id="test", mmds_size_limit=mmds_size_limit
        )
        self.controller = Controller(
            self.resources,
            self.builder,
            self.builder.load,
            version="1.17.0-dev",
            log=self.log,
            metrics=self.metrics,
            periodic=PeriodicMetrics(self.metrics, self.loop),
            on_exit=self.exit_codes.append,
        )
        routes = Routes(self.controller, self.log.named("fc_api"), self.metrics)
        self.server = ApiServer(
            self.loop,
            ApiSocket(self.path),
            routes.handle,
            log=self.log.named("fc_api"),
            payload_limit=payload_limit,
        )
        self.clients = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        self.server.close()
        self.controller.close()
        self.loop.close()
        self.log.close()

    def turn(self, timeout=0.0):
        self.loop.run_once(timeout)

    def connect(self):
        client = Client(self)
        self.clients.append(client)
        self.turn()
        return client

    def log_text(self):
        with open(self.log_path) as log:
            return log.read()

    @property
    def machine(self):
        return self.builder.machine
