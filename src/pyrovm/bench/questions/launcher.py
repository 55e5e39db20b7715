"""How soon is a VMM there when the launcher forks it, and what does it take?

From the request to the first connection that the API socket accepts, by turns with a process that
starts cold, as the SDK starts it.  The child is stopped then, and the kernel's account of its CPU
time is read.  Its memory is what is private to it in smaps, the guest's not counted, with a guest
that halts and a disk, a vsock and (for root) a network attached.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyrovm
from pyrovm.bench import halting
from pyrovm.bench.figures import Answer, Figure, Sample
from pyrovm.bench.smaps import outside_guest, read_smaps
from pyrovm.bench.terms import Terms
from pyrovm.launcher import client

TARGET_MS, TARGET_CPU_MS, TARGET_KIB = 3.0, 2.0, 3072.0
ROUNDS, MEMORY_ROUNDS = 100, 5
POOL = 2
MEMORY_MIB = 32
TIMEOUT = 30.0  # seconds
SETTLE_S = 0.05  # between two rounds: the pool is filled
COLD = "cold start"
TAP = "pvbench0"

SOURCES = Path(pyrovm.__file__).parent.parent
_BARE = [sys.executable, "-I", "-S", "-c"]
_MAIN = "import sys; sys.path.insert(0, {!r}); from pyrovm.cli.{} import main; sys.exit(main())"


def answer(terms: Terms) -> Answer:
    """Measure time, then memory, with launchers of our own."""
    found = Answer()
    waiting = _times(terms, POOL)
    forked = _times(terms, 0)
    for name, seen, target in (
        ("a child that waits in the pool", waiting, TARGET_MS),
        ("a child forked on demand", forked, None),
    ):
        found.figures.append(
            Figure(
                question="launcher",
                name=f"request to API socket, {name}",
                unit="ms",
                ours=Sample.of(seen["ms"]),
                peer=Sample.of(seen["cold"]),
                peer_name=COLD,
                target=target,
                absolute=True,
                headline="VMM by the launcher, request to API socket" if target else "",
            )
        )
        found.figures.append(
            Figure(
                question="launcher",
                name=f"CPU time of the child from the request on, {name}",
                unit="ms CPU",
                ours=Sample.of(seen["cpu"]),
                target=TARGET_CPU_MS if target else None,
                absolute=True,
            )
        )
    found.figures.append(
        Figure(
            question="launcher",
            name="CPU time of a child of the pool before the request",
            unit="ms CPU",
            ours=Sample.of(waiting["before"]),
        )
    )
    for what, sizes in _memory(terms).items():
        found.figures.append(
            Figure(
                question="launcher",
                name=f"private memory of a VMM, {what}",
                unit="KiB",
                ours=Sample.of(sizes["warm"]),
                peer=Sample.of(sizes["cold"]),
                peer_name=COLD,
                target=TARGET_KIB,
                absolute=True,
            )
        )
    return found


@contextlib.contextmanager
def running_launcher(pool: int) -> Iterator[Path]:
    """A launcher that only this process finds; a folder for sockets."""
    before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "PYROVM_LAUNCHER")}
    with tempfile.TemporaryDirectory(prefix="pvb-") as folder:
        os.environ.update({"XDG_RUNTIME_DIR": folder, "PYROVM_LAUNCHER": "auto"})
        code = _MAIN.format(str(SOURCES), "main")
        words = ["launcher", "run", "--pool", str(pool)]
        process = subprocess.Popen([*_BARE, code, *words], stdin=subprocess.DEVNULL)
        try:
            _wait_for(pool)
            yield Path(folder)
        finally:
            process.terminate()
            process.wait(TIMEOUT)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _wait_for(pool: int) -> list[int]:
    """The children that wait, when they are all there."""
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        try:
            waiting: list[int] = json.loads(client.ask("status"))["pool"]["waiting"]
            if len(waiting) == pool:
                return waiting
        except client.Unavailable:
            pass
        time.sleep(SETTLE_S / 10)
    raise RuntimeError(f"no launcher with {pool} waiting children in {TIMEOUT:g} s")


def _times(terms: Terms, pool: int) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {"ms": [], "cpu": [], "before": [], "cold": []}
    with running_launcher(pool) as folder:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for number in terms.rounds(ROUNDS, f"pool of {pool}", quick=20, share=0.4):
                time.sleep(SETTLE_S)
                waiting = _wait_for(pool)
                before = account_ms(waiting[0]) if waiting else 0.0
                took, cpu = _warm(str(folder / f"warm{number}"), null)
                seen["ms"].append(took)
                seen["cpu"].append(cpu - before)
                seen["before"].append(before)
                seen["cold"].append(_cold(str(folder / f"cold{number}")))
        finally:
            os.close(null)
    return seen


def _arguments(path: str) -> list[str]:
    return ["--api-sock", path, "--id", "bench", "--level", "Error"]


def _warm(path: str, null: int) -> tuple[float, float]:
    """Milliseconds to the first connection, and of CPU by then."""
    began = time.perf_counter()
    launched = client.Launched(
        client.connect(),
        "firecracker",
        _arguments(path),
        {0: null, 1: null, 2: null},
        environment={},
    )
    try:
        connect(path)
        launched.send_signal(signal.SIGSTOP)
        took = (time.perf_counter() - began) * 1e3
        return took, account_ms(launched.pid)
    finally:
        launched.close()


def _cold(path: str) -> float:
    """Milliseconds to the first connection of a process that starts cold."""
    code = _MAIN.format(str(SOURCES), "firecracker")
    began = time.perf_counter()
    process = subprocess.Popen(
        [*_BARE, code, *_arguments(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        connect(path)
        return (time.perf_counter() - began) * 1e3
    finally:
        process.kill()
        process.wait()


def connect(path: str) -> None:
    """Wait until there is somebody.

    Raises:
        RuntimeError: there is nobody.
    """
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.0001)
            else:
                return
    raise RuntimeError(f"no API socket in {TIMEOUT:g} s: {path}")


def account_ms(pid: int) -> float:
    """CPU time of a process with all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


