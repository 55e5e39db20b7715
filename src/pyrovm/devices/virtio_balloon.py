"""The balloon (virtio 1.2, section 5.5): memory that the guest lends back to the host.

Besides inflate and deflate there are up to three more queues, for statistics, for hinting and for
reporting of free pages.  A queue whose feature the driver did not take does not exist, and those
behind it move up: that is how Linux numbers them, whatever the specification's table says.

What becomes of memory is the machine's: :attr:`VirtioBalloon.release` gives whole pages back to
the host.  A page is released before the driver gets its request back, so nothing that the guest
writes afterwards is lost.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import (
    VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
    VIRTIO_BALLOON_F_FREE_PAGE_HINT,
    VIRTIO_BALLOON_F_REPORTING,
    VIRTIO_BALLOON_F_STATS_VQ,
    VIRTIO_ID_BALLOON,
)
from pyrovm.devices.virtio_balloon_hinting import Hinting
from pyrovm.devices.virtio_balloon_pages import (
    MAX_PAGES,
    PAGES_PER_MIB,
    in_memory,
    mib_to_pages,
    pages,
    parse_pfns,
    whole_pages,
)
from pyrovm.devices.virtio_balloon_stats import parse_stats
from pyrovm.errors import ConfigError, GuestError, HostError, StateError
from pyrovm.virtio.counters import Counters
from pyrovm.virtio.device import QUEUE_SIZE, VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrovm.devices.virtio_balloon_pages import Range
    from pyrovm.virtio.device import Activation, Timer
    from pyrovm.virtio.queue import Chain, Queue

    Release = Callable[[int, int], object]

CONFIG = Struct("<III")  # num_pages, actual, free_page_hint_cmd_id
ACTUAL_OFFSET = 4
BATCH_PFNS = 2048  # inflated in one wake-up, give or take one request
BATCH_RANGES = 256  # hinted at or reported in one wake-up, give or take one request


class BalloonCounters(Counters):
    """The ``balloon`` metrics."""

    __slots__ = (
        "activate_fails",
        "deflate_count",
        "event_fails",
        "free_page_hint_count",
        "free_page_hint_fails",
        "free_page_hint_freed",
        "free_page_report_count",
        "free_page_report_fails",
        "free_page_report_freed",
        "inflate_count",
        "stats_update_fails",
        "stats_updates_count",
    )

    activate_fails: int
    deflate_count: int
    event_fails: int
    free_page_hint_count: int
    free_page_hint_fails: int
    free_page_hint_freed: int
    free_page_report_count: int
    free_page_report_fails: int
    free_page_report_freed: int
    inflate_count: int
    stats_update_fails: int
    stats_updates_count: int


class VirtioBalloon(VirtioDevice):
    """A balloon of ``amount_mib``; ``stats_interval_s`` 0 switches statistics off for good.

    ``release`` is the machine's, set before the guest runs: it is called with the gpa and size of
    whole pages in memory, and raises HostError where the host keeps them.
    """

    device_id = VIRTIO_ID_BALLOON

    def __init__(
        self,
        amount_mib: int = 0,
        *,
        deflate_on_oom: bool = False,
        stats_interval_s: int = 0,
        free_page_hinting: bool = False,
        free_page_reporting: bool = False,
    ) -> None:
        super().__init__("balloon")
        queues = 2
        for offered, bit, has_queue in (
            (deflate_on_oom, VIRTIO_BALLOON_F_DEFLATE_ON_OOM, False),
            (stats_interval_s > 0, VIRTIO_BALLOON_F_STATS_VQ, True),
            (free_page_hinting, VIRTIO_BALLOON_F_FREE_PAGE_HINT, True),
            (free_page_reporting, VIRTIO_BALLOON_F_REPORTING, True),
        ):
            if offered:
                self.features |= 1 << bit
                queues += has_queue
        self.queue_sizes = (QUEUE_SIZE,) * queues
        self.counters = BalloonCounters()
        self.release: Release = _release_nothing
        self.stats_interval_s = stats_interval_s
        self.num_pages = mib_to_pages(amount_mib)
        self.actual_pages = 0
        self._hinting = Hinting()
        self._stats: dict[str, int] = {}
        self._stats_head: int | None = None  # the driver's buffer, kept until the next poll
        self._stats_timer: Timer | None = None
        self._again: Timer | None = None  # fires at once: work was left for the next round
        self._roles: list[Callable[[Queue], bool]] = []
        self._left: set[int] = set()

    # ----------------------------------------------------------- configuration

    def config(self) -> bytes:
        return CONFIG.pack(self.num_pages, self.actual_pages, self._hinting.host_cmd)

    def write_config(self, offset: int, data: bytes) -> None:
        # Only ``actual`` is the driver's to write (virtio 1.2, 5.5.6).
        start = offset - ACTUAL_OFFSET
        if start >= 0 and start + len(data) <= 4:
            actual = bytearray(self.actual_pages.to_bytes(4, "little"))
            actual[start : start + len(data)] = data
            self.actual_pages = int.from_bytes(actual, "little")

    @property
    def amount_mib(self) -> int:
        """The target in MiB."""
        return self.num_pages // PAGES_PER_MIB

    # ----------------------------------------------------------- for the API

    def update_size(self, amount_mib: int) -> None:
        """Set a new target.

        Raises:
            StateError: no driver is there to follow it.
            ConfigError: it is more than the guest has, or than 32 bits of pages.
        """
        active = self._driver()
        memory_mib = active.memory.size >> 20
        if amount_mib > memory_mib:
            raise ConfigError(f"Requested memory should be less than {memory_mib}MiB")
        self.num_pages = mib_to_pages(amount_mib)
        active.interrupts.config()

    def update_stats_interval(self, interval_s: int) -> None:
        """Poll every ``interval_s`` seconds, first now.

        Raises:
            StateError: this would switch statistics on or off.
        """
        if interval_s == self.stats_interval_s:
            return
        if not interval_s or not self.stats_interval_s:
            raise StateError("Statistics cannot be enabled/disabled after activation.")
        self.stats_interval_s = interval_s
        if self._stats_timer is not None:
            self._stats_timer.arm(0.0)

    def stats(self) -> dict[str, int]:
        """The sizes, and whatever the guest has reported so far.

        Raises:
            StateError: statistics are off.
        """
        if not self.stats_interval_s:
            raise StateError("Received stats query when stats are disabled.")
        return {
            "target_pages": self.num_pages,
            "actual_pages": self.actual_pages,
            "target_mib": self.num_pages // PAGES_PER_MIB,
            "actual_mib": self.actual_pages // PAGES_PER_MIB,
            **self._stats,
        }

    def start_hinting(self, acknowledge_on_stop: bool = True) -> None:
        """Ask the guest for its free pages.

        Raises:
            StateError: hinting is off, or no driver is there.
        """
        self._hinting_on()
        active = self._driver()
        self._hinting.start(acknowledge_on_stop)
        active.interrupts.config()

    def stop_hinting(self) -> None:
        """Let the guest have its free pages back.

        Raises:
            StateError: hinting is off, or no driver is there.
        """
        self._hinting_on()
        active = self._driver()
        self._hinting.stop()
        active.interrupts.config()

    def hinting_status(self) -> dict[str, int | None]:
        """The last commands of host and guest.

        Raises:
            StateError: hinting is off.
        """
        self._hinting_on()
        return {"host_cmd": self._hinting.host_cmd, "guest_cmd": self._hinting.guest_cmd}

    def _hinting_on(self) -> None:
        if not self.offers(VIRTIO_BALLOON_F_FREE_PAGE_HINT):
            raise StateError("Attempting to use hinting when not enabled")

    def _driver(self) -> Activation:
        if self.active is None:
            raise StateError("Device not activated yet.")
        return self.active

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        super().activate(active)
        self._roles = [self._inflate, self._deflate]
        for bit, role in (
            (VIRTIO_BALLOON_F_STATS_VQ, self._take_stats),
            (VIRTIO_BALLOON_F_FREE_PAGE_HINT, self._hint),
            (VIRTIO_BALLOON_F_REPORTING, self._report),
        ):
            if active.features >> bit & 1:
                self._roles.append(role)
        self._again = active.loop.timer(self._go_on)
        if active.features >> VIRTIO_BALLOON_F_STATS_VQ & 1:
            self._stats_timer = active.loop.timer(self._poll_stats)
            self._stats_timer.arm(self.stats_interval_s)

    def deactivate(self) -> None:
        for timer in (self._again, self._stats_timer):
            if timer is not None:
                timer.disarm()
        self._again = self._stats_timer = self._stats_head = None
        self._roles = []
        self._left.clear()
        super().deactivate()

    def state(self) -> dict[str, Any]:
        return {
            "num_pages": self.num_pages,
            "actual_pages": self.actual_pages,
            "hinting": self._hinting.state(),
            "stats_interval_s": self.stats_interval_s,
            "stats": dict(self._stats),
            "stats_head": self._stats_head,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.num_pages = state["num_pages"] & MAX_PAGES
        self.actual_pages = state["actual_pages"] & MAX_PAGES
        self._hinting.restore(state["hinting"])
        if bool(state["stats_interval_s"]) != self.offers(VIRTIO_BALLOON_F_STATS_VQ):
            raise ValueError("balloon: statistics are on in one of device and saved state only")
        self.stats_interval_s = state["stats_interval_s"]
        self._stats = dict(state["stats"])
        self._stats_head = state["stats_head"]

    # ------------------------------------------------------------------ queues

    def process(self, index: int) -> None:
        active = self.active
        if active is None or index >= len(self._roles):
            return
        queue = active.queues[index]
        if self._roles[index](queue):
            self._left.add(index)
            assert self._again is not None
            self._again.arm(0.0)
        if queue.needs_signal():
            active.interrupts.queue()

    def _go_on(self) -> None:
        left, self._left = self._left, set()
        for index in sorted(left):
            self.process(index)

    # Each role takes what its queue holds, up to a bound, and says whether more may be there.

    def _inflate(self, queue: Queue) -> bool:
        self.counters.inflate_count += 1
        pfns: list[int] = []
        used: list[tuple[int, int]] = []
        more = True
        while len(pfns) < BATCH_PFNS and len(used) < queue.size:
            chain = queue.pop()
            if chain is None:
                more = False
                break
            pfns += parse_pfns(chain)
            used.append((chain.head, 0))
        for gpa, size in self._present(pages(pfns)):
            try:
                self.release(gpa, size)
            except HostError:
                self.counters.event_fails += 1  # the page stays; the guest has lent it all the same
        queue.push_all(used)
        return more

    def _deflate(self, queue: Queue) -> bool:
        # The guest may use the pages again: touching them brings new ones.
        self.counters.deflate_count += 1
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                return False
            parse_pfns(chain)
            queue.push(chain.head, 0)
        return True

    def _take_stats(self, queue: Queue) -> bool:
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                return False
            if self._stats_head is not None:  # a driver has one buffer; this one has more
                queue.push(self._stats_head, 0)
            self._stats_head = chain.head
            try:
                self._stats.update(parse_stats(chain))
            except GuestError:
                self.counters.stats_update_fails += 1
                raise
            self.counters.stats_updates_count += 1
        return True

    def _poll_stats(self) -> None:
        """Give the buffer back: the driver fills it again."""
        active, timer = self.active, self._stats_timer
        if active is None or timer is None:
            return
        timer.arm(self.stats_interval_s)
        if self._stats_head is None:
            self.counters.stats_update_fails += 1
            return
        queue = active.queues[self._roles.index(self._take_stats)]
        head, self._stats_head = self._stats_head, None
        queue.push(head, 0)
        if queue.needs_signal():
            active.interrupts.queue()

    def _hint(self, queue: Queue) -> bool:
        counters, hinting = self.counters, self._hinting
        ranges = 0
        while ranges < BATCH_RANGES:
            chain = queue.pop()
            if chain is None:
                return False
            ranges += 1 + len(chain.writable)
            if chain.readable_size:
                if chain.readable_size != 4:
                    counters.free_page_hint_fails += 1
                    raise GuestError(f"balloon: a hinting command of {chain.readable_size} bytes")
                if hinting.received(int.from_bytes(chain.read(0, 4), "little")):
                    assert self.active is not None
                    self.active.interrupts.config()
            if chain.writable and hinting.is_current:
                freed, fails = self._free(chain)
                counters.free_page_hint_count += len(chain.writable)
                counters.free_page_hint_freed += freed
                counters.free_page_hint_fails += fails
            queue.push(chain.head, 0)
        return True

    def _report(self, queue: Queue) -> bool:
        counters = self.counters
        ranges = 0
        while ranges < BATCH_RANGES:
            chain = queue.pop()
            if chain is None:
                return False
            ranges += 1 + len(chain.writable)
            freed, fails = self._free(chain)
            counters.free_page_report_count += len(chain.writable)
            counters.free_page_report_freed += freed
            counters.free_page_report_fails += fails
            queue.push(chain.head, 0)
        return True

    def _free(self, chain: Chain) -> tuple[int, int]:
        """Release the pages that a chain's buffers are made of: bytes freed, buffers kept."""
        freed = fails = 0
        for gpa, view in zip(chain.writable_at, chain.writable, strict=True):
            whole = whole_pages(gpa, len(view))
            if whole is None:
                continue
            try:
                self.release(*whole)
                freed += whole[1]
            except HostError:
                fails += 1
        return freed, fails

    def _present(self, ranges: list[Range]) -> list[Range]:
        """The parts in memory; the rest is the driver's mistake, and nothing to release."""
        assert self.active is not None
        present = in_memory(ranges, self.active.memory.regions)
        if sum(size for _, size in present) != sum(size for _, size in ranges):
            self.counters.event_fails += 1
        return present


def _release_nothing(gpa: int, size: int) -> None:
    raise AssertionError("the machine has to set release() before the guest runs")
