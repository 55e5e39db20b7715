"""One order to the lab, carried out: its output passed on, its status brought back."""

from __future__ import annotations

import dataclasses
import math
import os
import secrets
import selectors
import time
from collections.abc import Callable, Mapping, Sequence

from pyrovm.lab.emulator import Emulator
from pyrovm.lab.relay import Relay, Sink

EXIT_TIMEOUT = 124  # as timeout(1) has it
_START_TIMEOUT = 60.0  # seconds from the order to its start; a resumed lab takes a tenth of one
_GRACE = 15.0  # seconds for the lab to end a command that ran too long, and to save its output


@dataclasses.dataclass(frozen=True)
class Order:
    """What the lab is to do."""

    argv: Sequence[str]
    python: bool = False  # a script for the warm interpreter, not a program
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cwd: str = "/job/tree"
    assets: bool = False
    tty: tuple[int, int] | None = None  # rows and columns of the terminal to run on


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How it went."""

    status: int
    wrote: bool  # something to $LAB_OUT
    started: float  # time.monotonic()
    timed_out: bool


def carry_out(
    emulator: Emulator,
    order: Order,
    *,
    timeout: float | None,
    stdout: Sink,
    stderr: Sink,
    silence: float | None = None,
    inputs: Mapping[int, Callable[[], bool]] | None = None,
) -> Outcome:
    """Give ``order`` to a lab that is ready, and stay with it to its end.

    Args:
        timeout: seconds from its start; after it the command is ended, and the status is 124.
            None: no limit.
        silence: seconds without output after which it is as if that time were over.
        inputs: descriptors to watch, and what to call when one is readable; False: no longer.

    Raises:
        LabError: the lab ended without a status.
    """
    token = secrets.token_hex(16)
    emulator.send(
        argv=list(order.argv),
        python=order.python,
        env=dict(order.env),
        cwd=order.cwd,
        assets=order.assets,
        tty=order.tty,
        token=token,
        entropy=os.urandom(32).hex(),
        time_ns=time.time_ns(),
    )
    # The agent ends each stream with the token and a newline
    out, err = Relay(stdout, f"{token}\n".encode()), Relay(stderr, f"{token}\n".encode())
    handlers: dict[int, Callable[[], bool]] = dict(inputs or {})
    handlers[emulator.out.fileno()] = lambda: feed(out, emulator.out.recv(1 << 16))
    handlers[emulator.err.fileno()] = lambda: feed(err, emulator.err.recv(1 << 16))
    events: dict[str, tuple[float, dict[str, object]]] = {}

    deadline = time.monotonic() + _START_TIMEOUT
    timed_out = False
    heard = math.inf  # when there was output, or the start

    def feed(relay: Relay, data: bytes) -> bool:
        nonlocal heard
        heard = time.monotonic()
        relay.feed(data)
        return bool(data)

    def end_of_wait() -> float:
        if silence is None or timed_out:
            return deadline
        return min(deadline, heard + silence)

    def take_events() -> bool:
        nonlocal deadline, heard
        for event in emulator.receive():
            events[str(event["event"])] = time.monotonic(), event
            if event["event"] == "started":
                heard = time.monotonic()
                deadline = math.inf if timeout is None else time.monotonic() + timeout
        return True

    handlers[emulator.ctl.fileno()] = take_events
    with selectors.PollSelector() as selector:  # unlike epoll, it takes files, too
        for fd in handlers:
            selector.register(fd, selectors.EVENT_READ)
        while not ("exit" in events and out.ended and err.ended):
            left = end_of_wait() - time.monotonic()
            if left <= 0 and "started" not in events:
                raise emulator.failure(f"the lab did not start in {_START_TIMEOUT:g} s")
            if left <= 0 and timed_out:
                break  # the lab does not answer any more: what it wrote so far is all there is
            if left <= 0:
                timed_out, deadline = True, time.monotonic() + _GRACE
                emulator.send(event="stop")
                continue
            for ready, _ in selector.select(None if left == math.inf else left):
                if not handlers[ready.fd]():
                    selector.unregister(ready.fd)
    out.flush()
    err.flush()
    end = events["exit"][1] if "exit" in events else {}
    status = EXIT_TIMEOUT if timed_out else int(str(end["status"]))
    return Outcome(status, bool(end.get("out")), events["started"][0], timed_out)
