"""QEMU's command line and its control socket (QMP)."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import platform
import socket
import time
from pathlib import Path

from pyrovm.errors import Unsupported
from pyrovm.guest import programs
from pyrovm.lab.errors import LabError
from pyrovm.lab.images import QEMU, Images, cache_folder

_KERNEL_ARGS = (
    "console=ttyS0 panic=-1 quiet mitigations=off nokaslr tsc=reliable "
    "random.trust_cpu=on cryptomgr.notests"
)
_RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kind of machine; each kind has a snapshot of its own.

    With ``icount`` N one instruction takes 2**N virtual nanoseconds: figures repeat, on one CPU.
    """

    cpus: int = 1
    memory_mib: int = 1536
    icount: int | None = None
    cpu: str = "EPYC,+svm,+npt"
    append: str = ""  # to the kernel's command line


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What differs from session to session: files, and sockets that QEMU inherits."""

    job: Path = Path("-")
    assets: Path = Path("-")
    console: Path = Path("-")
    memory: Path | None = None  # the snapshot's, or the one that is to become it
    memory_shared: bool = False  # write to it
    ctl: int = -1
    out: int = -1
    err: int = -1
    qmp: int = -1
    tty: int | None = None


def command(machine: Machine, images: Images, wiring: Wiring) -> list[str]:
    """The emulator's command line."""
    words = [str(programs.require(QEMU)[0])]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    board, size = "pc", f"{machine.memory_mib}M"
    if wiring.memory:
        board += ",memory-backend=ram"
        shared = "on" if wiring.memory_shared else "off"
        file = f"mem-path={_escape(wiring.memory)},share={shared}"
        words += ["-object", f"memory-backend-file,id=ram,size={size},{file}"]
    words += ["-M", board, "-m", size, "-smp", str(machine.cpus), "-cpu", machine.cpu]
    khz = tsc_khz()
    if machine.icount is None:
        words += ["-accel", "tcg,thread=" + ("multi" if machine.cpus > 1 else "single")]
    else:
        words += ["-accel", "tcg", "-icount", f"shift={machine.icount},sleep=off"]
        khz = 1_000_000  # the TSC counts virtual nanoseconds
    append = f"{_KERNEL_ARGS} tsc_early_khz={khz} {machine.append}".strip()
    words += ["-kernel", str(images.kernel), "-initrd", str(images.initrd), "-append", append]
    words += ["-serial", f"file:{wiring.console}"]
    disks = (
        (images.base, "snapshot=on"),
        (wiring.job, "cache=unsafe"),
        (wiring.assets, "readonly=on"),
    )
    for number, (path, how) in enumerate(disks):
        words += ["-drive", f"if=none,id=d{number},file={_escape(path)},format=raw,{how}"]
        words += ["-device", f"virtio-blk-pci,drive=d{number}"]
    words += ["-device", "virtio-serial-pci"]
    for name, fd in (("ctl", wiring.ctl), ("out", wiring.out), ("err", wiring.err)):
        words += ["-chardev", f"socket,id={name},fd={fd}"]
        words += ["-device", f"virtserialport,chardev={name},name=lab.{name}"]
    words += ["-chardev", "null,id=tty" if wiring.tty is None else f"socket,id=tty,fd={wiring.tty}"]
    words += ["-device", "virtconsole,chardev=tty"]
    words += ["-chardev", f"socket,id=qmp,fd={wiring.qmp}", "-mon", "chardev=qmp,mode=control"]
    return words


def identity() -> str:
    """Which QEMU this is: a snapshot fits no other."""
    (qemu,) = programs.require(QEMU)
    status = qemu.resolve().stat()
    return f"{qemu.resolve()} {status.st_size} {status.st_mtime_ns}"


def _escape(path: Path) -> str:
    return str(path).replace(",", ",,")  # in QEMU's option lists


def tsc_khz() -> int:
    """The host's TSC rate, which TCG hands on to its guest.

    The guest's own calibration goes wrong where the host is busy, and then its clock runs at the
    wrong speed; so it is told.  Measured once for each start of the host, to 0.1 MHz.
    """
    if platform.machine() != "x86_64":
        raise Unsupported("the lab needs an x86-64 host: its clock is the host's TSC")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept = cache_folder() / "tsc-khz"
    if kept.exists():
        known, _, khz = kept.read_text().partition(" ")
        if known == boot_id:
            return int(khz)
    rate = _measure_tsc_khz()
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(f"{boot_id} {rate}")
    part.rename(kept)
    return rate


def _measure_tsc_khz() -> int:
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=protection)
    page.write(_RDTSC)
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    begin_ns, begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), int(rdtsc())
    time.sleep(0.25)
    end_ns, end = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), int(rdtsc())
    return round((end - begin) * 1e6 / (end_ns - begin_ns) / 100) * 100


class Monitor:
    """QEMU's control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(60)
        self._lines = connection.makefile("rb")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def leave_memory_out(self) -> None:
        """Have snapshots hold the devices' state only; memory lies in a file that is mapped."""
        capability = {"capability": "x-ignore-shared", "state": True}
        self.execute("migrate-set-capabilities", capabilities=[capability])

    def execute(self, name: str, **arguments: object) -> dict[str, object]:
        """Run a command; what it returns.

        Raises:
            LabError: QEMU refused it, or ended.
        """
        request = json.dumps({"execute": name, "arguments": arguments})
        self._socket.sendall(request.encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refused {name}: {answer['error']['desc']}")
            if "return" in answer:
                result: dict[str, object] = answer["return"]
                return result
        raise LabError(f"QEMU ended during {name}")

    def close(self) -> None:
        """Close QEMU's socket."""
        self._lines.close()
        self._socket.close()
