"""Both VMMs as processes: started, asked to begin, waited for, in the same way."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

SOURCES = "/job/tree/src"
TIMEOUT = 60.0  # seconds; a guest takes some, in the lab

# Isolated, without site: as the SDK starts its VMMs.
_PYTHON = [sys.executable, "-I", "-S", "-c"]
_ENTRY = f"import sys; sys.path.insert(0, {SOURCES!r}); "
_FIRECRACKER = "from pyrovm.cli.firecracker import main; sys.exit(main())"
_RUN = "from pyrovm.cli.main import main; sys.exit(main())"

# QEMU's smallest machine, each choice the one that gets to init soonest.
MICROVM = {
    "accel": "kvm",
    "kernel-irqchip": "on",  # PIC, IOAPIC and LAPIC in the kernel, as ours; "split" is slower
    "acpi": "off",  # no tables to build and parse, and the small firmware, qboot
    "pit": "off",
    "pic": "off",
    "rtc": "on",  # without it Debian's kernel polls for a second
    "x-option-roms": "off",
}
QEMU = [
    "qemu-system-x86_64",
    *("-cpu", "host", "-smp", "1"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
    *("-global", "virtio-mmio.force-legacy=off"),  # virtio 1, as ours
]


@dataclasses.dataclass(frozen=True)
class Guest:
    """What the guest consists of; the same for both."""

    kernel: str
    initrd: str
    args: str
    memory_mib: int = 128
    serial: bool = False
    drive: str | None = None
    engine: str = "Sync"  # or "Async": io_uring
    tap: str | None = None
    vsock: str | None = None  # a Unix socket's path, or "vhost"
    vhost: bool = False  # the kernel moves the network's frames
    bzimage: str = ""  # the same kernel, compressed, for who knows nothing else


class StoodStill(RuntimeError):
    """A guest did not end."""


ATTEMPTS = 6


def patiently(attempt: Callable[[], T]) -> T:
    """``attempt()``; again where the guest stood still.

    Under a clock that counts, guests of either VMM do so now and then on a busy machine.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except StoodStill as error:
            say(f"{str(error).splitlines()[0]}; once more")
    return attempt()


class Machine:
    """A VMM's process; a context manager that ends it."""

    name = ""
    can_wait = True  # for a word that starts the guest
    ends = True  # when its guest resets

    def __init__(self, guest: Guest, folder: Path, *, waits: bool) -> None:
        """Start the process; with ``waits`` the guest starts only by :meth:`begin`."""
        self.guest = guest
        self.folder = folder
        self.output = folder / "output"
        self._socket = folder / "control"
        self._socket.unlink(missing_ok=True)
        argv = self.command(waits)
        with self.output.open("wb") as output:
            self.started_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def command(self, waits: bool) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def make_ready(self) -> None:
        """Configure it, so that one word starts the guest."""
        raise NotImplementedError

    def begin(self) -> int:
        """Say the word; when it was said, in ns."""
        raise NotImplementedError

    def connect(self) -> socket.socket:
        """A connection to the control socket, as soon as there is one."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                time.sleep(0.01)
            else:
                return connection
        raise self.failure("no control socket")

    def put(self, connection: socket.socket, path: str, body: bytes) -> int:
        """Send an HTTP request; when that began, in ns."""
        return self.send(connection, "PUT", path, body)

    @staticmethod
    def send(connection: socket.socket, method: str, path: str, body: bytes) -> int:
        """As :meth:`put`, by any method."""
        now = time.monotonic_ns()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return now

    def settle(self) -> None:
        """Wait until the process has nothing to do any more."""
        before = -1
        while (now := self.cpu_ns()) != before:
            before = now
            time.sleep(0.1)

    def cpu_ns(self) -> int:
        """The CPU time of all its threads."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def wait(self) -> int:
        """Wait for the process to end; when it has, in ns."""
        # Popen.wait would look only now and then.
        ended = os.pidfd_open(self.process.pid)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        try:
            if not poller.poll(TIMEOUT * 1e3):
                raise StoodStill(self.failure("the guest did not end"))
            now = time.monotonic_ns()
        finally:
            os.close(ended)
        self.process.wait()
        return now

    def failure(self, what: str) -> RuntimeError:
        """An error with the end of what the process said."""
        said = self.output.read_text(errors="replace")[-2000:]
        return RuntimeError(f"{self.name}: {what} (status {self.process.poll()})\n{said}")


