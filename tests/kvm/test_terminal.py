"""Programs in VMs of their own at the user's terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import TIMEOUT, compile_program

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]


class Terminal:
    """A terminal of ours, and what was written to it so far."""

    def __init__(self):
        self.user, self.device = pty.openpty()
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def wait_for(self, text):
        """Read on until ``text`` is there; what comes behind it stays for the next time."""
        while text not in self.seen:
            assert select.select([self.user], [], [], TIMEOUT)[0], self.seen
            self.seen += os.read(self.user, 65536).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self):
        os.close(self.user)
        os.close(self.device)


@pytest.fixture
def terminal():
    made = Terminal()
    made.resize(24, 80)
    yield made
    made.close()


def test_a_program_gets_keys_at_once_and_the_terminal_is_as_before_at_the_end(terminal, tmp_path):
    before = termios.tcgetattr(terminal.device)
    program = compile_program("rawmode", tmp_path)
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--", str(program)]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.device)
    with subprocess.Popen(command, env=program_guest.environment(), **streams) as process:
        try:
            said = terminal.wait_for("keys\r\n").rpartition("\x1b[K")[2].splitlines()
            assert said == [
                *("settings: 0", "lines: yes", "size: 0", "is: 24 by 80", "raw: 0", "as set: yes"),
                "bad how: EINVAL",
            ]
            assert termios.tcgetattr(terminal.device)[3] & termios.ICANON == 0
            for key in (b"\x03", b"\x1a", b"\r", b"x"):  # Ctrl-C, Ctrl-Z, Enter
                os.write(terminal.user, key)
                terminal.wait_for(f"key: {key[0]}\r\n")
            terminal.resize(50, 132)
            os.write(terminal.user, b"q")
            terminal.wait_for("size: 50 by 132\r\n")
            assert process.wait(TIMEOUT) == 7
        finally:
            process.kill()
    assert termios.tcgetattr(terminal.device) == before
