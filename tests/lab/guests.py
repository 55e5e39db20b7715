"""Linux guests for scenarios: a microVM whose process 1 carries out commands from its console.

The test makes the initramfs with :data:`INIT` as its script (``make_initramfs``); the scenario
starts a :class:`Guest` on it.  Each command's output comes back with its exit status:

>>> with Guest("vmlinux", "initramfs") as guest:                             # doctest: +SKIP
...     guest.run("uname -r")
'6.1.0-56-cloud-amd64'

Runs in the lab and outside of it; imports nothing of pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from pyrovm import MicroVM
from pyrovm.sdk.microvm import Console
from pyrovm.sdk.scrollback import Scrollback

READY = "guest is ready"
END = "\x1e"  # what no command of ours writes

# The loop reads one line at a time, so commands may not contain newlines.
INIT = f"""
stty -echo -onlcr
printf '{READY}\\n'
while IFS= read -r line; do
    eval "$line"
    printf '\\036%s\\036' $?
done
"""

CMDLINE = "console=ttyS0 reboot=k panic=-1 quiet"
# What kernels say on every machine of this kind, or of every CPU that the lab emulates.  Error 16
# is EBUSY: kernels that take devices from the command line, too, find each of them a second time.
EXPECTED = re.compile(
    "PCI: Fatal: No config space access function found|Speculative Return Stack Overflow"
    "|unsupported blocksize for DAX|virtio-mmio virtio-mmio.*error -16"
)
_ANSWER = re.compile(f"{END}(\\d+){END}")

COMMAND_TIMEOUT = 60.0  # seconds; emulation is slow, and the machine may be busy


class CommandFailed(Exception):
    """A command in the guest ended with a status other than 0."""


def asset(name: str) -> str:
    """A file that the test has sent along."""
    return os.path.join(os.environ["LAB_ASSETS"], name)


class Shell:
    """What can be done at a console with the command loop; its guest has a ``log``, too."""

    console: Console
    log: str

    def attempt(self, command: str, timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
        """The exit status and the output of ``command``."""
        self.console.write(command + "\n")
        output = self.console.wait_for(_ANSWER, timeout)
        match = _ANSWER.search(output)
        assert match is not None
        return int(match[1]), output[: match.start()]

    def run(self, command: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """The output of a command that succeeds.

        Raises:
            CommandFailed: it does not.
        """
        status, output = self.attempt(command, timeout)
        if status:
            raise CommandFailed(f"{command!r} ended with {status}: {output}\n{self.log}")
        return output.rstrip("\n")

    def complaints(self) -> list[str]:
        """What the guest's kernel logged as an error or worse, and its stack traces."""
        text = self.run("dmesg -r | grep -E '^<[0-3]>|BUG:|WARNING:|Call Trace' | cut -c4-; true")
        messages = [line.partition("] ")[2] for line in text.splitlines()]
        return [message for message in messages if message and not EXPECTED.search(message)]


class Guest(Shell, MicroVM):
    """A microVM that boots to the command loop."""

    def __init__(self, kernel: str = "vmlinux", initrd: str = "initramfs", **options) -> None:
        options.setdefault("cmdline", CMDLINE)
        options.setdefault("memory", 256)
        options.setdefault("entropy", False)
        super().__init__(asset(kernel), initrd=asset(initrd), **options)

    def boot(self, timeout: float = 120.0) -> str:
        """Start and wait for the command loop; what the console said until then."""
        self.start(timeout)
        return self.console.wait_for(READY + "\n", timeout)

    def power_off(self, timeout: float = 60.0) -> int:
        """Reset, which ends a microVM; the VMM's exit status."""
        self.console.write("reboot -f\n")
        return self.wait(timeout)


class RunGuest(Shell):
    """The same started by ``pyrovm run``, as a person would; ``options`` are its words."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pyrovm.cli.main", "run"),
                *("--kernel", asset("vmlinux"), "--initrd", asset("initramfs")),
                *("--log", "/tmp/run.log", *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.console = Console(self._process, Scrollback())
        self.console.wait_for(READY + "\n", 120.0)

    @property
    def log(self) -> str:
        """The VMM's log."""
        with open("/tmp/run.log") as file:
            return file.read()

    def power_off(self, timeout: float = 60.0) -> int:
        """Reset, which ends a microVM; the exit status of ``pyrovm run``."""
        self.console.write("reboot -f\n")
        return self._process.wait(timeout)
