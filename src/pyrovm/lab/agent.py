"""Runs inside the lab: takes one order over a virtio-serial port and carries it out.

This file is copied into the lab's image and started by its init; it imports nothing of pyrovm.
It says ``ready`` once it stands with the usual modules of the standard library imported; that is
when the lab's snapshot is taken.  So a resumed lab has a warm interpreter, and an order to run a
Python script is carried out by forking it: no start of an interpreter, no imports.

    lab -> host   {"event": "ready"}
    host -> lab   {"argv": [...], "python": bool, "token": ..., "time_ns": ..., ...}   the order
    lab -> host   {"event": "started"}
    host -> lab   {"event": "stop"}                                                   perhaps
    lab -> host   {"event": "exit", "status": ..., "out": bool}

One JSON object a line.  The command's output goes to two more ports as it is; the order's token
ends each of them, so that the host knows that it has everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import runpy
import select
import signal
import struct
import sys
import time
import traceback
from typing import Any

# What test scenarios and measurements import.
# fmt: off
WARM = (
    "argparse", "asyncio", "base64", "bisect", "collections", "concurrent.futures",
    "contextlib", "ctypes", "dataclasses", "enum", "errno", "functools", "glob", "hashlib",
    "heapq", "http.client", "inspect", "io", "ipaddress", "itertools", "logging", "math",
    "mmap", "operator", "pathlib", "pickle", "platform", "queue", "random", "re", "resource",
    "secrets", "selectors", "shlex", "shutil", "socket", "socketserver", "ssl", "stat",
    "statistics", "string", "struct", "subprocess", "tempfile", "termios", "textwrap",
    "threading", "typing", "urllib.request", "uuid", "warnings", "weakref", "zlib",
)
# fmt: on

MS_RDONLY, MS_NOATIME, MS_REMOUNT = 1, 1024, 32
MNT_FORCE = 1
RNDRESEEDCRNG = 0x5207  # linux/random.h
JOB, OUT, ASSETS = "/job", "/job/out", "/job/assets"
TTY = "/dev/hvc0"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(device: str, target: str, flags: int, kind: bytes | None = b"ext4") -> None:
    """mount(2)."""
    done = _libc.mount(device.encode(), target.encode(), kind, ctypes.c_ulong(flags), None)
    _check(done, f"mount {device} on {target}")


def ports() -> dict[str, str]:
    """The virtio-serial ports: name to device."""
    found = {}
    top = "/sys/class/virtio-ports"
    for entry in os.listdir(top):
        with contextlib.suppress(FileNotFoundError), open(f"{top}/{entry}/name") as file:
            found[file.read().strip()] = f"/dev/{entry}"
    return found


class Control:
    """The control port: JSON objects, one a line."""

    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        self._held = b""

    def send(self, **message: object) -> None:
        """Send one object."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data) :]

    def receive(self) -> dict[str, Any]:
        """Wait for one object; a port whose other end is closed reads as empty: wait on."""
        while b"\n" not in self._held:
            data = os.read(self.fd, 1 << 16)
            if not data:
                time.sleep(0.05)
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def prepare(order: dict[str, Any]) -> None:
    """Make the machine, which may come from a snapshot, that of this run."""
    time.clock_settime_ns(time.CLOCK_REALTIME, order["time_ns"])
    with open("/dev/urandom", "r+b", buffering=0) as pool:  # every resumed lab has the same pool
        pool.write(bytes.fromhex(order["entropy"]))
        fcntl.ioctl(pool, RNDRESEEDCRNG)
    mount("/dev/vda", "/", MS_REMOUNT | MS_NOATIME)
    mount("/dev/vdb", JOB, MS_NOATIME)
    if order["assets"]:
        mount("/dev/vdc", ASSETS, MS_RDONLY)


def become_command(order: dict[str, Any], out: int, err: int) -> None:
    """In the child: its own session, descriptors, folder and environment."""
    os.setsid()
    if size := order["tty"]:
        out = err = source = os.open(TTY, os.O_RDWR)
        import termios

        fcntl.ioctl(source, termios.TIOCSCTTY, 0)
        fcntl.ioctl(source, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    else:
        source = os.open(os.devnull, os.O_RDONLY)
    for target, fd in enumerate((source, out, err)):
        os.dup2(fd, target)
    os.environ.update(LAB_OUT=OUT, LAB_ASSETS=ASSETS, **order["env"])
    os.chdir(order["cwd"])


def execute(argv: list[str]) -> None:
    """Replace the process by the command; 127 and 126 as shells have it."""
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"lab: {argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(126 if isinstance(error, PermissionError) else 127)


def attend(pid: int, control: Control) -> int:
    """Wait for the command, or for the host's word to stop it; its status as shells have it."""
    pidfd = os.pidfd_open(pid)
    deadline = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([pidfd, control.fd], [], [], left)
        if pidfd in ready:
            break
        if control.fd in ready and control.receive().get("event") == "stop":
            os.kill(-1, signal.SIGTERM)  # all but this process and process 1
            deadline = time.monotonic() + 1
        elif not ready:
            os.kill(-1, signal.SIGKILL)
            deadline = None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def close_job() -> bool:
    """End what the command left running and write everything to the disk; is there output?"""
    with contextlib.suppress(ProcessLookupError):  # nothing was left
        os.kill(-1, signal.SIGKILL)
    wrote = bool(os.listdir(OUT))
    os.chdir("/")
    _libc.umount2(ASSETS.encode(), MNT_FORCE)
    for _ in range(100):  # killed processes take a moment to let go
        if _libc.umount2(JOB.encode(), 0) == 0:
            return wrote
        time.sleep(0.02)
    os.sync()
    mount("/dev/vdb", JOB, MS_REMOUNT | MS_RDONLY, None)
    return wrote


def drain(fd: int, token: bytes) -> None:
    """Write the token that ends a stream."""
    data = token + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def serve() -> list[str]:
    """Carry out one order.  Returns only in a child that is to run a Python script: its argv."""
    for name in WARM:
        importlib.import_module(name)
    device = ports()
    control = Control(device["lab.ctl"])
    out = os.open(device["lab.out"], os.O_WRONLY | os.O_CLOEXEC)
    err = os.open(device["lab.err"], os.O_WRONLY | os.O_CLOEXEC)
    control.send(event="ready")
    order = control.receive()
    prepare(order)
    control.send(event="started")
    pid = os.fork()
    if pid == 0:
        become_command(order, out, err)
        for fd in (control.fd, out, err):
            os.close(fd)
        if order["python"]:
            return list(order["argv"])
        execute(order["argv"])
    status = attend(pid, control)
    wrote = close_job()
    for fd in (out, err):
        drain(fd, order["token"].encode())
    control.send(event="exit", status=status, out=wrote)
    while True:
        time.sleep(3600)  # the host ends the machine


def main() -> None:
    """Serve; in the child, be the script."""
    try:
        argv = serve()
    except Exception:
        traceback.print_exc()  # to the console, which the host shows when a lab fails
        raise SystemExit(70) from None
    sys.argv[:] = argv
    search = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [os.path.dirname(os.path.abspath(argv[0])), *filter(None, search.split(":"))]
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
