"""``pyrovm fork NAME``: copies of a running program, each a process with a name of its own.

Each gets a folder with what it writes, ``stdout`` and ``stderr``; its input is empty.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pyrovm.errors import ConfigError, HostError
from pyrovm.launcher import passing
from pyrovm.programs import naming, wire
from pyrovm.programs.named import GO

if TYPE_CHECKING:
    import _socket
    import argparse

ANSWER_S = 30.0  # for each copy; the machine may be busy
STREAMS = ("stdout", "stderr")


def is_program(source: str) -> bool:
    """Whether it is a name: no path, and no socket of that name is here."""
    if "/" in source:
        return False
    try:
        return not stat.S_ISSOCK(os.stat(source).st_mode)
    except OSError:
        return True


def fork_program(args: argparse.Namespace) -> int:
    """Make the copies, all or none; the exit status.

    Raises:
        ConfigError: no program of this name runs; an option is for Linux guests.
        HostError: a copy cannot be made.
    """
    for field in ("paused", "tap", "netns", "drive"):
        if getattr(args, field):
            raise ConfigError(f"--{field}: it is for Linux guests, and {args.source} is a program")
    naming.check_name(args.source, "NAME")
    if naming.find(args.source) is None:
        raise ConfigError(
            f"NAME: {args.source!r} given; no program of that name runs ('pyrovm ps' lists them), "
            "and no API socket is there"
        )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a channel is open to each
    into = os.path.abspath(args.into or f"{args.source}.forks")
    copies: list[_Copy] = []
    try:
        for number in _numbers(args.source, into, args.count):
            copy = _Copy(f"{args.source}-{number}", f"{into}/{number}")
            copies.append(copy)
        with closing(naming.connect(args.source, ANSWER_S)) as source:
            for copy in copies:
                copy.ask(source)
        told = [copy.meet() for copy in copies]
    except BaseException as error:
        for copy in copies:
            copy.discard()
        if isinstance(error, ConnectionError):
            raise HostError(f"{args.source} has ended: it cannot be copied") from None
        if isinstance(error, OSError) and not isinstance(error, HostError):
            raise HostError.wrap(f"{args.source} cannot be copied", error) from None
        raise
    for copy in copies:
        copy.let_go()
    _print(told, is_json=args.json)
    return 0


def _numbers(name: str, into: str, count: int) -> list[int]:
    """The lowest that neither a folder nor a VM has."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        is_free = not os.path.lexists(f"{into}/{number}")
        if is_free and naming.find(f"{name}-{number}") is None:
            found.append(number)
        number += 1
    return found


def _print(told: list[dict[str, Any]], *, is_json: bool) -> None:
    if is_json:
        print(json.dumps({"clones": told}))
        return
    for facts in told:
        words = [f"{facts['name']}  pid {facts['pid']}  {facts['folder']}"]
        words += [f"{port} at {at[0]}:{at[1]}" for port, at in facts["ports"].items()]
        print("  ".join(words))


class _Copy:
    """One that is being made."""

    def __init__(self, name: str, folder: str) -> None:
        self._name = naming.check_name(name, "NAME of a copy")
        self._folder = folder
        self._channel: socket.socket | None = None
        os.makedirs(folder, 0o700)

    def ask(self, source: _socket.socket) -> None:
        """Send the request to its source."""
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(ANSWER_S)
        self._channel.sendall(wire.encode([("id", self._name)]))
        fds = [theirs.fileno(), os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        try:
            for name in STREAMS:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                fds.append(os.open(f"{self._folder}/{name}", flags, 0o600))
            passing.send(source, wire.PASS, fds)
        finally:
            for fd in fds[1:]:
                os.close(fd)
            theirs.close()

    def meet(self) -> dict[str, Any]:
        """What it tells when it is there.

        Raises:
            HostError: it cannot be made.
            ConnectionError: its source has ended.
        """
        assert self._channel is not None
        try:
            if self._channel.recv(1) != wire.STARTED:
                raise ConnectionResetError
            news = wire.receive(self._channel.recv)
        except wire.BrokenRecord as error:
            raise HostError(f"{self._name} has ended before it began: {error}") from None
        if "pid" not in news:
            raise HostError(f"{self._name}: {news.get('message', ['it does not say why'])[0]}")
        return {
            "name": self._name,
            "pid": int(news["pid"][0]),
            "generation": int(news["generation"][0]),
            "folder": self._folder,
            "ports": dict(map(_port, news.get("published", ()))),
        }

    def let_go(self) -> None:
        """All are there: it may run, and is on its own."""
        assert self._channel is not None
        try:
            self._channel.sendall(GO)
        except ConnectionError:  # it was killed meanwhile, as it might be a moment later
            pass
        self._channel.close()

    def discard(self) -> None:
        """It is not to be: it ends when its channel is closed."""
        if self._channel is not None:
            self._channel.close()
        for name in STREAMS:
            try:
                os.unlink(f"{self._folder}/{name}")
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self._folder)
        except OSError:  # somebody has put something there: it is theirs
            pass


def _port(text: str) -> tuple[str, tuple[str, int]]:
    protocol, port, address, host_port = text.split(" ")
    return f"{port}/{protocol}", (address, int(host_port))
