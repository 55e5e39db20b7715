"""What a network device needs of the host: for type checkers; at run time the module is empty."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pyrovm.memory.guest_memory import GuestMemory
    from pyrovm.virtio.queue import Queue

    class NetTap(Protocol):
        """The host's end: whole frames, each with its 12-byte header."""

        fd: int

        def readv(self, views: list[memoryview]) -> int | None:
            """Read a frame, cut to the views' size; its size, None if there is none.

            Raises:
                OSError: the interface is down or gone.
            """

        def writev(self, views: list[memoryview]) -> int:
            """Send a frame.

            Raises:
                OSError: the kernel does not take it.
            """

        def set_offload(self, features: int) -> None:
            """Let the tap deliver what a driver with these virtio features can receive.

            Raises:
                HostError: the kernel refused.
            """

        def close(self) -> None:
            """Release the interface."""

    class Mmds(Protocol):
        """The metadata service behind this interface."""

        @property
        def has_frames(self) -> bool:
            """Whether ``next_frame`` has something now."""

        def detour(self, frame: bytes | memoryview) -> bool:
            """Whether a sent ``frame`` (no header; live memory) was for the service."""

        def next_frame(self) -> bytes | None:
            """A frame of the service for the guest."""

        def next_timeout(self) -> float | None:
            """Seconds until ``has_frames`` is to be looked at again."""

    class KernelPlane(Protocol):
        """A data plane in the kernel, bound to the same tap."""

        def start(
            self,
            memory: GuestMemory,
            queues: Sequence[Queue],
            features: int,
            kicks: Sequence[int],
            calls: Sequence[int],
        ) -> None:
            """Serve the queues until ``stop``.

            Raises:
                HostError: the kernel refused; nothing is served.
            """

        def set_memory(self, memory: GuestMemory) -> None:
            """Guest memory has come or gone while the queues are served.

            Raises:
                HostError: the kernel refused.
            """

        def stop(self, memory: GuestMemory, queues: Sequence[Queue]) -> None:
            """Serve no more, and set the queues to where the kernel stopped."""

        def close(self) -> None:
            """Release the kernel's device."""
