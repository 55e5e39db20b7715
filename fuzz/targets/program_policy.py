"""The rules of --allow and -p as text, and what they then allow."""

from __future__ import annotations

from fuzz.source import Source
from pyrovm.errors import ConfigError
from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel.policy import Policy, parse_published, parse_rule, special_range


def one_input(data: bytes) -> None:
    """A rule and an address: special addresses are only allowed by rules of their own range."""
    source = Source(data)
    address = int.from_bytes(source.take(16), "big")
    if source.flag():
        address = ip.V4 | (address & 0xFFFFFFFF)
    assert ip.parse(ip.text(address)) == address
    port = source.u16() or 1
    text = source.rest().decode("utf-8", "replace")
    try:
        published = parse_published(text)
    except ConfigError as error:
        assert str(error).startswith(f"-p {text}: ")
    else:
        assert 0 < published.guest_port < 65536
    try:
        policy = Policy([text])
    except ConfigError as error:
        assert str(error).startswith(f"--allow {text}: ")
        return
    rules = parse_rule(text)
    told = policy.pin("name.example", [address])
    if special_range(address) is not None:
        assert not told
        if policy.allows(address, port):
            assert all(special_range(rule.base) is not None for rule in rules)
    if policy.allows(address, port):
        assert policy.allows_some_port(address)
        assert not Policy().allows(address, port)


def _seed(rule: str, address: str, port: int = 80) -> bytes:
    return (
        ip.parse(address).to_bytes(16, "big") + b"\0" + port.to_bytes(2, "little") + rule.encode()
    )


SEEDS = [
    _seed("*", "127.0.0.1"),
    _seed("1.2.3.4:80", "1.2.3.4"),
    _seed("10.0.0.0/8", "10.1.2.3"),
    _seed("[2001:db8::/32]:443", "2001:db8::1", 443),
    _seed("localhost", "::1"),
    _seed("*.example:80", "93.184.216.34"),
    _seed("[::1]:8080:80/udp", "fe80::1"),
    _seed("127.0.0.1:0:53", "169.254.169.254"),
]
WORDS = (
    b"*",
    b"*.",
    b":",
    b"::",
    b"/",
    b"[",
    b"]",
    b"/udp",
    b"localhost",
    b"0.0.0.0/0",
    b"::/0",
    b"128",
)
