"""Taps: real ones where this machine lets us, and the words of every refusal."""

import fcntl
import os
import select
import socket
from struct import pack

import pytest

from pyrovm.abi import net as abi
from pyrovm.abi import virtio as v
from pyrovm.backends import tap as tap_module
from pyrovm.backends.tap import Tap, offload_flags
from pyrovm.errors import ConfigError, HostError

NAME = f"pyt{os.getpid() % 10**8}"
ETHERTYPE = 0x88B5  # for local experiments


def can_make_taps():
    try:
        Tap(NAME).close()
    except HostError:
        return False
    return True


needs_taps = pytest.mark.skipif(not can_make_taps(), reason="needs /dev/net/tun and CAP_NET_ADMIN")


@pytest.mark.parametrize("name", ["", "a" * 16, "ü" * 8, "a\0b"])
def test_impossible_names_are_refused(name):
    with pytest.raises(ConfigError, match="Invalid interface name"):
        Tap(name)


def test_an_unusable_tun_device_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tap_module, "TUN_DEVICE", str(tmp_path / "tun"))
    with pytest.raises(HostError) as caught:
        Tap("tap0")
    text = f"Couldn't open {tmp_path}/tun: No such file or directory (os error 2)"
    assert str(caught.value) == text


def test_a_refused_attachment_is_explained(monkeypatch):
    monkeypatch.setattr(tap_module, "TUN_DEVICE", "/dev/null")  # knows no TUNSETIFF
    with pytest.raises(HostError) as caught:
        Tap("tap0")
    assert str(caught.value) == (
        "Error while creating ifreq structure: Not a tty (os error 25). "
        "Invalid TUN/TAP Backend provided by tap0. "
        "Check our documentation on setting up the network devices."
    )


def test_segmentation_is_offered_only_with_checksums():
    csum = 1 << v.VIRTIO_NET_F_GUEST_CSUM
    tso = 1 << v.VIRTIO_NET_F_GUEST_TSO4 | 1 << v.VIRTIO_NET_F_GUEST_TSO6
    ufo = 1 << v.VIRTIO_NET_F_GUEST_UFO
    assert offload_flags(0) == 0
    assert offload_flags(tso | ufo) == 0
    assert offload_flags(csum) == abi.TUN_F_CSUM
    assert offload_flags(csum | tso | ufo) == (
        abi.TUN_F_CSUM | abi.TUN_F_TSO4 | abi.TUN_F_TSO6 | abi.TUN_F_UFO
    )


@pytest.fixture
def wire():
    """A tap that is up, and a raw socket on the host's side of it."""
    tap = Tap(NAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, abi.SIOCSIFFLAGS, pack("16sH22x", NAME.encode(), abi.IFF_UP))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as host:
        host.bind((NAME, ETHERTYPE))
        host.settimeout(10)
        yield tap, host
    tap.close()


def frame(payload):
    return b"\xff" * 6 + b"\2\0\0\0\0\1" + ETHERTYPE.to_bytes(2, "big") + payload


@pytest.mark.root
@needs_taps
def test_frames_pass_both_ways_with_a_12_byte_header(wire):
    tap, host = wire
    tap.set_offload((1 << 32) - 1)
    raw = bytes(12) + frame(b"to the host".ljust(60))
    assert tap.writev([memoryview(raw)[:20], memoryview(raw)[20:]]) == len(raw)
    assert host.recv(2048) == raw[12:]

    sent = frame(b"to the guest".ljust(60))
    host.send(sent)
    header, body = bytearray(12), bytearray(2000)
    while True:  # the host's own chatter (IPv6 neighbour discovery) comes the same way
        assert select.select([tap.fd], [], [], 10)[0]
        size = tap.readv([memoryview(header), memoryview(body)])
        if body[12:14] == ETHERTYPE.to_bytes(2, "big"):
            break
    assert bytes(body[: size - 12]) == sent
    while tap.readv([memoryview(body)]) is not None:
        pass


@pytest.mark.root
@needs_taps
def test_a_tap_in_use_is_busy():
    tap = Tap(NAME)
    try:
        with pytest.raises(HostError, match=r"Resource busy \(os error 16\)") as caught:
            Tap(NAME)
        assert caught.value.errno == 16
    finally:
        tap.close()


@pytest.mark.root
@needs_taps
def test_a_multi_queue_tap_is_refused():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    flags = abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR | abi.IFF_MULTI_QUEUE
    fcntl.ioctl(fd, abi.TUNSETIFF, pack("16sH22x", NAME.encode(), flags))
    try:
        with pytest.raises(HostError, match=r"Invalid argument \(os error 22\)\. Invalid TUN/TAP"):
            Tap(NAME)
    finally:
        os.close(fd)
