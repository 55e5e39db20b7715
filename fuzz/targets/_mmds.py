"""A metadata service to attack: its store, its clock, and its network stack."""

from __future__ import annotations

from pyrovm.config.mmds import MmdsConfig
from pyrovm.mmds.counters import MmdsCounters
from pyrovm.mmds.service import MetadataService
from pyrovm.mmds.stack import MmdsStack
from pyrovm.mmds.store import DataStore
from pyrovm.mmds.token import TokenAuthority

STORE = {
    "latest": {"meta-data": {"ami-id": "ami-1", "large": "x" * 5000}, "user-data": 1.5},
    "list": ["a", {"b": None}],
    "a/b": {"c~d": "tricky"},
}


class Conversation:
    """``version`` and ``imds_compat`` as in /mmds/config."""

    def __init__(self, version: str = "V1", imds_compat: bool = False) -> None:
        self.now_ms = 1_000
        config = MmdsConfig(network_interfaces=["eth0"], version=version, imds_compat=imds_compat)
        store = DataStore(51_200)
        store.put(STORE)
        tokens = TokenAuthority("fuzz", lambda size: b"\x5a" * size, lambda: self.now_ms)
        self.token = tokens.generate(60)  # always the same: nothing here is random
        self.counters = MmdsCounters()
        self.service = MetadataService(store, config, tokens, self.counters)
        self.stack = MmdsStack(store, config, tokens, lambda: self.now_ms, self.counters)


def split_response(response: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a response."""
    head, separator, body = response.partition(b"\r\n\r\n")
    assert separator
    first, *lines = head.decode().split("\r\n")
    version, status, reason = first.split(" ")
    assert version in ("HTTP/1.0", "HTTP/1.1")
    assert reason == ""
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status), headers, body
