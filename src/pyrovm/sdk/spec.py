"""What a microVM shall be, and the API requests that make it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any

from pyrovm.config.size import size_mib

DEFAULT_CMDLINE = "console=ttyS0 reboot=k panic=-1 quiet"


@dataclass(frozen=True)
class Drive:
    """A block device over a file or device of the host; the first root drive becomes /dev/vda."""

    path: str | PathLike[str]
    root: bool = False
    read_only: bool = False
    id: str | None = None
    cache: str = "Unsafe"
    engine: str = "Sync"
    rate_limiter: dict[str, Any] | None = None


@dataclass(frozen=True)
class Network:
    """A network interface on a tap device of the host."""

    tap: str
    mac: str | None = None
    mtu: int | None = None
    id: str | None = None
    rx_rate_limiter: dict[str, Any] | None = None
    tx_rate_limiter: dict[str, Any] | None = None


@dataclass(frozen=True)
class Vsock:
    """A vsock device on the Unix socket ``path`` (None: one in the microVM's folder)."""

    cid: int = 3
    path: str | PathLike[str] | None = None


@dataclass(frozen=True)
class Pmem:
    """A persistent memory device over a file of the host."""

    path: str | PathLike[str]
    root: bool = False
    read_only: bool = False
    id: str | None = None


@dataclass(frozen=True)
class Balloon:
    """A balloon that takes ``amount_mib`` from the guest."""

    amount_mib: int = 0
    deflate_on_oom: bool = True
    stats_interval_s: int = 0
    free_page_hinting: bool = False
    free_page_reporting: bool = False


@dataclass(frozen=True)
class MemoryHotplug:
    """Memory that the guest can be given and asked back while it runs; sizes in MiB."""

    total_mib: int
    block_mib: int = 2
    slot_mib: int = 128


@dataclass(frozen=True)
class Spec:
    """Everything about a microVM before it starts."""

    kernel: str | PathLike[str]
    initrd: str | PathLike[str] | None = None
    cmdline: str = DEFAULT_CMDLINE
    cpus: int = 1
    memory: int | str = 128
    smt: bool = False
    huge_pages: str = "None"
    track_dirty_pages: bool = False
    drives: Sequence[Drive] = ()
    networks: Sequence[Network] = ()
    pmem: Sequence[Pmem] = ()
    vsock: Vsock | None = None
    balloon: Balloon | None = None
    hotplug: MemoryHotplug | None = None
    entropy: bool = True
    metadata: Any = None
    mmds_version: str = "V2"
    extra: dict[str, Any] = field(default_factory=dict)

    def requests(self, vsock_path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(method, path, body) of every request up to, not including, InstanceStart.

        Raises:
            ConfigError: the memory size is no size.
        """
        machine: dict[str, Any] = {"vcpu_count": self.cpus, "mem_size_mib": size_mib(self.memory)}
        if self.smt:
            machine["smt"] = True
        if self.track_dirty_pages:
            machine["track_dirty_pages"] = True
        if self.huge_pages != "None":
            machine["huge_pages"] = self.huge_pages
        yield "PUT", "/machine-config", machine
        boot = {"kernel_image_path": fspath(self.kernel), "boot_args": self.cmdline}
        if self.initrd is not None:
            boot["initrd_path"] = fspath(self.initrd)
        yield "PUT", "/boot-source", boot
        yield from self._device_requests(vsock_path)
        for path, body in self.extra.items():
            yield "PUT", path, body

    def _device_requests(self, vsock_path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for index, drive in enumerate(self.drives):
            name = drive.id or f"drive{index}"
            body: dict[str, Any] = {
                "drive_id": name,
                "path_on_host": fspath(drive.path),
                "is_root_device": drive.root,
                "is_read_only": drive.read_only,
                "cache_type": drive.cache,
                "io_engine": drive.engine,
            }
            yield "PUT", f"/drives/{name}", _with(body, rate_limiter=drive.rate_limiter)
        names = []
        for index, network in enumerate(self.networks):
            name = network.id or f"eth{index}"
            names.append(name)
            body = _with(
                {"iface_id": name, "host_dev_name": network.tap},
                guest_mac=network.mac,
                mtu=network.mtu,
                rx_rate_limiter=network.rx_rate_limiter,
                tx_rate_limiter=network.tx_rate_limiter,
            )
            yield "PUT", f"/network-interfaces/{name}", body
        for index, pmem in enumerate(self.pmem):
            name = pmem.id or f"pmem{index}"
            body = {"id": name, "path_on_host": fspath(pmem.path)}
            body |= {"root_device": pmem.root, "read_only": pmem.read_only}
            yield "PUT", f"/pmem/{name}", body
        if self.vsock is not None:
            path = vsock_path if self.vsock.path is None else fspath(self.vsock.path)
            yield "PUT", "/vsock", {"guest_cid": self.vsock.cid, "uds_path": path}
        if self.balloon is not None:
            yield (
                "PUT",
                "/balloon",
                {
                    "amount_mib": self.balloon.amount_mib,
                    "deflate_on_oom": self.balloon.deflate_on_oom,
                    "stats_polling_interval_s": self.balloon.stats_interval_s,
                    "free_page_hinting": self.balloon.free_page_hinting,
                    "free_page_reporting": self.balloon.free_page_reporting,
                },
            )
        if self.entropy:
            yield "PUT", "/entropy", {}
        if self.hotplug is not None:
            yield (
                "PUT",
                "/hotplug/memory",
                {
                    "total_size_mib": self.hotplug.total_mib,
                    "block_size_mib": self.hotplug.block_mib,
                    "slot_size_mib": self.hotplug.slot_mib,
                },
            )
        if self.metadata is not None:
            config = {"network_interfaces": names, "version": self.mmds_version}
            yield "PUT", "/mmds/config", config
            yield "PUT", "/mmds", self.metadata


def _with(body: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """``body`` and those of the optional fields that are set."""
    return body | {name: value for name, value in optional.items() if value is not None}
