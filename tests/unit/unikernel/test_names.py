"""The name server: what it looks up, what it refuses, what it lets the guest connect to."""

import threading

import pytest

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import dns, names
from pyrovm.unikernel.names import LOOKUPS_MAX, Names
from pyrovm.unikernel.policy import Policy
from tests.unit.unikernel.test_dns import code, question

OUTSIDE = ip.parse("93.184.216.34")
WAIT = 20


class Asked:
    """A name server, and what it said."""

    def __init__(self, rules, find, hostname="localhost"):
        self.policy = Policy(rules)
        self.log = []
        self.names = Names(self.policy, self.log.append, find, hostname)

    def ask(self, *words, **options):
        done = threading.Event()
        answers = []

        def answer(data):
            answers.append(data)
            done.set()

        self.names.ask(question(*words, **options), answer)
        assert done.wait(WAIT)
        return answers[0]


def never(_name):
    raise AssertionError("this name must not be looked up")


def test_an_allowed_name_is_looked_up_and_may_be_connected_to_then():
    asked = Asked(["example.com:443"], lambda name: [OUTSIDE] if name == "example.com" else None)
    assert not asked.policy.allows(OUTSIDE, 443)
    assert asked.ask().endswith(OUTSIDE.to_bytes(16, "big")[12:])
    assert asked.policy.allows(OUTSIDE, 443)
    assert asked.log == []


def test_other_names_are_refused_and_the_log_says_what_would_allow_them():
    asked = Asked(["example.com"], never)
    assert code(asked.ask("secret.example.org")) == dns.REFUSED
    assert "--allow secret.example.org" in asked.log[0]


def test_local_names_need_no_rule_and_no_look_up():
    asked = Asked([], never)
    assert asked.ask("localhost").endswith(b"\x7f\0\0\1")
    assert code(asked.ask("1.0.0.127.in-addr.arpa", dns.PTR)) == dns.NXDOMAIN
    assert asked.log == []


def test_the_guests_own_name_is_the_guest():
    asked = Asked([], never, hostname="Web-1")
    assert asked.ask("web-1").endswith(b"\x7f\0\0\1")
    assert code(asked.ask("web-2")) == dns.REFUSED
    assert len(asked.log) == 1


def test_other_types_of_an_allowed_name_are_there_but_empty():
    answer = Asked(["*"], never).ask("example.com", 15)
    assert (code(answer), answer[7]) == (dns.NOERROR, 0)


def test_a_name_that_is_not_there_and_a_resolver_that_fails():
    def fails(_name):
        raise OSError

    assert code(Asked(["*"], lambda _: None).ask()) == dns.NXDOMAIN
    assert code(Asked(["*"], fails).ask()) == dns.SERVFAIL


def test_an_answer_that_points_at_the_host_is_kept_from_the_guest():
    answer = Asked(["*"], lambda _: [ip.LOOPBACK4, ip.parse("169.254.169.254")]).ask()
    assert (code(answer), answer[7]) == (dns.NOERROR, 0)


def test_a_resolver_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(names, "TIMEOUT_S", 0.05)
    stop = threading.Event()
    asked = Asked(["*"], lambda _: stop.wait(WAIT) and None)
    try:
        for _ in range(LOOKUPS_MAX):
            assert code(asked.ask()) == dns.SERVFAIL
        # They still run: there is no place for another one.
        assert code(asked.ask()) == dns.SERVFAIL
        assert asked.names._running == LOOKUPS_MAX
    finally:
        stop.set()


@pytest.mark.parametrize("data", [b"", b"\0" * 11, question(flags=0x8000)])
def test_what_is_no_question_is_dropped(data):
    said = []
    Names(Policy(["*"]), said.append, never).ask(data, said.append)
    assert said == []
