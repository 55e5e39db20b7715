"""The state file: what comes back, and what is said of every kind of damage."""

import os
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import HostError, SnapshotError
from pyrovm.snapshot import state, tree

DATA = Path(__file__).parents[2] / "data"
SECTIONS = {
    "config": {"vcpu_count": 2, "drives": [], "name": "ä\0"},
    "memory": {"size": 1 << 20},
    "vm": {"pit": b"\1\2\3", "clock": [1, -2, 2**63]},
    "vcpu.0": {"regs": bytes(range(256)), "msrs": [[16, 2**64 - 1]], "none": None},
    "vcpu.1": {"regs": b"", "share": 0.5},
    "devices": {"block0": {"queues": [{"ready": True}]}},
}

trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text().filter(lambda key: key != tree.BYTES), inner, max_size=4)
    ),
    max_leaves=20,
)


def written(tmp_path, sections=SECTIONS, kind="machine"):
    path = str(tmp_path / "state")
    state.write(path, kind, sections)
    return path


def refusal(data):
    with pytest.raises(SnapshotError) as caught:
        state.parse(bytes(data), "snap")
    return str(caught.value)


def with_head(data, **fields):
    """The file with another head, whose own checksum is right."""
    names = ("magic", "major", "minor", "patch", "kind", "created_ns", "size", "count", "writer")
    values = dict(zip(names, state._HEAD.unpack_from(data), strict=True)) | fields
    head = state._HEAD.pack(*(values[name] for name in names))
    body = head + state._CRC.pack(crc32(head)) + data[state.HEAD_SIZE : -state.CHECKSUM_SIZE]
    return body + state._checksum(body)


@given(trees)
def test_data_comes_back_as_it_was(value):
    assert tree.decode(tree.encode(value)) == value


def test_tuples_come_back_as_lists_and_views_as_bytes():
    assert tree.decode(tree.encode((1, memoryview(b"ab"), bytearray(b"c")))) == [1, b"ab", b"c"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1: 2}, "key 1"),
        ({"a": [{tree.BYTES: 1}]}, r".a[0]: key '$bytes'"),
        ({"a": {"b": object()}}, ".a.b: object"),
        (float("inf"), "inf"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_its_place(value, words):
    with pytest.raises(tree.TreeError) as caught:
        tree.encode(value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NaN",
        b"[1",
        b"1 2",
        b'{"$bytes":[0,1]}',
        b'{"$bytes":3}',
        b'"\xff"',
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
    ],
)
def test_what_is_no_such_data_is_refused(text):
    with pytest.raises(tree.TreeError):
        tree.decode(len(text).to_bytes(4, "little") + text)


def test_a_state_file_comes_back_with_its_facts(tmp_path):
    path = written(tmp_path)
    found = state.read(path)
    assert found.values == SECTIONS
    assert found["vcpu.0"]["regs"] == bytes(range(256))
    assert found.numbered("vcpu.") == [SECTIONS["vcpu.0"], SECTIONS["vcpu.1"]]
    assert found.get("mmds") is None
    assert (found.kind, found.version, found.size) == (
        "machine",
        state.VERSION,
        os.path.getsize(path),
    )
    assert state.read_version(path) == state.VERSION
    with pytest.raises(SnapshotError, match="no section 'mmds'"):
        found["mmds"]


def test_any_flipped_byte_is_found():
    data = state.encode("machine", SECTIONS, created_ns=1)
    for index in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[index] ^= mask
            assert "Failed to load snapshot state from file: " in refusal(damaged)


def test_any_shortened_or_lengthened_file_is_refused():
    data = state.encode("machine", SECTIONS, created_ns=1)
    for size in range(len(data)):
        message = refusal(data[:size])
        expected = "File too short to contain CRC" if size < state.HEAD_SIZE else f"{size} bytes; "
        assert expected in message
    assert "its head says" in refusal(data + b"\0")


def test_damage_names_the_section():
    data = bytearray(state.encode("machine", SECTIONS, created_ns=1))
    at = data.index(bytes(range(256)))
    data[at] ^= 1
    assert "CRC64 validation failed: section vcpu.0" in refusal(data)


