"""The conversation with the agent, against one that is played by the test."""

import json
import socket
import threading
import time

import pytest

from pyrovm.lab import session
from pyrovm.lab.errors import LabError
from pyrovm.lab.session import Order, carry_out


class PlayedLab:
    """The host's ends of an emulator; ``far`` has the agent's."""

    def __init__(self):
        pairs = {name: socket.socketpair() for name in ("ctl", "out", "err")}
        self.ctl, self.out, self.err = (pair[0] for pair in pairs.values())
        self.far = {name: pair[1] for name, pair in pairs.items()}
        self.agent = self.far["ctl"].makefile("rwb", buffering=0)

    def send(self, **message):
        self.ctl.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        data = self.ctl.recv(65536)
        if not data:
            raise self.failure("the lab ended")
        return [json.loads(line) for line in data.splitlines()]

    def failure(self, what):
        return LabError(what)

    def say(self, **message):
        self.agent.write(json.dumps(message).encode() + b"\n")

    def order(self):
        return json.loads(self.agent.readline())

    def write(self, name, data):
        self.far[name].sendall(data)

    def close(self):
        self.agent.close()
        for each in (self.ctl, self.out, self.err, *self.far.values()):
            each.close()


@pytest.fixture
def lab():
    played = PlayedLab()
    yield played
    played.close()


@pytest.fixture
def play(lab):
    """Run an agent in a thread; it is joined at the end, and what it raised is raised."""
    threads = []

    def start(agent):
        thread = threading.Thread(target=agent, daemon=True)
        thread.start()
        threads.append(thread)

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def run(lab, order=None, timeout=30.0, **more):
    out, err = bytearray(), bytearray()
    outcome = carry_out(
        lab, order or Order(["true"]), timeout=timeout, stdout=out.extend, stderr=err.extend, **more
    )
    return outcome, bytes(out), bytes(err)


def test_an_order_is_given_and_status_and_output_come_back(lab, play):
    seen = {}

    def agent():
        seen.update(lab.order())
        lab.say(event="started")
        lab.write("out", b"text")
        lab.say(event="exit", status=7, out=True)
        end = seen["token"].encode() + b"\n"
        lab.write("out", b" more" + end)
        lab.write("err", b"oops" + end)

    play(agent)
    outcome, out, err = run(lab, Order(["ls", "-l"], env={"A": "b"}, assets=True))
    assert (outcome.status, outcome.wrote, outcome.timed_out) == (7, True, False)
    assert (out, err) == (b"text more", b"oops")
    assert seen["argv"] == ["ls", "-l"]
    assert seen["env"] == {"A": "b"}
    assert seen["assets"] is True
    assert len(bytes.fromhex(seen["entropy"])) == 32


def test_a_command_that_takes_too_long_is_stopped_in_order(lab, play):
    def agent():
        token = lab.order()["token"].encode() + b"\n"
        lab.say(event="started")
        lab.write("out", b"partial")
        assert lab.order() == {"event": "stop"}
        lab.say(event="exit", status=143, out=True)
        lab.write("out", token)
        lab.write("err", token)

    play(agent)
    outcome, out, _ = run(lab, timeout=0.01)
    assert (outcome.status, outcome.timed_out, outcome.wrote) == (124, True, True)
    assert out == b"partial"


def test_a_command_that_is_silent_for_too_long_is_stopped_and_one_that_talks_is_not(lab, play):
    stopped = []

    def agent():
        token = lab.order()["token"].encode() + b"\n"
        lab.say(event="started")
        for _ in range(5):
            time.sleep(0.1)
            lab.write("err", b".")
        stopped.append(lab.order())
        lab.say(event="exit", status=143, out=False)
        lab.write("out", token)
        lab.write("err", token)

    play(agent)
    outcome, _, err = run(lab, silence=0.4)
    assert stopped == [{"event": "stop"}]
    assert (outcome.status, outcome.timed_out) == (124, True)
    assert err == b"....."


def test_a_lab_that_does_not_even_stop_is_given_up(lab, play, monkeypatch):
    monkeypatch.setattr(session, "_GRACE", 0.01)

    def agent():
        lab.order()
        lab.say(event="started")
        lab.write("out", b"partial")

    play(agent)
    outcome, out, _ = run(lab, timeout=0.2)
    assert (outcome.status, outcome.timed_out, outcome.wrote) == (124, True, False)
    assert out == b"partial"


def test_a_lab_that_does_not_start_the_command_is_a_failure(lab, monkeypatch):
    monkeypatch.setattr(session, "_START_TIMEOUT", 0.01)
    with pytest.raises(LabError, match="did not start"):
        run(lab)


def test_a_lab_that_ends_without_a_status_is_a_failure(lab, play):
    def agent():
        lab.order()
        lab.say(event="started")
        lab.agent.close()
        lab.far["ctl"].close()

    play(agent)
    with pytest.raises(LabError, match="ended"):
        run(lab)


def test_other_inputs_are_watched_until_they_say_no(lab, play):
    ours, far = socket.socketpair()
    with ours, far:
        taken = []

        def agent():
            token = lab.order()["token"].encode() + b"\n"
            lab.say(event="started")
            far.sendall(b"key")
            assert lab.agent.readline() == b"it came\n"
            for name in ("out", "err"):
                lab.write(name, token)
            lab.say(event="exit", status=0, out=False)

        def take():
            taken.append(ours.recv(100))
            lab.ctl.sendall(b"it came\n")
            return False

        play(agent)
        outcome, _, _ = run(lab, inputs={ours.fileno(): take})
    assert outcome.status == 0
    assert taken == [b"key"]
