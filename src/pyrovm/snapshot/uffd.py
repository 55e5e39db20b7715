"""Guest memory whose pages another process brings: the ``Uffd`` back end of a restore.

Memory is anonymous and registered with a userfaultfd; the handler, another process, gets the
descriptor over its Unix socket and answers the faults (userfaultfd(2)).  One message goes over,
Firecracker's, so that handlers made for it serve us::

    [{"base_host_virt_addr":N,"size":N,"offset":N,"page_size":N,"page_size_kib":N}, ...]

with the descriptor as SCM_RIGHTS; ``page_size_kib`` is in bytes as well.  Nothing else is sent.

We keep the descriptor, too: when the last one is closed, missing pages read as zeros, and a guest
that lost its handler would go on with memory full of holes.  So it hangs at its next fault, any
thread of ours that touches the page with it (also one that holds the interpreter's lock), and
somebody has to end it: the event loop, which has a :class:`Watch`; where that hangs itself, a guard
(:mod:`.guard`).
"""

from __future__ import annotations

import _socket
import os
import select
from struct import pack, unpack

from pyrovm.abi import userfaultfd as abi
from pyrovm.errors import HostError, os_error
from pyrovm.host import mapping
from pyrovm.host.ioctl import ioctl_struct
from pyrovm.snapshot import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.host.mapping import Mapping
    from pyrovm.snapshot.layout import Layout

WORDS_MAX = 1024  # bytes of a handler's last words
CONNECT_TIMEOUT = 5.0  # seconds; a local socket with room in its backlog takes none
_LOAD = "Failed to load guest memory: Error creating guest memory from uffd: "


