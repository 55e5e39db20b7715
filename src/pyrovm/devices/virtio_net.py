"""The network device (virtio 1.2, section 5.1): frames between a driver and a tap.

Frames move between guest memory and the tap in one system call each, header included: the tap
speaks the driver's 12-byte header, so segmentation and checksum offloads pass through.  Receiving
is driven by the tap's readability and stops watching it while there is nowhere to put a frame;
sending is driven by the driver's notifications.

Where nothing has to look at frames (no rate limit, no metadata service, no dirty tracking) the
queues may be left to the kernel (vhost-net), which then moves frames without us.
"""

from __future__ import annotations

from time import monotonic_ns

from pyrovm.abi import virtio as v
from pyrovm.devices.rate_limiter import RateLimiter
from pyrovm.devices.virtio_net_counters import NetCounters
from pyrovm.devices.virtio_net_rx import HEADER_SIZE, MAX_FRAME, RxBuffers
from pyrovm.virtio.device import EPOLLIN, QUEUE_SIZE, VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.devices.virtio_net_protocols import KernelPlane, Mmds, NetTap
    from pyrovm.virtio.device import Activation, Timer
    from pyrovm.virtio.queue import Chain, Queue

RX, TX = 0, 1
ETHERNET_HEADER = 14
SOURCE_MAC = HEADER_SIZE + 6  # where it begins in what the driver sends
BATCH_FRAMES = 64  # moved in one wake-up, each way
TAP_RETRY = 1.0  # seconds until a tap that failed is read again
OFFLOADS = (
    v.VIRTIO_NET_F_CSUM,
    v.VIRTIO_NET_F_GUEST_CSUM,
    v.VIRTIO_NET_F_GUEST_TSO4,
    v.VIRTIO_NET_F_GUEST_TSO6,
    v.VIRTIO_NET_F_GUEST_UFO,
    v.VIRTIO_NET_F_HOST_TSO4,
    v.VIRTIO_NET_F_HOST_TSO6,
    v.VIRTIO_NET_F_HOST_UFO,
    v.VIRTIO_NET_F_MRG_RXBUF,
    v.VIRTIO_RING_F_EVENT_IDX,
)
GUEST_SEGMENTS = (
    1 << v.VIRTIO_NET_F_GUEST_TSO4 | 1 << v.VIRTIO_NET_F_GUEST_TSO6 | 1 << v.VIRTIO_NET_F_GUEST_UFO
)


