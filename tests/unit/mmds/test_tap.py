"""The stack against a real TCP/IP: the host kernel fetches metadata through a tap.

A thread moves into a network namespace of its own, which vanishes with it, and asks by
``http.client``; the test pumps frames between the tap and the stack, as a network device would.
"""

import ctypes
import fcntl
import http.client
import os
import select
import socket
import struct
import threading
import time

import pytest

from pyrovm.mmds.frames import ETHERTYPE_ARP, ETHERTYPE_IPV4
from tests.unit.mmds.guest import STORE, Guest, mmds_config

CLONE_NEWNET = 0x4000_0000
TUNSETIFF = 0x4004_54CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
IFF_UP = 0x1
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8914, 0x8916, 0x891C, 0x8922
NAME = b"mmds0"
DEADLINE_SECONDS = 20
ADDRESS = "169.254.169.254"

pytestmark = pytest.mark.root


def interface(request, payload):
    """One ioctl on the tap; ``payload`` follows the name in ``struct ifreq``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, request, struct.pack("16s24s", NAME, payload))


def address(text):
    return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(text))


def open_tap(mtu):
    """A tap in this thread's namespace, up, with a link-local address."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", NAME, IFF_TAP | IFF_NO_PI))
    interface(SIOCSIFADDR, address("169.254.1.2"))
    interface(SIOCSIFNETMASK, address("255.255.0.0"))
    interface(SIOCSIFMTU, struct.pack("i", mtu))
    interface(SIOCSIFFLAGS, struct.pack("h", IFF_UP))
    return tap


class Namespace:
    """Runs ``ask()`` in a thread with a network namespace and a tap of its own."""

    def __init__(self, ask, mtu):
        self.tap = -1
        self.result = None
        self.error = None
        self._ask = ask
        self._mtu = mtu
        self.is_up = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
            self.tap = open_tap(self._mtu)
        except OSError as error:
            self.error = error
            return
        finally:
            self.is_up.set()
        try:
            self.result = self._ask()
        except Exception as error:  # the test raises it again
            self.error = error


def fetch(ask, stack, mtu=1500):
    """The result of ``ask()``, whose packets to the service go through ``stack``."""
    namespace = Namespace(ask, mtu)
    namespace.thread.start()
    namespace.is_up.wait()
    if namespace.tap < 0:
        namespace.thread.join()
        pytest.skip(f"no network namespace with a tap here: {namespace.error}")
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while namespace.thread.is_alive() and time.monotonic() < deadline:
            pump(namespace.tap, stack)
        while select.select([namespace.tap], [], [], 0)[0]:  # what the kernel said at the end
            pump(namespace.tap, stack)
    finally:
        os.close(namespace.tap)
        namespace.thread.join(DEADLINE_SECONDS)
    assert not namespace.thread.is_alive()
    if namespace.error is not None:
        raise namespace.error
    return namespace.result


def pump(tap, stack):
    """Carry the frames of one moment in both directions."""
    timeout = stack.next_timeout()
    ready, _, _ = select.select([tap], [], [], min(0.05, 1 if timeout is None else timeout))
    if ready:
        frame = os.read(tap, 65_536)
        taken = stack.detour(memoryview(frame))
        ethertype = int.from_bytes(frame[12:14], "big")
        assert (
            taken
            or ethertype not in (ETHERTYPE_ARP, ETHERTYPE_IPV4)
            or frame[30:34] != (socket.inet_aton(ADDRESS))
        )
    while stack.has_frames:
        os.write(tap, stack.next_frame())


def live_guest(version, value=STORE):
    """A guest whose clock is the real one."""
    clock = lambda: time.monotonic_ns() // 1_000_000  # noqa: E731
    return Guest(mmds_config(version), value, clock, limit_bytes=300_000)


def connection():
    return http.client.HTTPConnection(ADDRESS, timeout=DEADLINE_SECONDS)


def answer(conn, method, path, headers):
    conn.request(method, path, headers=headers)
    response = conn.getresponse()
    return response.status, response.read().decode()


def test_linux_reads_metadata_by_version_1():
    guest = live_guest("V1")

    def ask():
        conn = connection()
        return [
            answer(conn, "GET", "/latest/meta-data/", {}),
            answer(conn, "GET", "/latest/Limits", {"Accept": "application/json"}),
            answer(conn, "GET", "/nothing", {}),
            conn.close(),
        ]

    assert fetch(ask, guest.stack) == [
        (200, "ami-id\ndummy_array\ndummy_empty\ndummy_obj/\nlocal-hostname"),
        (200, '{"CPU":512}'),
        (404, "Resource not found: /nothing."),
        None,
    ]
    assert guest.counters.connections_created == 1
    assert guest.counters.rx_no_token == 3


def test_linux_reads_metadata_by_version_2():
    guest = live_guest("V2")

    def ask():
        conn = connection()
        refused = answer(conn, "GET", "/latest/meta-data/ami-id", {})
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        status, token = answer(conn, "PUT", "/latest/api/token", ttl)
        conn.close()
        other = connection()
        header = {"X-aws-ec2-metadata-token": token}
        found = answer(other, "GET", "/latest/meta-data/ami-id", header)
        other.close()
        return refused[0], status, len(token), found

    assert fetch(ask, guest.stack) == (401, 200, 48, (200, "ami-12345678"))
    assert guest.counters.connections_created == 2


@pytest.mark.parametrize("mtu", [576, 1500, 9000])
def test_linux_reads_answers_larger_than_a_segment_and_larger_than_its_window(mtu):
    large = {"large": "x" * 200_000}
    guest = live_guest("V1", large)

    def ask():
        conn = connection()
        found = [answer(conn, "GET", "/large", {}) for _ in range(2)]
        conn.close()
        return found

    assert fetch(ask, guest.stack, mtu) == [(200, large["large"])] * 2


def test_linux_is_refused_at_other_ports():
    guest = live_guest("V1")

    def ask():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((ADDRESS, 81), DEADLINE_SECONDS)
        return True

    assert fetch(ask, guest.stack)
    assert guest.counters.connections_created == 0


def test_linux_is_served_after_it_has_finished_sending():
    guest = live_guest("V1")

    def ask():
        with socket.create_connection((ADDRESS, 80), DEADLINE_SECONDS) as sock:
            for byte in b"GET /latest/meta-data/ami-id HTTP/1.0\r\n\r\n":
                sock.sendall(bytes((byte,)))
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while piece := sock.recv(65_536):
                received += piece
        return received

    assert fetch(ask, guest.stack).endswith(b"\r\n\r\nami-12345678")
    assert guest.counters.connections_destroyed == 1
