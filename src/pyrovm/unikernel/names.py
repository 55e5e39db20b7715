"""The guest's name server, 127.0.0.53: the host's resolver answers its questions, in threads.

Only names that the policy allows are looked up; what the guest is told becomes part of the policy
(:meth:`~pyrovm.unikernel.policy.Policy.pin`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _thread

from pyrovm.unikernel import addresses as ip
from pyrovm.unikernel import dns
from pyrovm.unikernel.policy import normal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.unikernel.policy import Policy

    # Addresses of a name, or None: there is no such name.
    Lookup = Callable[[str], list[int] | None]

LOOKUPS_MAX = 16  # at a time
TIMEOUT_S = 8.0  # longer than libc's 5, in case it asks again
CONVERSATIONS_MAX = 16
CONVERSATION_S = 20.0  # of a TCP connection that says nothing
LOCAL = {"localhost": (ip.LOOPBACK4, ip.LOOPBACK6)}


def lookup(name: str) -> list[int] | None:
    """The host's getaddrinfo.

    Raises:
        OSError: it cannot tell.
    """
    try:
        found = _socket.getaddrinfo(name, None, 0, _socket.SOCK_STREAM)
    except _socket.gaierror as error:
        if error.errno in (_socket.EAI_NONAME, _socket.EAI_NODATA):
            return None
        raise
    return [ip.from_host(entry[4])[0] for entry in found]  # type: ignore[arg-type]


def start_thread(function: Callable[..., None], *arguments: object) -> bool:
    """A thread that no signal is delivered to: they are the vCPU's thread's.  False: no room."""

    def run() -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        function(*arguments)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        return False
    return True


class Names:
    """Answers questions under a policy; ``log`` gets a line for each name that is refused.

    ``hostname`` is the guest's own name: it needs no rule and stands for the guest itself.
    """

    def __init__(
        self,
        policy: Policy,
        log: Callable[[str], None],
        find: Lookup = lookup,
        hostname: str = "localhost",
    ) -> None:
        self._own = normal_name(hostname)
        self._policy = policy
        self._log = log
        self._find = find
        self._lock = _thread.allocate_lock()
        self._running = self._conversations = 0

    def branch(self) -> None:
        """In a forked process: the threads that looked names up are not here."""
        self._lock = _thread.allocate_lock()
        self._running = self._conversations = 0

    def ask(self, data: bytes, answer: Callable[[bytes], None], *, stream: bool = False) -> None:
        """Take a question; ``answer`` is called with the response, now or from another thread."""
        query = dns.parse(data)
        if query is None:
            return
        code, addresses = self._at_once(query)
        if code >= 0:
            answer(dns.response(query, code, addresses, stream=stream))
            return
        with self._lock:
            may_look = self._running < LOOKUPS_MAX
            self._running += may_look
        if may_look and start_thread(self._look_up, query, answer, stream):
            return
        if may_look:
            self._release_lookup()
        answer(dns.response(query, dns.SERVFAIL, stream=stream))

    def _at_once(self, query: dns.Query) -> tuple[int, tuple[int, ...]]:
        """An rcode and addresses; -1 for what must be looked up."""
        name = normal_name(query.name)
        if query.error:
            return query.error, ()
        if name == self._own:
            name = "localhost"
        if name in LOCAL:
            return dns.NOERROR, LOCAL[name]
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return dns.NXDOMAIN, ()  # addresses have no names here
        if not name or not self._policy.allows_name(name):
            self._log(
                f"the program may not ask for the address of {name or '.'}; add --allow {name}"
            )
            return dns.REFUSED, ()
        if query.type not in (dns.A, dns.AAAA):
            return dns.NOERROR, ()  # the host's resolver knows addresses only
        return -1, ()

    def _look_up(self, query: dns.Query, answer: Callable[[bytes], None], stream: bool) -> None:
        """Wait for another thread's getaddrinfo, which cannot be interrupted."""
        result: list[list[int] | None] = []
        done = _thread.allocate_lock()
        done.acquire()

        def find() -> None:
            try:
                result.append(self._find(query.name))
            except OSError:
                pass  # no result: SERVFAIL
            finally:
                self._release_lookup()
                done.release()

        if start_thread(find):
            done.acquire(timeout=TIMEOUT_S)
        else:
            self._release_lookup()
        code, told = dns.SERVFAIL, []
        if result and result[0] is None:
            code = dns.NXDOMAIN
        elif result and result[0] is not None:
            code, told = dns.NOERROR, self._policy.pin(query.name, result[0])
        answer(dns.response(query, code, told, stream=stream))

    def _release_lookup(self) -> None:
        with self._lock:
            self._running -= 1

    def converse(self, connection: _socket.socket) -> None:
        """Serve a TCP connection in a thread, and close it; at once if there are too many."""
        with self._lock:
            may_talk = self._conversations < CONVERSATIONS_MAX
            self._conversations += may_talk
        if not may_talk:
            connection.close()
        elif not start_thread(self._converse, connection):
            self._conversations -= 1
            connection.close()

    def _converse(self, connection: _socket.socket) -> None:
        """Messages have their length in front."""

        def answer(data: bytes) -> None:
            try:
                connection.sendall(len(data).to_bytes(2, "big") + data)
            except OSError:
                pass  # who asked has gone

        try:
            connection.settimeout(CONVERSATION_S)
            while True:
                size = int.from_bytes(_exactly(connection, 2), "big")
                self.ask(_exactly(connection, size), answer, stream=True)
        except OSError:
            pass  # closed, reset, or silent for too long: the conversation is over
        finally:
            connection.close()
            with self._lock:
                self._conversations -= 1


def _exactly(connection: _socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
