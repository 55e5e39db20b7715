"""What a soak does over and over, each within a second: something is made, used and ended.

Each operation checks what it gets and raises what its users would see.  What they share lasts: a
source machine and a template, made anew when they have ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyrovm
from pyrovm import Drive, MicroVM, Vsock
from pyrovm.errors import PyrovmError
from pyrovm.programs.helper import HELPERS
from tests.fakes import kernel_guest

TIMEOUT = 20  # seconds
SHELL = shutil.which("bash")
ANSWERS = "echo ready > /dev/pyrovm; read -r x; echo got $x"
ENTRY = "from pyrovm.cli.firecracker_entry import main; main()"
SERVE = [sys.executable, "-m", "pyrovm.cli.main", "snapshot", "serve", "--once"]


def square(number):
    """What is called in VMs."""
    return number * number


class Hang(Exception):
    """Something took so long that nobody would wait for it."""


def ask(vm, question):
    """What the guest of tests/guests/kernel/lasting.c answers."""
    vm.console.write(question)
    try:
        return vm.console.wait_for("\n", TIMEOUT).strip()
    except pyrovm.WaitTimeout as error:
        if f"did not in {TIMEOUT}" in str(error):
            raise Hang(str(error)) from None
        raise


class Work:
    """The operations, by their names: the methods that begin with ``do_``."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is for files; what was left there is looked at."""
        self.folder = folder
        self.kernel = kernel_guest.build("lasting", folder)
        kernel_guest.write_disk(folder / "disk")
        self.vm: MicroVM | None = None
        self.template: pyrovm.Template | None = None
        self.functions: pyrovm.Template | None = None

    def do(self, name):
        """One operation."""
        getattr(self, f"do_{name}")()

    # --------------------------------------------------------------------------------- what lasts

    def new_vm(self, **options):
        """A started machine; the caller closes it."""
        drive = Drive(self.folder / "disk", id="disk")
        vm = MicroVM(
            self.kernel, cmdline="", memory="64M", vsock=Vsock(), drives=[drive], **options
        )
        try:
            vm.start()
            vm.console.wait_for("ready\n", TIMEOUT)
            if ask(vm, "w") != "page 1":
                raise AssertionError("the guest does not begin at its beginning")
        except BaseException:
            vm.close()
            raise
        return vm

    def lasting(self):
        """Have what lasts, whatever has ended; which of them had ended."""
        ended = []
        for name, lives in (
            ("vm", self._vm_lives),
            ("template", self._template_lives),
            ("functions", self._functions_live),
        ):
            thing = getattr(self, name)
            if thing is not None and not lives():
                ended.append(name)
                thing.close()
                setattr(self, name, None)
        self.vm = self.vm or self.new_vm()
        self.template = self.template or pyrovm.Template([SHELL, "-c", ANSWERS], pool=1)
        self.functions = self.functions or pyrovm.Template(setup="import json")
        return ended

    def _vm_lives(self):
        try:
            info = self.vm.info()
            if info["state"] == "Paused":  # a fork of a paused source was interrupted
                self.vm.resume()
            return ask(self.vm, "s") == "sum 1"
        except (pyrovm.MicroVMError, BrokenPipeError):
            if self.vm.returncode is None:
                raise
            return False

    def _template_lives(self):
        try:
            return self.template.run(input=b"x\n", stdout=-1).stdout == b"got x\n"
        except PyrovmError:
            return False

    def _functions_live(self):
        try:
            return self.functions.function(square)(3) == 9
        except PyrovmError:
            return False

    def pids(self):
        """Of what lasts."""
        return {"vm": self.vm.pid, "helper": HELPERS.pid}

    def close(self):
        """End what lasts."""
        for thing in (self.vm, self.template, self.functions):
            if thing is not None:
                thing.close()

    # ----------------------------------------------------------------------------------- programs

    def do_program(self):
        """A program in a VM of its own."""
        done = pyrovm.run([SHELL, "-c", "read -r x; echo got $x"], input=b"x\n", stdout=-1)
        expect(done.stdout, b"got x\n")

    def do_branches(self):
        """Branches of the template that lasts, all at once."""
        branches = []
        with contextlib.ExitStack() as stack:
            for n in range(4):
                branch = self.template.fork(input=b"%d\n" % n, stdout=subprocess.PIPE)
                branches.append(stack.enter_context(branch))
            for n, branch in enumerate(branches):
                expect(branch.wait(TIMEOUT).stdout, b"got %d\n" % n)

    def do_template(self):
        """A template that is made, used and ended."""
        with pyrovm.Template([SHELL, "-c", ANSWERS], pool=1) as template:
            expect(template.run(input=b"x\n", stdout=-1).stdout, b"got x\n")
            with template.fork(input=b"y\n", stdout=subprocess.PIPE) as branch:
                expect(branch.wait(TIMEOUT).stdout, b"got y\n")

    def do_map(self):
        """Functions called in branches."""
        expect(list(self.functions.map(square, range(4), workers=2)), [0, 1, 4, 9])

    # ----------------------------------------------------------------------------------- machines

    def do_machine(self):
        """A machine that the launcher's child is."""
        self.new_vm().close()

    def do_cold(self):
        """A machine without the launcher."""
        os.environ["PYROVM_LAUNCHER"] = "off"
        try:
            self.new_vm().close()
        finally:
            os.environ["PYROVM_LAUNCHER"] = "on"

    def do_clones(self):
        """Clones of the machine that lasts, with disks and vsock of their own."""
        self.vm.pause()
        copies = []
        try:
            copies = self.vm.fork(3)
            for copy in copies:
                expect(ask(copy, "w"), "page 2")
                expect(ask(copy, "s"), "sum 3")
                expect(ask(copy, "d"), "sector 0")
            copies[0].console.write("q")
            if status := copies[0].wait(TIMEOUT):
                raise pyrovm.MicroVMError(f"the clone ended with {status}")
        finally:
            for copy in copies:
                copy.close()
        self.vm.resume()

    def do_command(self):
        """``pyrovm-firecracker`` as a command: the launcher's stub."""
        path = self.folder / "api.sock"
        path.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", ENTRY, "--api-sock", str(path), "--level", "Error"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + TIMEOUT
            while not _answers(path):
                if process.poll() is not None:
                    raise pyrovm.MicroVMError(f"the command ended with {process.returncode}")
                if time.monotonic() > until:
                    raise Hang("the API of the command does not answer")
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)

    # ---------------------------------------------------------------------------------- snapshots

    def do_snapshot(self):
        """A snapshot, and a machine from it."""
        with self._files() as path:
            self.vm.snapshot(path)
            self._check(path)

    def do_live(self):
        """A snapshot that is written while the machine runs on."""
        with self._files() as path:
            files = {"snapshot_path": str(path), "mem_file_path": f"{path}.mem"}
            self.vm.request("PUT", "/branch", {"snapshot": files})
            told = _outcome(self.vm)
            if told["state"] == "failed":
                raise pyrovm.MicroVMError(told["error"])
            self._check(path)

    def do_served(self):
        """A machine whose memory a page-fault handler brings."""
        with self._files() as path:
            self.vm.snapshot(path)
            page_server = f"{path}.sock"
            handler = subprocess.Popen(
                [*SERVE, "--no-working-set", f"{path}.mem", page_server],
                stderr=subprocess.PIPE,
                text=True,
            )
            with handler:
                try:
                    handler.stderr.readline()
                    self._check(path, page_server=page_server)
                finally:
                    handler.terminate()

    @contextlib.contextmanager
    def _files(self):
        """Where a snapshot may be; one that an operation left, which was interrupted, is whole."""
        path = self.folder / "saved"
        try:
            if path.exists():
                self._check(path)
            yield path
        finally:
            for file in sorted(self.folder.glob("saved*")):  # the state before what it needs
                file.unlink()

    def _check(self, path, **options):
        with MicroVM.restore(path, vsock=Vsock(), **options) as vm:
            expect(ask(vm, "s"), "sum 1")


def _answers(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _outcome(vm):
    until = time.monotonic() + TIMEOUT
    while True:
        told = vm.request("GET", "/branch")["snapshots"][-1]
        if told["state"] != "writing":
            return told
        if time.monotonic() > until:
            raise Hang("the snapshot is not written")
        time.sleep(0.005)


def expect(found, wanted):
    """Whether an answer is the right one.

    Raises:
        AssertionError: it is not.
    """
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")
