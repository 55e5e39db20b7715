"""How fast do disk, network and vsock move data?

Measured by the guest itself (load.c) with the lab's clock counting instructions: the
one CPU does the guest's work, the VMM's and the lab kernel's, and all of it shows.  What the
figures do not show is what several CPUs would do at the same time.

The disk is a RAM disk that is wholly in place; both VMMs go through the page cache
(cache=writeback, which is all that Firecracker's API knows).
"""

from __future__ import annotations

from typing import Any

from pyrovm.bench import guests, labs
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.questions.boot import QEMU
from pyrovm.bench.terms import Terms

ROUNDS = 1  # the clock counts: another one would say the same within a percent
DISK_MIB = 128
STREAM_MIB = 32

HEADLINES = {
    "Sync engine: 4 KiB random reads, depth 32": "disk, 4 KiB random reads, depth 32",
    "TCP by tap: guest to host": "network by tap, guest to host",
    "TCP by vhost-net: guest to host": "network by vhost-net, guest to host",
    "vsock by vhost-vsock: guest to host": "vsock by the kernel, guest to host",
}
_PATTERNS = {
    "random-1": ("4 KiB random reads, depth 1", "reads/s", 1.0),
    "random-32": ("4 KiB random reads, depth 32", "reads/s", 1.0),
    "read": ("1 MiB sequential reads", "MiB/s", float(1 << 20)),
    "write": ("1 MiB sequential writes", "MiB/s", float(1 << 20)),
    "send": ("guest to host", "MiB/s", float(1 << 20)),
    "receive": ("host to guest", "MiB/s", float(1 << 20)),
}


def disk(terms: Terms) -> Answer:
    """virtio-block: both engines, beside QEMU's threads and io_uring."""
    plan = []
    for engine in ("Sync", "Async"):
        for vmm in ("pyrovm", "qemu"):
            devices = {"drive": "/dev/ram0", "engine": engine}
            plan.append(_guest(vmm, f"{vmm} {engine}", ["disk"], devices))
    seen = _measure(plan, terms, disk_mib=DISK_MIB)
    if isinstance(seen, Answer):
        return seen
    found = Answer()
    for engine, aio in (("Sync", "threads"), ("Async", "io_uring")):
        peer_name = f"{QEMU}, aio={aio}"
        _compare(
            found, "disk", seen, f"pyrovm {engine}", f"qemu {engine}", f"{engine} engine", peer_name
        )
    return found


def net(terms: Terms) -> Answer:
    """virtio-net on a tap: TCP, frames moved by the VMM, or by the kernel (vhost-net)."""
    servers = [
        ["tcp", "10.0.0.1", "5001", "recv", str(STREAM_MIB)],
        ["tcp", "10.0.0.1", "5002", "send", str(STREAM_MIB)],
    ]
    plan = []
    for vhost in (False, True):
        for vmm in ("pyrovm", "qemu"):
            name = f"{vmm} vhost" if vhost else vmm
            devices = {"tap": "tap0", "vhost": vhost}
            plan.append(_guest(vmm, name, ["tcp", str(STREAM_MIB)], devices, servers))
    seen = _measure(plan, terms, tap=True)
    if isinstance(seen, Answer):
        return seen
    found = Answer()
    _compare(found, "net", seen, "pyrovm", "qemu", "TCP by tap", f"{QEMU}, vhost=off")
    _compare(
        found, "net", seen, "pyrovm vhost", "qemu vhost", "TCP by vhost-net", f"{QEMU}, vhost=on"
    )
    return found


def vsock(terms: Terms) -> Answer:
    """Streams to the host: by Unix sockets, and by the kernel, which is all that QEMU has."""
    directions = {"5001": "recv", "5002": "send"}
    local = [["unix", f"FOLDER/vsock_{p}", p, d, str(STREAM_MIB)] for p, d in directions.items()]
    kernel = [["vsock", "4294967295", p, d, str(STREAM_MIB)] for p, d in directions.items()]
    job = ["vsock", str(STREAM_MIB)]
    plan = [
        _guest("pyrovm", "pyrovm", job, {"vsock": "unix"}, local),
        _guest("pyrovm", "pyrovm vhost", job, {"vsock": "vhost"}, kernel),
        _guest("qemu", "qemu", job, {"vsock": "vhost"}, kernel),
    ]
    seen = _measure(plan, terms)
    if isinstance(seen, Answer):
        return seen
    found = Answer()
    peer_name = f"{QEMU}, vhost-vsock"
    _compare(found, "vsock", seen, "pyrovm", "qemu", "vsock by Unix sockets", peer_name)
    _compare(found, "vsock", seen, "pyrovm vhost", "qemu", "vsock by vhost-vsock", peer_name)
    return found


def _guest(
    vmm: str,
    name: str,
    job: list[str],
    devices: dict[str, Any],
    servers: list[list[str]] | None = None,
) -> dict[str, Any]:
    return {"vmm": vmm, "name": name, "job": job, "devices": devices, "servers": servers or []}


def _measure(plan: list[dict[str, Any]], terms: Terms, **more: Any) -> Any:
    """The rates that the guests of ``plan`` measured, or an answer that says why not."""
    kernels = guests.available()
    if not kernels:
        return Answer(skipped=["traffic: no kernel in the cache (pyrovm kernel fetch)"])
    kernel = next(iter(kernels.values()))
    args = guests.args(serial=True, modules=kernel.modules is not None)
    return labs.ask(
        "traffic",
        {"guests": plan, "args": f"{args} quiet", "rounds": ROUNDS, **more},
        assets={
            "kernel": kernel.vmlinux,
            "initrd": guests.traffic_initrd(kernel),
            "load": guests.load_program(),
        },
        counted=True,
        show=terms.show,
    )


def _compare(
    found: Answer,
    question: str,
    seen: dict[str, dict[str, list[float]]],
    ours: str,
    peer: str,
    title: str,
    peer_name: str,
) -> None:
    for pattern, (words, unit, scale) in _PATTERNS.items():
        if pattern in seen[ours]:
            found.figures.append(
                Figure(
                    question=question,
                    name=f"{title}: {words}",
                    unit=f"{unit}, counted",
                    ours=Sample.of(rate / scale for rate in seen[ours][pattern]),
                    peer=Sample.of(rate / scale for rate in seen[peer][pattern]),
                    peer_name=peer_name,
                    higher_is_better=True,
                    headline=HEADLINES.get(f"{title}: {words}", ""),
                )
            )
