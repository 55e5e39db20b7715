"""The block device (virtio 1.2, section 5.2): one queue of requests, one disk behind an engine.

An engine moves the data between guest memory and the disk.  It may finish a request at once or
later, in any order; the device answers each when it is finished.  What is admitted is decided here:
the rate limiter first, then whether the engine has room, and a wake-up serves only so much, so that
a busy disk leaves the event loop to others.
"""

from __future__ import annotations

from struct import Struct
from time import monotonic_ns

from pyrovm.abi.virtio import (
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK,
    VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT,
    VIRTIO_ID_BLOCK,
    VIRTIO_RING_F_EVENT_IDX,
)
from pyrovm.devices.rate_limiter import RateLimiter
from pyrovm.devices.virtio_block_request import SECTOR_SHIFT, Request, parse_request
from pyrovm.errors import GuestError, StateError
from pyrovm.virtio.counters import Counters, Latency
from pyrovm.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyrovm.virtio.device import Activation, Timer

    class BlockEngine(Protocol):
        """A disk, and how its bytes are moved.  Results are bytes done, or a negative errno."""

        size: int  # of the disk, in bytes
        disk_id: bytes  # up to 20 bytes
        completion_fd: int  # readable when requests have completed; -1: they complete at once
        is_own: bool  # what is written is nowhere but here, and ends with the engine

        @property
        def has_room(self) -> bool:
            """Whether another request may be submitted."""

        def submit(self, request: Request) -> int | None:
            """Perform ``request``; None if it will appear in :meth:`completed`."""

        def start(self) -> None:
            """All requests of a batch are submitted."""

        def completed(self) -> list[tuple[Request, int]]:
            """Requests that have completed since the last call."""

        def drain(self) -> list[tuple[Request, int]]:
            """Wait for every request that was submitted; those not yet seen in ``completed``."""

        def close(self) -> None:
            """Release the disk; waits for what is in flight and forgets it."""


BATCH_REQUESTS = 128  # served in one wake-up
BATCH_BYTES = 8 << 20
UNSAFE, WRITEBACK = "Unsafe", "Writeback"

# Segments of a request: without a word about it Linux takes one, and cuts a MiB into 256 requests.
# Half the queue's descriptors, so that a second request fits beside the longest.
SEG_MAX = 126
_CONFIG = Struct("<QII")  # capacity, size_max (not offered), seg_max


class BlockCounters(Counters):
    """The ``block`` metrics."""

    __slots__ = (
        "activate_fails",
        "cfg_fails",
        "event_fails",
        "execute_fails",
        "flush_count",
        "invalid_reqs_count",
        "io_engine_throttled_events",
        "no_avail_buffer",
        "queue_event_count",
        "rate_limiter_event_count",
        "rate_limiter_throttled_events",
        "read_agg",
        "read_bytes",
        "read_count",
        "remaining_reqs_count",
        "update_count",
        "update_fails",
        "write_agg",
        "write_bytes",
        "write_count",
    )

    activate_fails: int
    cfg_fails: int
    event_fails: int
    execute_fails: int
    flush_count: int
    invalid_reqs_count: int
    io_engine_throttled_events: int
    no_avail_buffer: int
    queue_event_count: int
    rate_limiter_event_count: int
    rate_limiter_throttled_events: int
    read_agg: Latency
    read_bytes: int
    read_count: int
    remaining_reqs_count: int
    update_count: int
    update_fails: int
    write_agg: Latency
    write_bytes: int
    write_count: int