class Watch:
    """Sees a handler's end.  ``fileno`` becomes readable when :meth:`death` is worth a call.

    A handler may close its connection and serve on, or the process that had listened may leave it
    to another: only the end of both is the end.  Of one whose process cannot be told, the end of
    the connection is all there is to see; the same of one that said why.
    """

    def __init__(self, connection: int, pid: int, pidfd: int) -> None:
        self._connection = connection
        self._pid = pid
        self._pidfd = pidfd
        self._is_closed = False  # the other end of the connection, by all who had it
        self._has_ended = pidfd < 0  # the process that had listened
        self._epoll = select.epoll()
        self._epoll.register(connection, select.EPOLLRDHUP)
        if pidfd >= 0:
            self._epoll.register(pidfd, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def death(self) -> str:
        """Why there is no handler any more; empty while there is one."""
        for fd, _ in self._epoll.poll(0):
            self._epoll.unregister(fd)
            if fd == self._connection:
                self._is_closed = True
            else:
                self._has_ended = True
        if not self._is_closed:
            return ""
        words = self._last_words()
        if words:
            return f"the page-fault handler gives up: {words}"
        if not self._has_ended:
            return ""
        if self._pidfd < 0:
            return "the page-fault handler has closed its connection"
        return f"the page-fault handler (process {self._pid}) has ended"

    def _last_words(self) -> str:
        """Firecracker's handlers say nothing; ours does before it gives a VM up."""
        connection = _socket.socket(fileno=os.dup(self._connection))
        try:
            # They stay where they are: the VMM and its guard both want to know.
            data = connection.recv(WORDS_MAX, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except OSError:  # nothing, or reset
            return ""
        finally:
            connection.close()
        return "".join(c if c.isprintable() else "?" for c in data.decode(errors="replace"))

    def close(self) -> None:
        self._epoll.close()


class Handler:
    """The process that brings pages: ``pid`` is 0 where it cannot be told.

    ``watch`` sees its end, for the event loop.
    """

    def __init__(self, path: str) -> None:
        self._socket = _connect(path)
        self._uffd = -1
        self._guard = 0
        self._pidfd = -1
        found = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        self.pid: int = unpack("3i", found)[0]
        if self.pid > 0:
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:  # it has ended, or seccomp refuses: the connection has to do
                self.pid = 0
        self.watch = self._new_watch()

    def _new_watch(self) -> Watch:
        return Watch(self._socket.fileno(), self.pid, self._pidfd)

    def start_guard(self) -> None:
        """Have this process killed if it hangs after the handler's end; see :mod:`.guard`.

        Raises:
            HostError: no process can be made.
        """
        self._guard = guard.start([self._socket.fileno(), self._pidfd], self._new_watch)

    def hand_over(self, uffd: int, data: bytes) -> None:
        """Send ``data`` with ``uffd``, which is closed with this object.

        Raises:
            HostError: the handler does not take it.
        """
        self._uffd = uffd
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", uffd))]
        try:
            sent = self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
            if sent < len(data):
                self._socket.sendall(data[sent:], _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise _failed("Failed to send file descriptor", "", error) from None

    def stop_faults(self, mappings: Iterable[Mapping]) -> None:
        """Wait for no page any more, whoever does; missing ones are zeros from now on.

        No vCPU may run.  KVM may still wait for a page on behalf of one that is gone (asynchronous
        page faults), and the end of its VM would wait for that, unkillable, without a handler.

        Raises:
            HostError: the kernel refused.
        """
        for each in mappings:
            request = abi.uffdio_range()
            request.start, request.len = each.address, each.size
            ioctl_struct(self._uffd, abi.UFFDIO_UNREGISTER, request, what="UFFDIO_UNREGISTER")

    def close(self) -> None:
        """Let go of the handler; the memory must be gone, or its missing pages become zeros."""
        if self._guard:
            guard.stop(self._guard)
            self._guard = 0
        self.watch.close()
        self._socket.close()
        for fd in (self._pidfd, self._uffd):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._uffd = -1


def restore(path: str, layout: Layout, huge_pages: str = "None") -> tuple[list[Mapping], Handler]:
    """Memory for each range of ``layout``, served by the handler that listens at ``path``.

    ``huge_pages`` is None, Transparent or 2M; with 2M faults are of 2 MiB each.

    Raises:
        HostError: there is no userfaultfd here, no memory, or no handler.
    """
    handler = Handler(path)
    mappings: list[Mapping] = []
    try:
        handler.start_guard()
        mappings.extend(mapping.anonymous(r.size, huge_pages=huge_pages) for r in layout.ranges)
        page_size = mapping.HUGE_PAGE_SIZE if huge_pages == "2M" else mapping.PAGE_SIZE
        uffd = create()
        try:
            for each in mappings:
                register(uffd, each.address, each.size)
        except BaseException:
            os.close(uffd)
            raise
        handler.hand_over(uffd, message(layout, mappings, page_size))
    except BaseException:
        for each in mappings:
            each.close()
        handler.close()
        raise
    return mappings, handler


def message(layout: Layout, mappings: Sequence[Mapping], page_size: int) -> bytes:
    """What the handler is told: where each part of the memory file goes."""
    parts = [
        f'{{"base_host_virt_addr":{each.address},"size":{each.size},"offset":{r.offset},'
        f'"page_size":{page_size},"page_size_kib":{page_size}}}'
        for r, each in zip(layout.ranges, mappings, strict=True)
    ]
    return f"[{','.join(parts)}]".encode()


def create() -> int:
    """A userfaultfd that tells of removed pages, non-blocking, close-on-exec.

    Raises:
        HostError: the kernel has none, or not for us.
    """
    what = f"{_LOAD}Failed to UFFD object"
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        uffd = _open(flags)
    except OSError as error:
        raise HostError(
            f"{what}: {os_error(error)}: /dev/userfaultfd has to be accessible, or the caller "
            "privileged (CAP_SYS_PTRACE), or vm.unprivileged_userfaultfd 1",
            error.errno or 0,
        ) from None
    request = abi.uffdio_api()
    request.api, request.features = abi.UFFD_API, abi.UFFD_FEATURE_EVENT_REMOVE
    try:
        ioctl_struct(uffd, abi.UFFDIO_API, request, what=what)
    except BaseException:
        os.close(uffd)
        raise
    return uffd


def _open(flags: int) -> int:
    import fcntl

    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # before Linux 6.1, in a jail, or not for us: the call has rules of its own
        from pyrovm.host.libc import syscall

        return syscall(abi.__NR_userfaultfd, flags)
    try:
        return fcntl.ioctl(device, abi.USERFAULTFD_IOC_NEW, flags)
    finally:
        os.close(device)


def register(uffd: int, address: int, size: int) -> None:
    """Have faults of missing pages in this range told on ``uffd``.

    Raises:
        HostError: the kernel refused.
    """
    request = abi.uffdio_register()
    request.range.start, request.range.len = address, size
    request.mode = abi.UFFDIO_REGISTER_MODE_MISSING
    what = f"{_LOAD}Failed to register memory address range with the userfaultfd object"
    ioctl_struct(uffd, abi.UFFDIO_REGISTER, request, what=what)


def _connect(path: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise _failed("Failed to connect to UDS Unix stream", path, error) from None
    return connection


def _failed(what: str, path: str, error: OSError) -> HostError:
    if error.errno is None:  # a path that is too long, a time-out
        return HostError(f"{_LOAD}{what}: {path or 'page-fault handler'}: {error}")
    return HostError.wrap(f"{_LOAD}{what}", error)
