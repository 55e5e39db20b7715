"""Files of snapshots, and what a VM asks a page-fault handler for.

Checksums would keep mutations out of everything behind them: the input is also put where they are
right.
"""

from __future__ import annotations

import json
from zlib import crc32

from fuzz.source import Source
from pyrovm.errors import SnapshotError
from pyrovm.snapshot import compare, faults, state, tree, working_set
from pyrovm.snapshot.layout import Layout

MEMORY = {
    "size": 1 << 20,
    "snapshot_type": "Diff",
    "huge_pages": "None",
    "ranges": [[0, 1 << 19], [1 << 32, 1 << 19]],
    "samples": [[4096, 1]],
    "written": (4096).to_bytes(8, "little") + (8192).to_bytes(8, "little"),
}
SECTIONS = {
    "config": {"vcpu_count": 1},
    "memory": MEMORY,
    "vm": {"pit": b"pit"},
    "vcpu.0": {"regs": bytes(16), "msrs": [[1, 2]]},
    "devices": {},
}
_WHOLE = state.encode("machine", SECTIONS, created_ns=1)


def one_input(data: bytes) -> None:
    """Every reader in turn, on the same bytes."""
    _state(data)
    _state(_with_right_checksums(data))
    _tree(data)
    _working_set(data)
    _parts(data)


def _state(data: bytes) -> None:
    try:
        found = state.parse(data)
    except SnapshotError as error:
        assert str(error).endswith("[state]")
        return
    assert found.size == len(data)
    assert [each.name for each in found.sections] == list(found.values)
    assert compare.sections(found, found) == []
    try:
        layout = Layout.of(found)
    except SnapshotError as error:
        assert str(error).startswith("state: section memory: ")
        return
    assert layout.size == sum(r.size for r in layout.ranges)
    assert Layout.of(found).to_json() == layout.to_json()


def _with_right_checksums(data: bytes) -> bytes:
    """A whole file of which a part is the input: one section, or a section's head, or the head."""
    source = Source(data)
    which = source.below(3)
    if which == 0:
        head = state._HEAD.pack(
            state.MAGIC,
            source.u16(),
            source.u16(),
            source.u16(),
            source.u16(),
            source.u64(),
            source.edge() if source.flag() else len(_WHOLE),
            source.u16(),
            source.blob(24),
        )
        return _sealed(head, _WHOLE[state.HEAD_SIZE : -state.CHECKSUM_SIZE])
    body = bytearray()
    names = list(SECTIONS)
    chosen = source.below(len(names))
    for index, name in enumerate(names):
        payload = tree.encode(SECTIONS[name])
        size = len(payload)
        if index == chosen:
            if which == 1:
                payload = source.rest()
                size = len(payload)
            else:
                size = source.edge()
                name = source.blob(32).decode("latin-1")
        raw_name = name.encode("latin-1", "replace")[:32]
        section = state._SECTION.pack(raw_name, size & (2**64 - 1), crc32(payload))
        body += section + state._CRC.pack(crc32(section)) + payload + bytes(-len(payload) % 8)
    size = state.HEAD_SIZE + len(body) + state.CHECKSUM_SIZE
    head = state._HEAD.pack(state.MAGIC, *state.VERSION, 1, 1, size, len(names), b"fuzz")
    return _sealed(head, bytes(body))


def _sealed(head: bytes, body: bytes) -> bytes:
    data = head + state._CRC.pack(crc32(head)) + body
    return data + state._checksum(data)


def _tree(data: bytes) -> None:
    try:
        value = tree.decode(data)
        again = tree.encode(value)
    except tree.TreeError:
        return
    assert tree.encode(tree.decode(again)) == again


def _working_set(data: bytes) -> None:
    checked = bytearray(data)
    checked[8:12] = crc32(bytes(checked[12:])).to_bytes(4, "little")
    for each in (data, bytes(checked)):
        for start, end in working_set.parse(each, 1 << 20, 1):
            assert 0 <= start < end <= 1 << 20


def _parts(data: bytes) -> None:
    try:
        parts = faults.parts_of(data, 1 << 21)
    except SnapshotError:
        return
    for part in parts:
        assert 0 < part.size <= (1 << 21) - part.offset
        assert len(part.state) * part.page_size == part.size


def _asked() -> bytes:
    part = {"base_host_virt_addr": 4096, "size": 8192, "offset": 4096, "page_size": 4096}
    return json.dumps([part, part]).encode()


def _ranges() -> bytes:
    body = working_set._RANGE.pack(4096, 8192)
    return working_set._HEAD.pack(working_set.MAGIC, 0, 1, 1 << 20, 1) + body


SEEDS = [
    _WHOLE,
    state.encode("program", {k: v for k, v in SECTIONS.items() if k != "devices"}, created_ns=1),
    b"\x00" + bytes(40),
    b"\x01\x01" + tree.encode(MEMORY),
    b"\x02\x01" + bytes(40),
    tree.encode(SECTIONS),
    _asked(),
    _ranges(),
]
WORDS = [
    state.MAGIC,
    working_set.MAGIC,
    b'"$bytes":[0,16]',
    b'"ranges"',
    b'"written":null',
    b"vcpu.1",
    b"2097152",
    b"-1",
    b"1e999",
    b"NaN",
]