class VirtioBlock(VirtioDevice):
    """A disk.  ``name`` is the drive id; the device owns ``engine`` and closes it.

    ``cache_type`` ``Writeback`` offers FLUSH and makes it durable; ``Unsafe`` does not offer it,
    and a driver that flushes nevertheless is told that it succeeded.
    """

    device_id = VIRTIO_ID_BLOCK
    metrics_group = "block"
    counters: BlockCounters

    def __init__(
        self,
        name: str,
        engine: BlockEngine,
        *,
        read_only: bool = False,
        cache_type: str = UNSAFE,
        limiter: RateLimiter | None = None,
    ) -> None:
        super().__init__(name)
        self.features |= 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_BLK_F_SEG_MAX
        if read_only:
            self.features |= 1 << VIRTIO_BLK_F_RO
        if cache_type == WRITEBACK:
            self.features |= 1 << VIRTIO_BLK_F_FLUSH
        self.read_only = read_only
        self.cache_type = cache_type
        self.limiter = limiter or RateLimiter()
        self.counters = BlockCounters()
        self._engine = engine
        self._engine_full = False
        self._again: Timer | None = None  # fires at once: work was left for the next round

    @property
    def sectors(self) -> int:
        """The capacity in sectors of 512 bytes; a tail shorter than one is invisible."""
        return self._engine.size >> SECTOR_SHIFT

    def config(self) -> bytes:
        return _CONFIG.pack(self.sectors, 0, SEG_MAX)

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        super().activate(active)
        self._engine_full = False
        self._again = active.loop.timer(self._serve)
        self.limiter.attach(active.loop, self._unblocked)
        self._watch_engine(active)

    def _watch_engine(self, active: Activation) -> None:
        if self._engine.completion_fd >= 0:
            active.loop.watch(self._engine.completion_fd, self._engine_ready)

    def pause(self) -> None:
        self._drain()

    def deactivate(self) -> None:
        active = self.active
        if active is not None:
            # The driver takes its memory back: nothing may still be writing to it.  Nobody
            # waits for the answers any more.
            for request, _ in self._engine.drain():
                self._mark_dirty(request)
            active.loop.unwatch(self._engine.completion_fd)
        if self._again is not None:
            self._again.disarm()
            self._again = None
        self._engine_full = False  # what waited for room is the old driver's
        self.limiter.detach()
        super().deactivate()

    def close(self) -> None:
        self._engine.close()

    @property
    def has_own_disk(self) -> bool:
        """Whether the disk is a clone's own, which cannot outlive it."""
        return self._engine.is_own

    def state(self) -> dict[str, Any]:
        if self.has_own_disk:
            raise StateError(
                "Devices without snapshot support are present: "
                f"block(id: {self.name}), whose disk is this clone's own"
            )
        self._drain()
        return {"limiter": self.limiter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.limiter.restore(state["limiter"])

    # ------------------------------------------------------------ live updates

    def update_engine(self, engine: BlockEngine) -> None:
        """Go on with another disk: the driver is told of the new capacity."""
        old, active = self._engine, self.active
        self._drain()
        self._engine = engine
        if active is not None:
            active.loop.unwatch(old.completion_fd)
            self._watch_engine(active)
            active.interrupts.config()
        old.close()
        self.counters.update_count += 1

    def update_limiter(self, limiter: RateLimiter, *, bandwidth: bool, ops: bool) -> None:
        """Install the named buckets of ``limiter``; what waits, waits for the timer still."""
        self.limiter.update(limiter, bandwidth=bandwidth, ops=ops)
        self.counters.update_count += 1

    # ---------------------------------------------------------------- requests

    def process(self, index: int) -> None:
        counters = self.counters
        counters.queue_event_count += 1
        if self.limiter.is_blocked:
            counters.rate_limiter_throttled_events += 1
        elif self._engine_full:
            counters.io_engine_throttled_events += 1
        else:
            self._serve()

    def _unblocked(self) -> None:
        self.counters.rate_limiter_event_count += 1
        if not self._engine_full:
            self._serve()

    def _serve(self) -> None:
        """Serve a batch.  hot: per batch."""
        active = self.active
        if active is None:
            return
        queue, engine, counters = active.queues[0], self._engine, self.counters
        sectors, read_only = self.sectors, self.read_only
        bytes_left = BATCH_BYTES
        if not queue.pending:
            counters.no_avail_buffer += 1
        queue.disable_notifications()
        try:
            for _ in range(BATCH_REQUESTS):
                chain = queue.pop()
                if chain is None:
                    if not queue.enable_notifications():
                        break
                    queue.disable_notifications()
                    continue
                counters.remaining_reqs_count += queue.pending
                request = parse_request(chain, sectors, read_only)
                if request.answer != VIRTIO_BLK_S_OK:
                    self._answer(request, request.answer, 0)
                    continue
                if not self._admit(request):
                    queue.undo_pop()
                    break
                result = self._perform(request)
                if result is not None:
                    self._finish(request, result)
                bytes_left -= request.size
                if bytes_left < 0:
                    self._serve_again()
                    break
            else:
                self._serve_again()
        except GuestError:
            counters.execute_fails += 1
            raise
        engine.start()
        if queue.needs_signal():
            active.interrupts.queue()

    def _serve_again(self) -> None:
        assert self._again is not None
        self._again.arm(0.0)

    def _admit(self, request: Request) -> bool:
        """Whether ``request`` may be performed now; if not, something will call ``_serve``."""
        counters = self.counters
        if not self._engine.has_room:
            self._engine_full = True
            counters.io_engine_throttled_events += 1
            return False
        moves = request.kind in (VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT)
        if not self.limiter.consume(request.size if moves else 0):
            counters.rate_limiter_throttled_events += 1
            return False
        return True

    def _perform(self, request: Request) -> int | None:
        """The result, or None while the engine works on it.  hot: per request."""
        kind = request.kind
        request.started_ns = monotonic_ns()
        if kind == VIRTIO_BLK_T_GET_ID:
            disk_id = self._engine.disk_id.ljust(request.size, b"\0")
            return request.chain.write(disk_id[: request.size])
        if kind == VIRTIO_BLK_T_FLUSH and self.cache_type != WRITEBACK:
            return 0
        return self._engine.submit(request)

    def _finish(self, request: Request, result: int) -> None:
        """Count and answer a request that was performed.  hot: per request."""
        counters, kind, size = self.counters, request.kind, request.size
        if result != size:  # an errno, or fewer bytes than the disk should have
            self._answer(request, VIRTIO_BLK_S_IOERR, 0)
            return
        if kind == VIRTIO_BLK_T_IN:
            counters.read_bytes += size
            counters.read_count += 1
            counters.read_agg.add(monotonic_ns() - request.started_ns)
        elif kind == VIRTIO_BLK_T_OUT:
            counters.write_bytes += size
            counters.write_count += 1
            counters.write_agg.add(monotonic_ns() - request.started_ns)
            size = 0
        elif kind == VIRTIO_BLK_T_FLUSH:
            counters.flush_count += 1
        self._answer(request, VIRTIO_BLK_S_OK, size)

    def _answer(self, request: Request, status: int, written: int) -> None:
        """Set the status byte, after ``written`` bytes of data, and give the chain back."""
        active = self.active
        assert active is not None
        if status != VIRTIO_BLK_S_OK:
            self.counters.invalid_reqs_count += 1
        request.status[0] = status
        active.queues[0].push(request.chain.head, written + 1)

    # ------------------------------------------------------------- completions

    def _engine_ready(self, _events: int) -> None:
        self._complete(self._engine.completed())
        if self._engine_full and self._engine.has_room:
            self._engine_full = False
            self._serve()

    def _drain(self) -> None:
        self._complete(self._engine.drain())
        if self._engine_full:
            self._engine_full = False
            self._serve_again()

    def _complete(self, done: list[tuple[Request, int]]) -> None:
        active = self.active
        if active is None or not done:
            return
        for request, result in done:
            self._mark_dirty(request)
            self._finish(request, result)
        if active.queues[0].needs_signal():
            active.interrupts.queue()

    def _mark_dirty(self, request: Request) -> None:
        """Mark what the engine wrote: popping did so too, maybe before the log was last read."""
        assert self.active is not None
        memory = self.active.memory
        if memory.tracks_dirty:
            chain = request.chain
            for gpa, view in zip(chain.writable_at, chain.writable, strict=True):
                memory.mark_dirty(gpa, len(view))
