"""Other people's kinds of unikernels on a complete KVM, each in a process forked from this one.

What the guests say is the test's to judge: {guest: [exit status, standard output, errors]}.
"""

import json
import os
import socket
import subprocess
import sys
import traceback

from pyrovm.cli import run as run_command
from pyrovm.cli import solo5
from tests.fakes.kernel_guest import write_disk
from tests.lab.guests import asset

MEMORY = "--mem=8"
TIMEOUT = 60.0
TAP = "tap0"
OUTPUT, ERRORS = "/tmp/output", "/tmp/errors"
report = {}


def start(main, words):
    """A guest in a process of its own: its pid and the files with its output."""
    output, errors = open(OUTPUT, "wb+"), open(ERRORS, "wb+")  # noqa: SIM115 (finish closes them)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            try:
                status = main(words)
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                status = 1
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid, output, errors


def finish(name, started):
    """Wait for a guest; its result goes into the report."""
    pid, output, errors = started
    _, status = os.waitpid(pid, 0)
    texts = []
    for file in (output, errors):
        with file:
            file.seek(0)
            texts.append(file.read().decode())
    report[name] = [os.waitstatus_to_exitcode(status), *texts]


def tender(name, *words):
    """Run a Solo5 guest to its end."""
    finish(name, start(solo5.main, [MEMORY, *words]))


def kernel(name, *words):
    """Run a kernel to its end."""
    options = ["--kernel", asset(name.partition(" ")[0]), "--memory", "16M", "--no-api"]
    finish(name, start(run_command.main, [*options, "--timeout", "60", *words]))


def network(name, frames):
    """Exchange ``frames`` with a Solo5 guest over a tap."""
    started = start(solo5.main, [MEMORY, f"--net:net0={TAP}", asset(name)])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.bind((TAP, 0))
        wire.settimeout(TIMEOUT)
        wait_for(wire, b"ready")
        echoed = []
        for frame in frames:
            wire.send(frame)
            wait_for(wire, b"<" + frame[1:])
            echoed.append(len(frame))
        wire.send(b".".ljust(60, b"\0"))
        finish(name, started)
    report[f"{name} echoed"] = echoed


def wait_for(wire, beginning):
    """The next frame that begins so; others are the host's own."""
    while not wire.recv(2048).startswith(beginning):
        pass


write_disk("/tmp/disk")

tender("hello", asset("hello"), "one", "two")
tender("sse", asset("sse"))
tender("state", asset("state"))
tender("block", "--block:disk=/tmp/disk", asset("block"))
tender("time", asset("time"))
ours, guests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for rule in ("null", "text", "rodata", "bootinfo", "beyond", "answer-in-text", "port", "halt"):
    descriptor = os.dup(guests.fileno())
    tender(
        f"abuse {rule}",
        *("--block:disk=/tmp/disk", f"--net:net0=@{descriptor}", asset("abuse"), rule),
    )
    os.close(descriptor)

subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap"], check=True)
subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
FRAMES = [b">" + bytes(5) + b"\x02" * 6 + b"\x88\xb5" + bytes(size - 14) for size in (60, 1514)]
network("net", FRAMES)
network("ring", FRAMES * 5)

kernel("unikraft", "--", "cpu", "interrupt")
kernel("osv", "--", "cpu", "interrupt", "end=acpi")
kernel("multiboot", "--drive", "/tmp/disk", "--", "end=debug")
kernel("virtio", "--drive", "/tmp/disk")
kernel("linux", "--cmdline", "cpu end=reset")
json.dump(report, sys.stdout)