def test_sections_that_changed_places_are_found():
    first = state.encode("machine", SECTIONS, created_ns=1)
    swapped = dict(SECTIONS)
    swapped["vcpu.0"], swapped["vcpu.1"] = swapped.pop("vcpu.1"), swapped.pop("vcpu.0")
    second = state.encode("machine", swapped, created_ns=1)
    assert "CRC64 validation failed" in refusal(first[:-8] + second[-8:])


def test_versions_that_are_not_ours_are_refused_by_name(tmp_path):
    data = state.encode("machine", SECTIONS, created_ns=1)
    major, minor, _ = state.VERSION
    for fields, words in (
        ({"major": major + 1}, f"Invalid data version: {major + 1}."),
        ({"major": major - 1}, f"Invalid data version: {major - 1}."),
        ({"minor": minor + 1}, f"Invalid data version: {major}.{minor + 1}."),
    ):
        changed = with_head(data, **fields)
        assert words in refusal(changed)
        (tmp_path / "other").write_bytes(changed)
        assert state.version_text(state.read_version(str(tmp_path / "other"))) in words + "0.0"
    assert state.parse(with_head(data, patch=9)).version == (major, minor, 9)


def test_the_format_is_byte_for_byte_what_it_was(monkeypatch):
    """The file was made by ``state.encode("machine", SECTIONS, created_ns=1)`` of version 1.0.0."""
    golden = DATA / "snapshot-1.0.0.state"
    monkeypatch.setattr(state, "_writer", lambda: "0.1.0")
    assert state.read(str(golden)).values == SECTIONS
    assert state.encode("machine", SECTIONS, created_ns=1) == golden.read_bytes()


def test_an_older_minor_version_loads(monkeypatch):
    data = state.encode("machine", SECTIONS, created_ns=1)
    monkeypatch.setattr(state, "VERSION", (state.VERSION[0], state.VERSION[1] + 3, 0))
    assert state.parse(data).values == SECTIONS


def test_heads_that_lie_are_refused():
    data = state.encode("machine", SECTIONS, created_ns=1)
    assert "kind 9" in refusal(with_head(data, kind=9))
    assert "sections" in refusal(with_head(data, count=100_000))
    assert "no room for its head" in refusal(with_head(data, count=7))
    assert "bytes between the last section" in refusal(with_head(data, count=5))
    assert "is unknown; a program has" in refusal(with_head(data, kind=2))


def test_sections_have_to_be_known_and_complete():
    for sections, words in (
        (SECTIONS | {"secret": 1}, "section 'secret' is unknown"),
        (SECTIONS | {"vcpu.x": 1}, "section 'vcpu.x' is unknown"),
        ({k: v for k, v in SECTIONS.items() if k != "memory"}, "no section 'memory'"),
        ({k: v for k, v in SECTIONS.items() if k != "vcpu.0"}, "no section 'vcpu.'"),
        (SECTIONS | {"vm": {1: 2}}, "section vm: value: key 1"),
    ):
        with pytest.raises(ValueError, match="section") as caught:
            state.encode("machine", sections)
        assert words in str(caught.value)


def test_another_file_is_told_by_its_magic(tmp_path):
    memory = tmp_path / "memory"
    memory.write_bytes(bytes(1 << 16))
    with pytest.raises(SnapshotError, match=r"Magic value does not match arch: 0x0.*memory file"):
        state.read(str(memory))
    with open(memory, "r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(SnapshotError, match="Magic value"):
        state.read(str(memory))


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = written(tmp_path)
    with open(path, "r+b") as file:
        file.truncate(state.STATE_MAX + 1)
    with pytest.raises(SnapshotError, match="10000000 bytes are allowed"):
        state.read(path)
    with pytest.raises(ValueError, match="10000000 are allowed"):
        state.encode("machine", SECTIONS | {"mmds": bytes(state.STATE_MAX)})


def test_a_missing_file_has_firecrackers_words(tmp_path):
    with pytest.raises(HostError) as caught:
        state.read(str(tmp_path / "none"))
    assert str(caught.value) == (
        "Failed to open snapshot file: No such file or directory (os error 2)"
    )
    with pytest.raises(HostError, match="Is a directory"):
        state.read(str(tmp_path))
