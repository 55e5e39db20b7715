"""The host's side of a Solo5 guest: files, taps, the clock, standard output, and sleeping."""

from __future__ import annotations

import os
import select
from struct import Struct
from time import monotonic_ns, time_ns

from pyrovm.abi.net import (
    IFF_NO_PI,
    IFF_TAP,
    IFF_UP,
    IFNAMSIZ,
    SIOCGIFFLAGS,
    SIOCGIFMTU,
    TUNSETIFF,
)
from pyrovm.errors import ConfigError, HostError, os_error
from pyrovm.host.ioctl import ioctl_buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STDOUT = 1
TUN_DEVICE = "/dev/net/tun"
DEFAULT_MTU = 1500  # bytes; of a passed descriptor, which has no interface to ask
MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 512, 32768  # a power of two in 16 bits
MAX_DESCRIPTOR = 1023  # select(2)'s bound
MAX_SLEEP_NS = 3600 * 10**9  # for one system call; longer sleeps are several

_IFREQ_FLAGS = Struct("<16sH22x")
_IFREQ_INT = Struct("<16si20x")


class BlockFile:
    """A file or block device as a guest's disk.  It closes with ``close``.

    Raises:
        HostError: it cannot be opened for reading and writing.
        ConfigError: its size is not a number of blocks.
    """

    def __init__(
        self, name: str, path: str, block_size: int, warn: Callable[[str], object]
    ) -> None:
        self._name = name
        self._warn = warn
        self.block_size = block_size
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"Could not open block device: {path}: {os_error(error)}", error.errno or 0
            ) from None
        try:
            self.capacity = os.lseek(self._fd, 0, os.SEEK_END)
            if self.capacity < block_size or self.capacity % block_size:
                raise ConfigError(
                    f"{path}: the backing storage has {self.capacity} bytes, a multiple of the "
                    f"block size, {block_size} bytes, is needed, and at least one block"
                )
        except OSError as error:
            self.close()
            raise HostError.wrap(f"{path}: Could not determine capacity", error) from None
        except ConfigError:
            self.close()
            raise

    def read(self, view: memoryview, offset: int) -> bool:
        """Fill ``view`` from ``offset`` on; False where the host could not."""
        return self._all(os.preadv, view, offset, "read")

    def write(self, view: memoryview, offset: int) -> bool:
        """Write ``view`` at ``offset``; False where the host could not."""
        return self._all(os.pwritev, view, offset, "write")

    def _all(
        self,
        transfer: Callable[[int, list[memoryview], int], int],
        view: memoryview,
        offset: int,
        what: str,
    ) -> bool:
        done, size = 0, len(view)
        while done < size:
            try:
                count = transfer(self._fd, [view[done:]], offset + done)
            except OSError as error:
                self._warn(f"block device {self._name}: {what} at {offset}: {os_error(error)}")
                return False
            if count == 0:
                self._warn(f"block device {self._name}: {what} at {offset}: the file got shorter")
                return False
            done += count
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NetPort:
    """A non-blocking descriptor that carries one Ethernet frame a read or write."""

    def __init__(self, name: str, fd: int, mtu: int) -> None:
        self._name = name
        self.fd = fd
        self.mtu = mtu

    def read(self, view: memoryview) -> int:
        """One frame into ``view``; its size, 0 where none waits.

        Raises:
            HostError: the interface is gone.
        """
        try:
            return os.readv(self.fd, [view])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise HostError.wrap(f"network device {self._name}: cannot read", error) from None

    def write(self, view: memoryview) -> bool:
        """Send one frame; False where the host cannot take it now.

        Raises:
            HostError: the interface is gone, or took a part of the frame only.
        """
        try:
            sent = os.writev(self.fd, [view])
        except BlockingIOError:
            return False
        except OSError as error:
            raise HostError.wrap(f"network device {self._name}: cannot write", error) from None
        if sent != len(view):
            raise HostError(
                f"network device {self._name}: wrote only {sent} out of {len(view)} bytes"
            )
        return True

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_net(name: str, target: str) -> NetPort:
    """The port of ``--net:NAME=TARGET``: an existing tap that is up, or ``@`` and a descriptor.

    Raises:
        ConfigError: ``target`` can be neither.
        HostError: there is no such tap for us, or no such descriptor.
    """
    if target.startswith("@"):
        number = target[1:]
        if not (number.isascii() and number.isdigit()) or int(number) > MAX_DESCRIPTOR:
            raise ConfigError(
                f"--net:{name}={target}: a descriptor from 0 to {MAX_DESCRIPTOR} is expected "
                "behind @"
            )
        try:
            os.set_blocking(int(number), False)
            os.set_inheritable(int(number), False)
        except OSError as error:
            raise HostError.wrap(f"Could not attach interface: {target}", error) from None
        return NetPort(name, int(number), DEFAULT_MTU)
    raw = target.encode()
    if not 0 < len(raw) < IFNAMSIZ:
        raise ConfigError(
            f"--net:{name}={target}: an interface's name has 1 to {IFNAMSIZ - 1} bytes"
        )
    # TUNSETIFF would make an interface that does not exist: nobody would be at its other end.
    mtu = _interface_mtu(target, raw)
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostError.wrap(f"Couldn't open {TUN_DEVICE}", error) from None
    try:
        request = bytearray(_IFREQ_FLAGS.pack(raw, IFF_TAP | IFF_NO_PI))
        ioctl_buffer(fd, TUNSETIFF, request, what=f"Could not attach interface: {target}")
    except HostError:
        os.close(fd)
        raise
    return NetPort(name, fd, mtu)


def _interface_mtu(name: str, raw: bytes) -> int:
    """The MTU of an interface that is up."""
    import _socket

    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        what = f"Could not attach interface: {name}"
        request = bytearray(_IFREQ_FLAGS.pack(raw, 0))
        ioctl_buffer(control.fileno(), SIOCGIFFLAGS, request, what=what)
        if not _IFREQ_FLAGS.unpack(request)[1] & IFF_UP:
            raise HostError(f"{what}: the interface is down")
        request = bytearray(_IFREQ_INT.pack(raw, 0))
        ioctl_buffer(control.fileno(), SIOCGIFMTU, request, what=what)
        mtu: int = _IFREQ_INT.unpack(request)[1]
        return mtu
    finally:
        control.close()


class HostSide:
    """Clock, console and sleep.

    ``nets`` are the network devices by handle; ``interrupt_fd`` ends any sleep once readable.
    """

    def __init__(self, nets: Mapping[int, NetPort], interrupt_fd: int) -> None:
        self._nets = nets
        self._interrupt_fd = interrupt_fd

    def wall_clock(self) -> int:
        """Nanoseconds since 1970."""
        return time_ns()

    def write_console(self, data: memoryview) -> None:
        """Write to standard output, unbuffered and to the last byte.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        while data:
            try:
                data = data[os.write(STDOUT, data) :]
            except BlockingIOError:
                select.select([], [STDOUT], [])

    def wait(self, timeout_ns: int) -> list[int]:
        """Sleep until a network device is readable or the time is up; the readable handles."""
        deadline = monotonic_ns() + timeout_ns
        by_fd = {port.fd: handle for handle, port in self._nets.items()}
        watched = [*by_fd, self._interrupt_fd]
        while True:
            left = max(0, deadline - monotonic_ns())
            ready, _, _ = select.select(watched, [], [], min(left, MAX_SLEEP_NS) / 1e9)
            if ready or left <= MAX_SLEEP_NS:
                return [by_fd[fd] for fd in ready if fd in by_fd]