class VirtioNet(VirtioDevice):
    """A network interface.  ``name`` is the interface id; the device owns ``tap`` and ``kernel``.

    ``mac`` (6 bytes) and ``mtu`` are told to the driver where given; a driver that sends from
    another address is only counted.  ``mmds`` may be set until the driver is ready.
    """

    device_id = v.VIRTIO_ID_NET
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE)
    counters: NetCounters

    def __init__(
        self,
        name: str,
        tap: NetTap,
        *,
        mac: bytes | None = None,
        mtu: int | None = None,
        rx_limiter: RateLimiter | None = None,
        tx_limiter: RateLimiter | None = None,
        mmds: Mmds | None = None,
        kernel: KernelPlane | None = None,
    ) -> None:
        super().__init__(name)
        for bit in OFFLOADS:
            self.features |= 1 << bit
        if mac is not None:
            self.features |= 1 << v.VIRTIO_NET_F_MAC
        if mtu is not None:
            self.features |= 1 << v.VIRTIO_NET_F_MTU
        self.mac = mac
        self.mtu = mtu
        self.rx_limiter = rx_limiter or RateLimiter()
        self.tx_limiter = tx_limiter or RateLimiter()
        self.mmds = mmds
        self.counters = NetCounters()
        self._tap = tap
        self._kernel = kernel
        self._kernel_runs = False
        self._rx: RxBuffers | None = None
        self._deferred = 0  # size of a frame that was read but may not be delivered yet
        self._timers: dict[str, Timer] = {}

    def config(self) -> bytes:
        # struct virtio_net_config: mac[6], status, max_virtqueue_pairs, mtu
        return (self.mac or bytes(6)) + bytes(4) + (self.mtu or 0).to_bytes(2, "little")

    # -------------------------------------------------------------- life cycle

    def activate(self, active: Activation) -> None:
        self._tap.set_offload(active.features)
        super().activate(active)
        loop = active.loop
        self._rx = RxBuffers(
            active.queues[RX],
            mergeable=bool(active.features >> v.VIRTIO_NET_F_MRG_RXBUF & 1),
            segments=bool(active.features & GUEST_SEGMENTS),
        )
        self._timers = {
            "rx": loop.timer(self._receive),
            "tx": loop.timer(self._transmit),
            "mmds": loop.timer(self._receive),
        }
        self.rx_limiter.attach(loop, self._rx_unblocked)
        self.tx_limiter.attach(loop, self._tx_unblocked)
        loop.watch(self._tap.fd, self._tap_ready, 0)
        if not self._start_kernel():
            self._watch_tap(True)

    def kick(self) -> None:
        if self.active is not None and not self._start_kernel():
            super().kick()

    def pause(self) -> None:
        self._stop_kernel()
        if self._deferred:  # it is in memory already; the limit is overdrawn by one frame
            self._deliver(self._deferred)
            self._signal(RX)
        if self._rx is not None:
            self._rx.give_back()

    def memory_changed(self) -> None:
        if self._kernel_runs and self._kernel is not None and self.active is not None:
            self._kernel.set_memory(self.active.memory)

    def deactivate(self) -> None:
        self._stop_kernel()
        active = self.active
        if active is not None:
            active.loop.unwatch(self._tap.fd)
        for timer in self._timers.values():
            timer.disarm()
        self._timers.clear()
        self.rx_limiter.detach()
        self.tx_limiter.detach()
        self._rx = None
        self._deferred = 0
        super().deactivate()

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
        self._tap.close()

    def state(self) -> dict[str, Any]:
        self.pause()
        return {"rx_limiter": self.rx_limiter.state(), "tx_limiter": self.tx_limiter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.rx_limiter.restore(state["rx_limiter"])
        self.tx_limiter.restore(state["tx_limiter"])

    def update_rx_limiter(self, limiter: RateLimiter, *, bandwidth: bool, ops: bool) -> None:
        """Install the named buckets of ``limiter`` for what the guest receives."""
        self.rx_limiter.update(limiter, bandwidth=bandwidth, ops=ops)
        self._reconsider_kernel()

    def update_tx_limiter(self, limiter: RateLimiter, *, bandwidth: bool, ops: bool) -> None:
        """Install the named buckets of ``limiter`` for what the guest sends."""
        self.tx_limiter.update(limiter, bandwidth=bandwidth, ops=ops)
        self._reconsider_kernel()

    # ------------------------------------------------------------------ kernel

    def _kernel_may_run(self, active: Activation) -> bool:
        unlimited = self.rx_limiter.is_unlimited and self.tx_limiter.is_unlimited
        looked_at = self.mmds is not None or active.memory.tracks_dirty
        return unlimited and not looked_at and bool(active.kicks)

    def _start_kernel(self) -> bool:
        """Leave the queues to the kernel if there is one to serve them; whether it does."""
        active, kernel = self.active, self._kernel
        if kernel is None or active is None or not self._kernel_may_run(active):
            return False
        if not self._kernel_runs:
            assert self._rx is not None
            self._rx.give_back()
            self._watch_tap(False)
            active.interrupts.leave_to_kernel()
            kernel.start(active.memory, active.queues, active.features, active.kicks, active.calls)
            self._kernel_runs = True
            for kick in active.kicks:
                active.loop.modify(kick, 0)
        return True

    def _stop_kernel(self) -> None:
        active, kernel = self.active, self._kernel
        if self._kernel_runs and active is not None and kernel is not None:
            self._kernel_runs = False
            kernel.stop(active.memory, active.queues)
            for kick in active.kicks:
                active.loop.modify(kick, EPOLLIN)

    def _reconsider_kernel(self) -> None:
        """If a limit was set, only we can keep it; the kernel gets the queues back at a resume."""
        active = self.active
        if self._kernel_runs and active is not None and not self._kernel_may_run(active):
            self._stop_kernel()
            self._watch_tap(True)
            self._timers["tx"].arm(0.0)

    # ----------------------------------------------------------------- receive

    def process(self, index: int) -> None:
        counters = self.counters
        if self._kernel_runs:
            return  # a notification from just before the kernel took over
        if index == RX:
            counters.rx_queue_event_count += 1
            if self.rx_limiter.is_blocked:
                counters.rx_rate_limiter_throttled += 1
            else:
                self._receive()
        else:
            counters.tx_queue_event_count += 1
            if self.tx_limiter.is_blocked:
                counters.tx_rate_limiter_throttled += 1
            else:
                self._transmit()

    def _tap_ready(self, _events: int) -> None:
        self.counters.rx_tap_event_count += 1
        self._receive()

    def _rx_unblocked(self) -> None:
        self.counters.rx_event_rate_limiter_count += 1
        self._receive()

    def _watch_tap(self, wanted: bool) -> None:
        # The tap stays readable while frames wait: unmuted, it would wake us for nothing.
        active = self.active
        assert active is not None
        active.loop.modify(self._tap.fd, EPOLLIN if wanted else 0)

    def _receive(self) -> None:
        """Move frames to the driver, the service's first.  hot: per batch."""
        active, rx = self.active, self._rx
        if active is None or rx is None or self._kernel_runs:
            return
        counters, limiter, queue = self.counters, self.rx_limiter, active.queues[RX]
        queue.disable_notifications()
        readable = True  # the tap wakes us for the next frame
        for _ in range(BATCH_FRAMES):
            if limiter.is_blocked:  # the timer calls again
                readable = False
                break
            size = self._deferred
            if not size:
                if not self._has_buffers(rx, queue):
                    counters.no_rx_avail_buffer += 1
                    readable = False
                    break
                try:
                    size = self._next_frame(rx)
                except OSError:  # the interface is gone: a lost cable, which may come back
                    counters.tap_read_fails += 1
                    counters.rx_fails += 1
                    self._timers["rx"].arm(TAP_RETRY)
                    readable = False
                    break
                if not size:
                    break
            if not limiter.consume(size):
                counters.rx_rate_limiter_throttled += 1
                self._deferred = size
                readable = False
                break
            self._deliver(size)
        else:
            if self.mmds is not None and self.mmds.has_frames:
                self._timers["rx"].arm(0.0)
        if rx.rejected:
            counters.rx_fails += rx.rejected
            rx.rejected = 0
        if active.memory.tracks_dirty and not self._deferred:
            rx.give_back()  # taking a chain marks it dirty: that must not be long before its frame
        self._watch_tap(readable)
        self._expect_mmds()
        if queue.needs_signal():
            active.interrupts.queue()

    @staticmethod
    def _has_buffers(rx: RxBuffers, queue: Queue) -> bool:
        """Whether a frame fits; if not, the driver will notify us of its next buffer."""
        while not rx.refill():
            if not queue.enable_notifications():
                return False
            queue.disable_notifications()
        return True

    def _next_frame(self, rx: RxBuffers) -> int:
        """Put the next frame into the driver's buffers; its size, 0 if there is none."""
        mmds = self.mmds
        if mmds is not None and mmds.has_frames:
            frame = mmds.next_frame()
            if frame is not None:
                return rx.fill(frame)
        return self._tap.readv(rx.views) or 0

    def _deliver(self, size: int) -> None:
        rx, counters = self._rx, self.counters
        assert rx is not None
        self._deferred = 0
        rx.commit(size)
        counters.rx_bytes_count += size
        counters.rx_packets_count += 1
        counters.rx_count += 1

    def _expect_mmds(self) -> None:
        """Look again when the service may have to repeat something."""
        if self.mmds is not None:
            seconds = self.mmds.next_timeout()
            if seconds is not None:
                self._timers["mmds"].arm(seconds)

    # -------------------------------------------------------------------- send

    def _tx_unblocked(self) -> None:
        self.counters.tx_rate_limiter_event_count += 1
        self._transmit()

    def _transmit(self) -> None:
        """Move frames from the driver to the tap or the service.  hot: per batch."""
        active = self.active
        if active is None or self._kernel_runs:
            return
        counters, limiter, queue, mmds = (
            self.counters,
            self.tx_limiter,
            active.queues[TX],
            self.mmds,
        )
        if not queue.pending:
            counters.no_tx_avail_buffer += 1
        detoured = False
        queue.disable_notifications()
        for _ in range(BATCH_FRAMES):
            chain = queue.pop()
            if chain is None:
                if not queue.enable_notifications():
                    break
                queue.disable_notifications()
                continue
            counters.tx_remaining_reqs_count += queue.pending
            size = chain.readable_size
            if chain.writable or not HEADER_SIZE + ETHERNET_HEADER <= size <= MAX_FRAME:
                counters.tx_malformed_frames += 1
                queue.push(chain.head, 0)
                continue
            if not limiter.consume(size):
                counters.tx_rate_limiter_throttled += 1
                queue.undo_pop()
                break
            if mmds is not None and mmds.detour(_without_header(chain)):
                limiter.refund(size)
                detoured = True
            else:
                self._send(chain)
            queue.push(chain.head, 0)
        else:
            self._timers["tx"].arm(0.0)
        if queue.needs_signal():
            active.interrupts.queue()
        if detoured:
            self._receive()

    def _send(self, chain: Chain) -> None:
        """Write one frame to the tap.  hot: per frame."""
        counters, mac = self.counters, self.mac
        if mac is not None:
            view = chain.readable[0]
            if len(view) >= SOURCE_MAC + 6:
                source = bytes(view[SOURCE_MAC : SOURCE_MAC + 6])
            else:
                source = chain.read(SOURCE_MAC, 6)
            if source != mac:
                counters.tx_spoofed_mac_count += 1
        started = monotonic_ns()
        try:
            self._tap.writev(chain.readable)
        except OSError:  # the interface is down, or the kernel refuses the header: a lost frame
            counters.tap_write_fails += 1
            counters.tx_fails += 1
            return
        counters.tap_write_agg.add(monotonic_ns() - started)
        counters.tx_bytes_count += chain.readable_size
        counters.tx_packets_count += 1
        counters.tx_count += 1

    def _signal(self, index: int) -> None:
        active = self.active
        assert active is not None
        if active.queues[index].needs_signal():
            active.interrupts.queue()


def _without_header(chain: Chain) -> bytes | memoryview:
    """The frame of a chain: a view where it lies in one piece, else a copy."""
    first, *rest = chain.readable
    if not rest:
        return first[HEADER_SIZE:]
    if len(first) == HEADER_SIZE and len(rest) == 1:
        return rest[0]
    return chain.read(HEADER_SIZE, chain.readable_size)
