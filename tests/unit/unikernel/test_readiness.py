"""When a program is ready, and what a branch of it is told."""

import pytest

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError, GuestError
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import initial
from pyrovm.unikernel.outside import Outside
from pyrovm.unikernel.policy import DATAGRAM, STREAM, Policy
from pyrovm.unikernel.readiness import Readiness


class Guest:
    """As much of Calls and Waiting as is looked at: what is written, and pauses."""

    def __init__(self):
        self.pauses = 0
        self.text = b""
        self.waiting = self
        self.handlers = [lambda *_: 0] * abi.PV_CALLS
        self.handlers[abi.PV_WRITE] = lambda _handle, _gpa, count, *_: count

    def ask_pause(self):
        self.pauses += 1

    def pieces(self, _gpa, _count, *, write):
        assert not write
        return [self.text[:1], self.text[1:]]

    def write(self, handle, text, taken=None):
        self.text = text
        size = len(text) if taken is None else taken
        return self.handlers[abi.PV_WRITE](handle, 0, size, abi.PV_IOV_MAX, 0, 0)


def watched(text):
    guest, outside = Guest(), Outside()
    Readiness(text).watch(guest, outside)
    return guest, outside


def test_a_line_is_found_however_it_is_written():
    guest, _ = watched("line:is ready")
    for handle, text in (
        *((1, b"it is"), (2, b" ready"), (3, b"it is ready"), (1, b"")),
        *((1, b" rea"), (2, b"is read")),
    ):
        assert guest.write(handle, text) == len(text)
    assert guest.pauses == 0
    assert guest.write(1, b"dy now") == 6
    assert guest.pauses == 1
    guest.write(1, b"is ready")
    assert guest.pauses == 1


def test_what_the_host_did_not_take_is_not_written():
    guest, _ = watched("line:ready")
    guest.write(1, b"ready", taken=3)
    assert guest.pauses == 0
    guest.write(1, b"dy")
    assert guest.pauses == 1


def test_a_port_is_the_one_that_was_meant_once():
    guest, outside = watched("port:80")
    for port in (8080, 80, 80):
        outside.listens(port)
    assert guest.pauses == 1


def test_the_call_is_answered_and_pauses_once():
    guest, _ = watched("call")
    assert [guest.handlers[abi.PV_READY](0, 0, 0, 0, 0, 0) for _ in range(2)] == [0, 0]
    assert guest.pauses == 1


@pytest.mark.parametrize(
    "text", ["", "line", "line:", "line:a\nb", "port:0", "port:65536", "port:-1", "CALL"]
)
def test_other_conditions_are_refused(text):
    with pytest.raises(ConfigError, match="ready: "):
        Readiness(text)


def news_of(arguments, gpa=0x8000, size=1 << 16):
    view = memoryview(bytearray(size))
    boot = abi.pv_boot()
    boot.news_gpa, boot.news_max, boot.generation = gpa, abi.PV_NEWS_MAX, 77
    initial.write_news(view, boot, arguments)
    return bytes(view[gpa : gpa + boot.news_size])


def test_news_are_the_generation_and_a_line_for_each_argument():
    assert news_of([]) == b"generation 77\n"
    assert news_of(["", "two words", "\udcff"]) == b"generation 77\n\ntwo words\n\xff\n"


@pytest.mark.parametrize("argument", ["a\nb", "a\0b", "x" * abi.PV_NEWS_MAX])
def test_arguments_that_are_no_lines_or_too_long_are_refused(argument):
    with pytest.raises(ConfigError, match="arguments of a branch"):
        news_of([argument])


def test_a_guest_that_has_damaged_its_boot_information_is_told_so():
    with pytest.raises(GuestError, match="which is no RAM"):
        news_of(["x"], gpa=(1 << 16) - 10)


def test_ports_of_a_branch_are_where_it_says_or_anywhere():
    policy = Policy(publish=["127.0.0.1:8080:80", "0.0.0.0:53:53/udp"])
    policy.republish(["127.0.0.2:9000:80", "0:443"])
    where = {
        (kind, port): policy.published(kind, port).host
        for kind, port in ((STREAM, 80), (STREAM, 443), (DATAGRAM, 53))
    }
    assert where == {
        (STREAM, 80): (ip.parse("127.0.0.2"), 9000),
        (STREAM, 443): (ip.LOOPBACK4, 0),
        (DATAGRAM, 53): (ip.parse("0.0.0.0"), 0),
    }
    with pytest.raises(ConfigError):
        policy.republish(["80"])
