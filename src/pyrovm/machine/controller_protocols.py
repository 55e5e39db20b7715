"""What the controller needs from the rest of the machine: device factory, builder, machine.

All of this is for type checkers; at run time the module is empty.

Errors.  Every method may raise :class:`~pyrovm.errors.PyrovmError` (ConfigError, StateError,
HostError) and nothing else; its text is the *inner* text of a fault.  The controller puts the
class prefix of the API in front, as each method's ``Raises`` says, and turns it into a response.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from pyrovm.config.branch import BranchParams
    from pyrovm.config.drive import DriveConfig
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.config.rate_limiter import RateLimiterConfig
    from pyrovm.config.snapshot import SnapshotCreateParams, SnapshotLoadParams
    from pyrovm.config.vsock import VsockConfig
    from pyrovm.machine.machine import StopReason
    from pyrovm.machine.resources import Resources

    class Device(Protocol):
        """A device made before the machine, with its backend open."""

        def close(self) -> None:
            """Release the backend; the device was replaced or the process ends."""

    class DeviceFactory(Protocol):
        """Makes the devices whose host side is opened as soon as they are configured.

        Every other device (pmem, balloon, entropy, memory hotplug, serial) is made by the builder
        from its record when the machine starts.
        """

        def block(self, config: DriveConfig) -> Device:
            """Open the file of a drive, or connect to its vhost-user process.

            ``config`` is complete (:meth:`DriveConfig.checked`).

            Raises:
                PyrovmError: ``Virtio backend error: Error manipulating the backing file: No such
                    file or directory (os error 2) <path>``; prefix
                    ``Drive config error: Unable to create the virtio block device: ``.
            """

        def net(self, config: NetworkInterfaceConfig) -> Device:
            """Open the tap, then check the MTU.

            Raises:
                PyrovmError: ``Open tap device failed: …``; prefix
                    ``Network config error: Could not create the network device: ``.
            """

        def vsock(self, config: VsockConfig) -> Device:
            """Bind the listening Unix socket.  Closing the device need not unlink it.

            Raises:
                PyrovmError: ``Error binding to the host-side Unix socket: Address in use (os
                    error 98)``; prefix
                    ``Vsock config error: Cannot create backend for vsock device: ``.
            """

    class Builder(Protocol):
        """Builds the machine and lets it run.

        ``on_stop`` is called once, in the loop, when the guest or a fault has ended it.  After a
        failure everything is as it was: the devices in ``resources`` are still open and the user
        may change the configuration and try again.

        Raises:
            PyrovmError: e.g. ``Invalid Memory Configuration: Cannot create mmap region: Out of
                memory (os error 12)``; prefix ``Start microvm error: ``.
        """

        def __call__(
            self, resources: Resources, on_stop: Callable[[StopReason], None]
        ) -> RunningMachine:
            """Build and run ``resources``."""

    class Brancher(Protocol):
        """Copies running machines; the faults' prefix is ``Branch error: ``."""

        def branch(
            self, machine: RunningMachine, resources: Resources, params: BranchParams
        ) -> dict[str, Any]:
            """Clone or save the machine; what the client gets.

            Raises:
                PyrovmError: it cannot be; the machine is as before, and nothing is left.
            """

        def snapshots(self) -> list[dict[str, Any]]:
            """What has become of each snapshot, the oldest first."""

        def check_resume(self, resources: Resources) -> None:
            """Whether the machine may run although there are clones.

            Raises:
                PyrovmError: a clone reads a file that the machine would write to.
            """

    class Loader(Protocol):
        """Builds the machine of a snapshot; it stands still.

        ``resources``, in which nothing was configured, become those of the snapshot.

        Raises:
            PyrovmError: ``Failed to get snapshot state from file: …`` and the like; prefix
                ``Load snapshot error: Failed to restore from snapshot: ``.
        """

        def __call__(
            self,
            resources: Resources,
            params: SnapshotLoadParams,
            on_stop: Callable[[StopReason], None],
        ) -> RunningMachine:
            """Load what ``params`` name."""

    class RunningMachine(Protocol):
        """A built machine.  Ids are checked by the controller before these are called."""

        def pause(self) -> None:
            """Stop vCPUs and devices; prefix of errors ``Internal VMM error: ``."""

        def resume(self) -> None:
            """Go on; prefix of errors ``Internal VMM error: ``."""

        def create_snapshot(self, config: dict[str, Any], params: SnapshotCreateParams) -> None:
            """Save the paused machine; ``config`` is what ``GET /vm/config`` prints of it.

            Raises:
                PyrovmError: the machine can go on; prefix ``Create snapshot error: ``.
            """

        def close(self) -> None:
            """End all threads and release everything; devices too."""

        def send_ctrl_alt_del(self) -> None:
            """Press the keys.

            Raises:
                StateError: ``I8042 error: …``; prefix ``Internal VMM error: ``.
            """

        def counters(self) -> Iterable[tuple[str, str | None, object]]:
            """What to print in the metrics: (group, device id or None, object with the fields).

            Groups are those of :mod:`pyrovm.machine.metrics_table`; the id is given for ``block``,
            ``net``, ``pmem`` and ``vhost_user_block`` only.  An object has every field of its
            group as an attribute: an int that only grows, or a Latency for names in ``_agg``.  The
            same objects are given every time: deltas are kept by group and id.
            """

        def update_drive_path(self, drive_id: str, path: str) -> None:
            """Go on with another file: size, disk id, configuration interrupt.

            Raises:
                PyrovmError: ``Virtio backend error: …`` as the factory; prefix ``Drive config
                    error: Unable to patch the block device: Block: ``.
            """

        def update_drive_limiter(self, drive_id: str, update: RateLimiterConfig) -> None:
            """Install the buckets that are not None, full; an unlimited one removes the limit."""

        def refresh_drive(self, drive_id: str) -> None:
            """Read the configuration of a vhost-user drive again and raise an interrupt.

            Raises:
                PyrovmError: the other process did not answer; prefix as ``update_drive_path``.
            """

        def update_pmem_limiter(self, pmem_id: str, update: RateLimiterConfig) -> None:
            """As ``update_drive_limiter``."""

        def update_net_limiters(
            self, iface_id: str, rx: RateLimiterConfig | None, tx: RateLimiterConfig | None
        ) -> None:
            """As ``update_drive_limiter``, for each direction that is not None."""

        def update_balloon(self, amount_mib: int) -> None:
            """Set the balloon's target; it is checked against the memory size.

            Raises:
                StateError: ``Device not activated yet.``; prefix ``Balloon update error:
                    Balloon: `` as for all calls below that change the balloon.
            """

        def update_balloon_interval(self, seconds: int) -> None:
            """Change the polling interval; neither the old nor the new one is 0."""

        def balloon_stats(self) -> dict[str, int]:
            """The fields of ``GET /balloon/statistics``: what the guest has not told is left out.

            Raises:
                PyrovmError: prefix ``Internal VMM error: Balloon: ``.
            """

        def start_balloon_hinting(self, acknowledge_on_stop: bool) -> None:
            """Begin a hinting run."""

        def stop_balloon_hinting(self) -> None:
            """End the hinting run."""

        def balloon_hinting_status(self) -> tuple[int, int | None]:
            """The last commands of host and guest."""

        def update_memory_hotplug(self, requested_size_mib: int) -> None:
            """Set the size the guest shall plug; it is checked against block and total size.

            Raises:
                StateError: ``Device is not active``; prefix ``Memory hotplug update error: Failed
                    to create memory hotplug device: ``.
            """

        def memory_hotplug_sizes(self) -> tuple[int, int]:
            """(plugged, requested) in MiB."""
