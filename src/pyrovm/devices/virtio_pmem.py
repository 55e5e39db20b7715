"""Persistent memory (virtio 1.2, section 5.19): a file that the guest maps like memory.

The guest reads and writes the file's pages directly; all that reaches the device is the request to
make what was written durable.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import VIRTIO_ID_PMEM, VIRTIO_PMEM_REQ_TYPE_FLUSH
from pyrovm.devices.rate_limiter import RateLimiter
from pyrovm.errors import GuestError, HostError
from pyrovm.virtio.counters import Counters
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyrovm.virtio.device import Activation
    from pyrovm.virtio.queue import Chain

    class PmemBacking(Protocol):
        """The file behind the device."""

        read_only: bool
        size: int  # that the guest sees, in bytes; 0 until it is opened
        file_size: int  # of the file itself, in bytes

        def open(self) -> Any:
            """Open the file: the mapping that the machine puts before the guest."""

        def flush(self) -> None:
            """Make what the guest wrote durable; raises HostError."""

        def close(self) -> None:
            """Release the file."""


CONFIG = Struct("<QQ")  # start, size
WORD_SIZE = 4  # of a request, and of its answer
OK = 0
FAILED = 0xFFFF_FFFF  # -1


class PmemCounters(Counters):
    """The ``pmem`` metrics."""

    __slots__ = (
        "activate_fails",
        "cfg_fails",
        "event_fails",
        "queue_event_count",
        "rate_limiter_event_count",
        "rate_limiter_throttled_events",
    )

    activate_fails: int
    cfg_fails: int
    event_fails: int
    queue_event_count: int
    rate_limiter_event_count: int
    rate_limiter_throttled_events: int


class VirtioPmem(VirtioDevice):
    """A file of the guest.  ``name`` is the API's id; the device owns ``backing``.

    The machine opens the file and says with :meth:`place` where the guest has it, before the
    guest runs.
    """

    device_id = VIRTIO_ID_PMEM

    def __init__(self, name: str, backing: PmemBacking, limiter: RateLimiter | None = None) -> None:
        super().__init__(name)
        self.backing = backing
        self.limiter = limiter or RateLimiter()
        self.counters = PmemCounters()
        self.gpa = 0

    def place(self, gpa: int) -> None:
        """The guest finds the file at ``gpa``."""
        self.gpa = gpa

    def config(self) -> bytes:
        return CONFIG.pack(self.gpa, self.backing.size)

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        super().activate(active)
        self.limiter.attach(active.loop, self._unblocked)

    def deactivate(self) -> None:
        self.limiter.detach()
        super().deactivate()

    def close(self) -> None:
        self.backing.close()

    def update_limiter(self, limiter: RateLimiter, *, bandwidth: bool, ops: bool) -> None:
        """Install the named buckets of ``limiter``; what waits, waits for the timer still."""
        self.limiter.update(limiter, bandwidth=bandwidth, ops=ops)

    def state(self) -> dict[str, Any]:
        return {"gpa": self.gpa, "size": self.backing.size, "limiter": self.limiter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        if state["size"] != self.backing.size:
            raise ValueError(
                f"{self.name}: the file was {state['size']} bytes long, padded, when it was saved; "
                f"it is {self.backing.size}"
            )
        self.gpa = state["gpa"]
        self.limiter.restore(state["limiter"])

    # ------------------------------------------------------------------- queue

    def process(self, index: int) -> None:
        self.counters.queue_event_count += 1
        self._serve()

    def _unblocked(self) -> None:
        self.counters.rate_limiter_event_count += 1
        self._serve()

    def _serve(self) -> None:
        """Answer all that waits, with one flush of the file for all of it.

        The limiter is asked once for that flush: one operation, and as many bytes as the file has.
        Nothing is left for later: a request that comes while this one works rings the bell again.
        """
        active = self.active
        if active is None:
            return
        queue = active.queues[0]
        if not queue.pending:
            return
        if not self.limiter.consume(self.backing.file_size):
            self.counters.rate_limiter_throttled_events += 1
            return
        result: int | None = None
        used: list[tuple[int, int]] = []
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                break
            answer = FAILED
            try:
                kind = parse_request(chain)
            except GuestError:
                self.counters.event_fails += 1
                raise
            if kind == VIRTIO_PMEM_REQ_TYPE_FLUSH:
                if result is None:
                    result = self._flush()
                answer = result
            else:
                self.counters.event_fails += 1
            used.append((chain.head, chain.write(answer.to_bytes(WORD_SIZE, "little"))))
        queue.push_all(used)
        if queue.needs_signal():
            active.interrupts.queue()

    def _flush(self) -> int:
        try:
            self.backing.flush()
        except HostError:
            self.counters.event_fails += 1
            return FAILED
        return OK


def parse_request(chain: Chain) -> int:
    """The type of a request (virtio 1.2, 5.19.6): one word to read, one to write.

    Raises:
        GuestError: it has another form.
    """
    if chain.readable_size != WORD_SIZE or chain.writable_size != WORD_SIZE:
        raise GuestError(
            f"pmem: a request of {chain.readable_size} and an answer of {chain.writable_size} "
            f"bytes; both have {WORD_SIZE}"
        )
    return int.from_bytes(chain.read(0, WORD_SIZE), "little")
