"""IP addresses as numbers, as text, and in the guest's struct sockaddr.

An address is a number of 128 bits; an IPv4 address is the IPv6 address ``::ffff:a.b.c.d``, so that
there is one form of each (RFC 4291, 2.5.5.2), whatever the family of the socket that used it.
"""

from __future__ import annotations

from struct import Struct, error

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
V4 = 0xFFFF << 32
V4_MASK = ((1 << 96) - 1) << 32
ALL = (1 << 128) - 1

ANY4, ANY6 = V4, 0
LOOPBACK4, LOOPBACK6 = V4 | 0x7F000001, 1

_IN = Struct("=H2s4s8x")
_IN6 = Struct("=H2s4x16s4x")

# An address and a port.
Endpoint = tuple[int, int]


def is_v4(address: int) -> bool:
    """Whether it is an IPv4 address."""
    return address >> 32 == 0xFFFF


def parse(text: str) -> int:
    """An address from its text; IPv6 without brackets and zone.

    Raises:
        ValueError: it is none.
    """
    if ":" in text:
        return _parse6(text)
    return V4 | _parse4(text)


def _parse4(text: str) -> int:
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(f"{text!r} is no IPv4 address")
    value = 0
    for part in parts:
        # No leading zeros: some read them as octal.
        if not (part.isascii() and part.isdigit()) or len(part) > 3 or (part[0] == "0" != part):
            raise ValueError(f"{text!r} is no IPv4 address")
        if int(part) > 255:
            raise ValueError(f"{text!r} is no IPv4 address")
        value = value << 8 | int(part)
    return value


def _groups(text: str) -> list[int]:
    if not text:
        return []
    words = text.split(":")
    if "." in words[-1]:
        low = _parse4(words.pop())
        tail = [low >> 16, low & 0xFFFF]
    else:
        tail = []
    for word in words:
        if not 1 <= len(word) <= 4 or any(c not in "0123456789abcdefABCDEF" for c in word):
            raise ValueError
    return [int(word, 16) for word in words] + tail


def _parse6(text: str) -> int:
    try:
        head, gap, rest = text.partition("::")
        before, after = _groups(head), _groups(rest)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address") from None
    missing = 8 - len(before) - len(after)
    if missing < 1 if gap else missing:
        raise ValueError(f"{text!r} is no IPv6 address")
    value = 0
    for group in (*before, *([0] * missing), *after):
        value = value << 16 | group
    return value


def text(address: int) -> str:
    """The text of an address; IPv6 with its longest run of zeros left out (RFC 5952)."""
    if is_v4(address):
        return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))
    groups = [f"{address >> shift & 0xFFFF:x}" for shift in range(112, -16, -16)]
    best, start, length = 0, 0, 1
    for at in range(8):
        run = 0
        while at + run < 8 and groups[at + run] == "0":
            run += 1
        if run > max(best, length):
            best, start = run, at
    if not best:
        return ":".join(groups)
    return ":".join(groups[:start]) + "::" + ":".join(groups[start + best :])


def endpoint_text(endpoint: Endpoint) -> str:
    """``1.2.3.4:80`` or ``[2001:db8::1]:80``."""
    address, port = endpoint
    return f"{text(address)}:{port}" if is_v4(address) else f"[{text(address)}]:{port}"


def family_of(sockaddr: bytes) -> int:
    """The family of a guest's struct sockaddr.

    Raises:
        ValueError: it is too short to have one.
    """
    if len(sockaddr) < 2:
        raise ValueError(f"{len(sockaddr)} bytes are no address")
    return int.from_bytes(sockaddr[:2], "little")


def unpack(sockaddr: bytes) -> tuple[int, int, int]:
    """Family, address and port of a struct sockaddr_in or _in6.

    Raises:
        ValueError: it is neither.
    """
    family = family_of(sockaddr)
    try:
        if family == AF_INET:
            _, port, raw = _IN.unpack_from(sockaddr)
            return family, V4 | int.from_bytes(raw, "big"), int.from_bytes(port, "big")
        if family == AF_INET6:
            _, port, raw = _IN6.unpack_from(sockaddr)
            return family, int.from_bytes(raw, "big"), int.from_bytes(port, "big")
    except error:
        raise ValueError(f"{len(sockaddr)} bytes are no address of family {family}") from None
    raise ValueError(f"family {family} has no addresses here")


def pack(family: int, endpoint: Endpoint) -> bytes:
    """The struct sockaddr for a socket of ``family``; what a family cannot express is "any"."""
    address, port = endpoint
    if family == AF_INET:
        low = address & 0xFFFFFFFF if is_v4(address) else 0
        return _IN.pack(family, port.to_bytes(2, "big"), low.to_bytes(4, "big"))
    return _IN6.pack(family, port.to_bytes(2, "big"), address.to_bytes(16, "big"))


def to_host(family: int, endpoint: Endpoint) -> tuple[str, int]:
    """As the host's socket module takes it, for a socket of ``family``."""
    address, port = endpoint
    if family == AF_INET6 and is_v4(address):
        return f"::ffff:{text(address)}", port
    return text(address), port


def from_host(name: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """As the host's socket module gives it."""
    return parse(name[0].partition("%")[0]), name[1]
