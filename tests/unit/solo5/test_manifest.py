"""Manifests: what an image declares, or which rule it breaks."""

from struct import unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.solo5 import manifest as mft
from tests.fakes.solo5_guest import entry, manifest

NAMES = st.from_regex(r"[A-Za-z0-9]{1,67}", fullmatch=True)


def test_devices_have_their_index_as_handle():
    found = mft.parse(manifest((b"disk", 1), (b"net0", 2), (b"net1", 2))).devices
    assert [(d.handle, d.name, d.kind) for d in found] == [
        (1, "disk", mft.BLOCK),
        (2, "net0", mft.NET),
        (3, "net1", mft.NET),
    ]
    assert mft.parse(manifest()).devices == []


def test_a_name_may_be_that_of_a_device_of_the_other_kind():
    both = mft.parse(manifest((b"a", 1), (b"a", 2)))
    assert (both.find("a", mft.BLOCK).handle, both.find("a", mft.NET).handle) == (1, 2)
    assert both.find("b", mft.NET) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "manifest of 0 bytes"),
        (manifest(version=2), "manifest version 2, 1 expected"),
        (manifest(count=0), "manifest with 0 entries, 1 to 64 allowed"),
        (manifest(count=65), "manifest with 65 entries"),
        (manifest(count=2), "manifest of 112 bytes, 216 expected for 2 entries"),
        (manifest() + b"\0", "manifest of 113 bytes, 112 expected"),
        (manifest()[:8] + entry(b"", 1), "entry 0 is not the reserved one"),
        (manifest()[:8] + entry(b"x", 1 << 30), "entry 0 is not the reserved one"),
        (manifest((b"", 1)), "entry 1: b'' is no name"),
        (manifest((b"a-b", 1)), "entry 1: b'a-b' is no name"),
        (manifest((b"\xe4", 1)), "is no name"),
        (manifest((b"a" * 68, 1)), "entry 1: the name is longer than 67 bytes"),
        (manifest((b"a", 3)), "entry 1: type 0x3 is neither block (1) nor network (2)"),
        (manifest((b"a", 1 << 30)), "entry 1: type 0x40000000"),
        (manifest((b"a", 1), (b"a", 1)), "entry 2: 'a' is declared twice"),
        (manifest(count=2) + entry(b"a", 1, attached=1), "entry 1: the image says"),
    ],
)
def test_a_broken_rule_is_named(data, message):
    with pytest.raises(mft.ManifestError) as raised:
        mft.parse(data)
    assert message in str(raised.value)


def test_the_guest_finds_what_the_host_filled_in_and_nothing_of_the_hosts_own():
    image = mft.parse(manifest((b"disk", 1), (b"net0", 2)))
    disk, net = image.devices
    disk.capacity, disk.block_size, disk.attached = 1 << 33, 4096, True
    net.mac, net.mtu, net.attached = bytes.fromhex("02000000002a"), 9000, True
    packed = image.pack()
    assert unpack_from("<II", packed) == (1, 3)
    assert packed[8:112] == entry(b"", 1 << 30)
    assert unpack_from("<68sIQH6x8sB", packed, 112) == (
        b"disk".ljust(68, b"\0"), 1, 1 << 33, 4096, bytes(8), 1
    )  # fmt: skip
    assert unpack_from("<68sI6sH8x8sB", packed, 216) == (
        b"net0".ljust(68, b"\0"), 2, bytes.fromhex("02000000002a"), 9000, bytes(8), 1
    )  # fmt: skip


@given(st.lists(st.tuples(NAMES, st.sampled_from([1, 2])), max_size=63, unique=True))
def test_every_legal_manifest_is_read_as_it_was_written(devices):
    found = mft.parse(manifest(*((name.encode(), kind) for name, kind in devices)))
    assert [(d.name, d.kind) for d in found.devices] == devices
    assert mft.parse(found.pack()).pack() == found.pack(), "unattached, it is an image's again"


@given(st.binary(max_size=400))
def test_any_bytes_give_a_manifest_or_a_named_error(data):
    try:
        found = mft.parse(data)
    except mft.ManifestError:
        return
    assert found.pack()[:8] == data[:8]
