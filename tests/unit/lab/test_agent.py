"""The part of the agent that can run outside of the lab."""

import json
import os
import subprocess
import sys
import threading

import pytest

from pyrovm.lab import agent


def test_it_imports_nothing_of_pyrovm_and_all_it_warms_exists():
    code = (
        "import importlib, sys, runpy\n"
        f"m = runpy.run_path({agent.__file__!r})\n"
        "[importlib.import_module(name) for name in m['WARM']]\n"
        "sys.exit(any(name.startswith('pyrovm') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


def test_orders_come_in_pieces_and_answers_go_out_as_lines(tmp_path):
    os.mkfifo(tmp_path / "port")
    control = agent.Control(str(tmp_path / "port"))
    order = json.dumps({"argv": ["x" * 5000]}).encode() + b"\n"
    writer = os.open(tmp_path / "port", os.O_WRONLY)

    def write():
        for at in range(0, len(order), 999):
            os.write(writer, order[at : at + 999])

    thread = threading.Thread(target=write)
    thread.start()
    assert control.receive() == {"argv": ["x" * 5000]}
    thread.join(30)
    control.send(event="exit", status=3)
    assert control.receive() == {"event": "exit", "status": 3}
    os.close(writer)
    os.close(control.fd)


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 137), (["/no/such"], 127),
     (["/etc/passwd"], 126)],
)  # fmt: skip
def test_a_command_s_status_is_a_shell_s(tmp_path, argv, status):
    os.mkfifo(tmp_path / "port")
    control = agent.Control(str(tmp_path / "port"))
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        agent.execute(argv)
        os._exit(99)
    assert agent.attend(pid, control) == status
    os.close(control.fd)