# ---------------------------------------------------------------------- memory


def _memory(terms: Terms) -> dict[str, dict[str, list[float]]]:
    """KiB, by what is attached, and by how the VMM was started."""
    with_tap = os.geteuid() == 0 and Path("/dev/net/tun").exists()
    attached = "disk, vsock and network attached" if with_tap else "disk and vsock attached"
    states = ("API open", attached, f"guest running, {attached}")
    seen: dict[str, dict[str, list[float]]] = {s: {"warm": [], "cold": []} for s in states}
    with running_launcher(1) as folder, _tap(with_tap):
        (folder / "kernel").write_bytes(halting.kernel())
        (folder / "disk").write_bytes(bytes(1 << 20))
        for _ in terms.rounds(MEMORY_ROUNDS, "memory", share=0.2):
            for way, switch in (("warm", "auto"), ("cold", "off")):
                os.environ["PYROVM_LAUNCHER"] = switch
                _wait_for(1)
                vm = pyrovm.MicroVM(
                    folder / "kernel",
                    memory=MEMORY_MIB,
                    drives=[pyrovm.Drive(folder / "disk")],
                    networks=[pyrovm.Network(TAP)] if with_tap else [],
                    vsock=pyrovm.Vsock(),
                )
                with vm:
                    for state, step in zip(
                        states, (vm.launch, vm.configure, vm.start), strict=True
                    ):
                        if step == vm.start:
                            vm.request("PUT", "/actions", {"action_type": "InstanceStart"})
                            vm.console.wait_for(halting.READY)
                        else:
                            step()
                        time.sleep(SETTLE_S)
                        assert vm.pid is not None
                        seen[state][way].append(_private_kib(vm.pid))
    return seen


@contextlib.contextmanager
def _tap(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    subprocess.run(["ip", "tuntap", "add", "dev", TAP, "mode", "tap"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", TAP], check=True)


def _private_kib(pid: int) -> float:
    """Without the guest's memory, where it has some."""
    mappings = read_smaps(pid)
    with contextlib.suppress(LookupError):
        mappings = outside_guest(mappings, MEMORY_MIB << 10)
    return sum(mapping.private_kib for mapping in mappings)