class Pyrovm(Machine):
    """``pyrovm-firecracker``: steered by its API, or started from a config file."""

    name = "pyrovm"

    def command(self, waits: bool) -> list[str]:
        self.metrics_file.touch()
        if self.guest.vhost or self.guest.vsock == "vhost":
            return [*_PYTHON, _ENTRY + _RUN, "run", *self._run_words()]
        metrics = ["--metrics-path", str(self.metrics_file)]
        argv = [*self.program(), "--level", "Error", *metrics]
        if waits:
            return [*argv, "--api-sock", str(self._socket)]
        config = self.folder / "config.json"
        config.write_text(json.dumps(dict(self.requests())))
        return [*argv, "--no-api", "--config-file", str(config)]

    def program(self) -> list[str]:
        """What it is started as, without options."""
        return [*_PYTHON, _ENTRY + _FIRECRACKER]

    @property
    def metrics_file(self) -> Path:
        """Where its metrics go."""
        return self.folder / "metrics"

    def requests(self) -> list[tuple[str, Any]]:
        """The resources of the API and what they shall be."""
        guest = self.guest
        boot = {"kernel_image_path": guest.kernel, "initrd_path": guest.initrd}
        found: list[tuple[str, Any]] = [
            ("machine-config", {"vcpu_count": 1, "mem_size_mib": guest.memory_mib}),
            ("boot-source", {**boot, "boot_args": guest.args}),
        ]
        drive = {"drive_id": "disk", "path_on_host": guest.drive, "is_root_device": False}
        drive |= {"is_read_only": False, "io_engine": guest.engine}
        found.append(("drives", [drive] if guest.drive else []))
        if guest.tap:
            found.append(("network-interfaces", [{"iface_id": "net", "host_dev_name": guest.tap}]))
        if guest.vsock:
            found.append(("vsock", {"guest_cid": 3, "uds_path": guest.vsock}))
        return found

    def _run_words(self) -> list[str]:
        """For ``pyrovm run``, the door to the kernel's data planes."""
        guest = self.guest
        words = ["--kernel", guest.kernel, "--initrd", guest.initrd, "--cmdline", guest.args]
        words += ["--memory", f"{guest.memory_mib}M", "--no-entropy", "--no-api", "--vhost"]
        if guest.tap:
            words += ["--net", guest.tap]
        if guest.vsock:
            words += ["--vsock", f"3:{self.folder}/vsock"]
        return words

    def make_ready(self) -> None:
        self._connection = self.connect()
        for resource, body in self.requests():
            for each in body if isinstance(body, list) else [body]:
                key = each.get("drive_id") or each.get("iface_id")
                path = f"/{resource}/{key}" if key else f"/{resource}"
                self.put(self._connection, path, json.dumps(each).encode())
                answer = self._connection.recv(4096)
                if b" 204 " not in answer:
                    raise self.failure(f"{resource} was refused: {answer!r}")
        self.settle()

    def begin(self) -> int:
        return self.put(self._connection, "/actions", b'{"action_type": "InstanceStart"}')

    def metrics(self) -> dict[str, Any]:
        """The last line of its metrics, which is written at the end of the process."""
        last: dict[str, Any] = json.loads(self.metrics_file.read_text().splitlines()[-1])
        return last


class Qemu(Machine):
    """``qemu-system-x86_64 -M microvm`` on KVM: steered by QMP, or started at once."""

    name = "qemu"

    def command(self, waits: bool) -> list[str]:
        guest = self.guest
        board = MICROVM | {"isa-serial": "on" if guest.serial else "off"}
        words = [*QEMU, "-M", ",".join(["microvm", *(f"{k}={v}" for k, v in board.items())])]
        words += ["-m", f"{guest.memory_mib}M", "-kernel", guest.kernel, "-initrd", guest.initrd]
        words += ["-append", guest.args]
        if guest.serial:
            words += ["-serial", "stdio"]
        if guest.drive:
            aio = {"Sync": "threads", "Async": "io_uring"}[guest.engine]
            how = f"format=raw,cache=writeback,aio={aio}"
            words += ["-drive", f"if=none,id=disk,file={guest.drive},{how}"]
            words += ["-device", "virtio-blk-device,drive=disk"]
        if guest.tap:
            vhost = "on" if guest.vhost else "off"
            how = f"script=no,downscript=no,vhost={vhost}"
            words += ["-netdev", f"tap,id=net,ifname={guest.tap},{how}"]
            words += ["-device", "virtio-net-device,netdev=net"]
        if guest.vsock:
            words += ["-device", "vhost-vsock-device,guest-cid=3"]
        if waits:
            words += ["-S", "-qmp", f"unix:{self._socket},server=on,wait=off"]
        return words

    def make_ready(self) -> None:
        self._connection = self.connect()
        self._answers = self._connection.makefile("rb")
        self._answers.readline()  # the greeting
        self._connection.sendall(b'{"execute": "qmp_capabilities"}\n')
        self._answers.readline()
        self.settle()

    def begin(self) -> int:
        now = time.monotonic_ns()
        self._connection.sendall(b'{"execute": "cont"}\n')
        return now


MACHINES: tuple[type[Machine], ...] = (Pyrovm, Qemu)


def say(text: str) -> None:
    """Tell the host how far we are."""
    print(json.dumps({"progress": text}), flush=True)


def answer(value: object) -> None:
    """Tell the host what we found, as the last thing."""
    print(json.dumps(value), flush=True)


def take_assets(*names: str) -> list[str]:
    """Copy assets to memory, where reading them takes no real time; their paths."""
    copies = []
    for name in names:
        target = Path("/tmp") / name
        target.write_bytes((Path(os.environ["LAB_ASSETS"]) / name).read_bytes())
        copies.append(str(target))
    return copies
