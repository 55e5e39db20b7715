"""What the rules of --allow and -p mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.policy import DATAGRAM, STREAM, Policy, parse_rule, special_range

OUTSIDE = ip.parse("93.184.216.34")


def allows(rules, address, port=80):
    return Policy(rules).allows(ip.parse(address), port)


def test_everything_is_denied_without_a_rule():
    assert not allows([], "93.184.216.34")
    assert not Policy().allows_name("example.com")
    assert not Policy().allows_something


@pytest.mark.parametrize(
    ("rule", "address", "port", "expected"),
    [
        ("1.2.3.4", "1.2.3.4", 9, True),
        ("1.2.3.4", "1.2.3.5", 9, False),
        ("1.2.3.4:80", "1.2.3.4", 80, True),
        ("1.2.3.4:80", "1.2.3.4", 81, False),
        ("10.1.0.0/16:53", "10.1.255.1", 53, True),
        ("10.1.0.0/16", "10.2.0.0", 53, False),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("2001:db8::/32", "2001:db8:ffff::1", 1, True),
        ("2001:db8::/32", "2001:db9::", 1, False),
        ("*", "8.8.8.8", 53, True),
        ("*", "2606:4700::1111", 53, True),
        ("*:443", "8.8.8.8", 443, True),
        ("*:443", "8.8.8.8", 80, False),
        ("1.2.3.4", "::ffff:1.2.3.4", 9, True),
    ],
)
def test_rules_of_addresses(rule, address, port, expected):
    assert allows([rule], address, port) is expected


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "100.100.100.200",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",  # 169.254.169.254, through NAT64
    ],
)
def test_special_addresses_need_a_rule_of_their_own(address):
    assert not allows(["*", "0.0.0.0/0", "::/0", "128.0.0.0/1", "0.0.0.0/1"], address)
    if not address.startswith("64:"):
        assert allows([address], address)
        assert not allows([f"{address}:81" if "." in address else f"[{address}]:81"], address)


def test_localhost_names_the_loopback_of_both_families():
    assert allows(["localhost:5432"], "127.0.0.1", 5432)
    assert allows(["localhost:5432"], "::1", 5432)
    assert not allows(["localhost:5432"], "127.0.0.2", 5432)


def test_a_name_stands_for_the_addresses_that_were_told_and_no_others():
    policy = Policy(["Example.COM:443"])
    assert policy.allows_name("example.com.")
    assert not policy.allows_name("www.example.com")
    assert not policy.allows(OUTSIDE, 443)
    assert policy.pin("example.com", [OUTSIDE]) == [OUTSIDE]
    assert policy.allows(OUTSIDE, 443)
    assert not policy.allows(OUTSIDE, 80)
    assert policy.allows_some_port(OUTSIDE)
    assert not policy.allows(OUTSIDE + 1, 443)
    assert policy.suggestion(OUTSIDE, 80) == "--allow example.com:80"


def test_a_domain_has_its_names_but_not_itself():
    policy = Policy(["*.example.com"])
    assert policy.allows_name("a.b.example.com")
    assert not policy.allows_name("example.com")
    assert not policy.allows_name("badexample.com")


def test_a_name_that_points_at_the_host_is_not_followed():
    policy = Policy(["rebind.example", "*"])
    told = policy.pin("rebind.example", [ip.LOOPBACK4, ip.parse("169.254.169.254"), OUTSIDE])
    assert told == [OUTSIDE]
    assert not policy.allows(ip.LOOPBACK4, 80)


def test_pins_are_bounded():
    policy = Policy(["*.example"])
    for number in range(5000):
        policy.pin(f"n{number}.example", [OUTSIDE + number])
    assert policy.allows(OUTSIDE + 4000, 1)
    assert not policy.allows(OUTSIDE + 4999, 1)
    for number in range(100):
        policy.pin(f"n{number}.example", [OUTSIDE])
    assert policy.suggestion(OUTSIDE, 1) == "--allow n99.example:1"


@pytest.mark.parametrize(
    ("text", "kind", "port", "host"),
    [
        ("8080:80", STREAM, 80, "127.0.0.1:8080"),
        ("0.0.0.0:53:53/udp", DATAGRAM, 53, "0.0.0.0:53"),
        ("[::1]:0:80/tcp", STREAM, 80, "[::1]:0"),
    ],
)
def test_published_ports(text, kind, port, host):
    published = Policy(publish=[text]).published(kind, port)
    assert ip.endpoint_text(published.host) == host
    assert Policy(publish=[text]).published(3 - kind, port) is None


@pytest.mark.parametrize(
    ("allow", "publish"),
    [
        *(
            ([rule], [])
            for rule in (
                "",
                ":80",
                "a:",
                "a:b",
                "a:0",
                "a:65536",
                "1.2.3",
                "1.2.3.4/33",
                "1.2.3.4/8",
                "[::1",
                "[::1]80",
                "a b",
                "-/8",
                "*.*",
                "a..b",
                "1.2.3.04",
                "é.example",
            )
        ),
        *(
            ([], [text])
            for text in (
                "",
                "80",
                "a:80",
                "80:0",
                "80:65536",
                ":80:80",
                "x:80:80",
                "1:2/sctp",
                "::1:80:80",
            )
        ),
        ([], ["80:80", "81:80/tcp"]),
    ],
)
def test_rules_that_are_malformed_are_named(allow, publish):
    with pytest.raises(ConfigError) as error:
        Policy(allow, publish)
    assert str(error.value).startswith("--allow " if allow else "-p ")


@given(st.text(max_size=30), st.integers(0, ip.ALL), st.integers(1, 65535))
def test_any_text_is_a_rule_or_an_error_and_never_allows_special_addresses_by_chance(
    text, address, port
):
    try:
        policy = Policy([text])
    except ConfigError:
        return
    for special in (address, ip.V4 | (address & 0xFFFFFFFF)):
        if special_range(special) is not None and policy.allows(special, port):
            assert all(special_range(rule.base) is not None for rule in parse_rule(text))
