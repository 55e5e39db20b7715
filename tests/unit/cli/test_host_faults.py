"""A VMM process on a host that fails it: killed, out of descriptors, full disks, bad clients."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.vmm_process import TIMEOUT, message, run

GET = message("GET", "/version")
MAX_CONNECTIONS = 10


def connect(process):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT)
    client.connect(process.socket)
    return client


@contextlib.contextmanager
def crowd(process, size):
    """Clients that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(process)) for _ in range(size)]


def eventually(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def sockets(process):
    folder = f"/proc/{process.process.pid}/fd"
    return sum(os.readlink(f"{folder}/{fd}").startswith("socket:") for fd in os.listdir(folder))


# -------------------------------------------------------------------- kill -9


def test_a_killed_vmm_leaves_its_sockets_and_nothing_else_that_matters(start, tmp_path):
    vsock = {"guest_cid": 3, "uds_path": str(tmp_path / "v.sock")}
    log, metrics = tmp_path / "log", tmp_path / "metrics"
    log.touch()
    metrics.touch()
    first = start("--metrics-path", str(metrics))
    assert " 204 " in first.request("PUT", "/vsock", vsock)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    # As the contract has it, whoever starts the next one removes the sockets.
    second = run("--api-sock", first.socket)
    assert second.returncode == 1
    assert (
        f"Failed to open the API socket at: {first.socket}. Check that it is not" in second.stdout
    )
    os.unlink(first.socket)
    third = start("--metrics-path", str(metrics))
    assert "Address in use (os error 98)" in third.request("PUT", "/vsock", vsock)
    os.unlink(vsock["uds_path"])
    assert " 204 " in third.request("PUT", "/vsock", vsock)


PROGRAM = """
import sys, time
from pyrovm import MicroVM
vm = MicroVM("/no/kernel")
vm.launch()
print(vm.pid, vm.workspace.path, flush=True)
time.sleep(60)
"""


def test_a_vmm_ends_with_the_program_that_started_it_and_the_next_one_cleans_up(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as program:
        pid, folder = program.stdout.readline().split()
        vmm = os.pidfd_open(int(pid))
        program.kill()
    assert select.select([vmm], [], [], TIMEOUT)[0], "the VMM outlived its program"
    os.close(vmm)
    assert Path(folder).exists()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as program:
        other = program.stdout.readline().split()[1]
        assert not Path(folder).exists()
        assert Path(other).exists()
        program.kill()


# ------------------------------------------------------- descriptors, full disks


def test_running_out_of_descriptors_is_survived(start, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))

    def put(name):
        body = {"drive_id": name, "path_on_host": str(disk), "is_root_device": False}
        return message("PUT", f"/drives/{name}", body)

    process = start(wrapper=["prlimit", "--nofile=16"])
    with connect(process) as inside:
        inside.sendall(put("first"))
        assert b" 204 " in inside.recv(65536)
        with crowd(process, 20):
            process.wait_for("API Server error on retrieving incoming request: No file descriptors")
            inside.sendall(put("second"))
            assert b"No file descriptors available (os error 24)" in inside.recv(65536)
            inside.sendall(message("GET", "/"))  # its handler's module is not imported yet
            assert b"Out of file descriptors. Try again later." in inside.recv(65536)
    eventually(lambda: " 200 " in process.request("GET", "/"))


def test_a_full_disk_costs_log_and_metrics_and_is_counted(start, tmp_path):
    metrics = tmp_path / "metrics"
    process = start("--metrics-path", str(metrics))
    assert " 204 " in process.request("PUT", "/logger", {"log_path": "/dev/full"})
    for _ in range(3):
        assert " 200 " in process.request("GET", "/version")
    assert process.end(signal.SIGHUP) == 156
    assert json.loads(metrics.read_text())["logger"]["missed_log_count"] >= 3


def test_metrics_for_a_full_disk_do_not_end_the_vmm(start):
    process = start("--metrics-path", "/dev/full")
    assert " 200 " in process.request("GET", "/version")
    assert process.end(signal.SIGHUP) == 156


def test_a_log_that_may_not_grow_any_more_ends_the_vmm_with_a_code_of_its_own(start, tmp_path):
    metrics = tmp_path / "metrics"
    process = start("--metrics-path", str(metrics), wrapper=["prlimit", "--fsize=32768"])
    process.request("PUT", "/logger", {"log_path": str(tmp_path / "log")})
    with contextlib.suppress(ConnectionError):
        while process.request("GET", "/version"):
            pass
    assert process.finish() == 151
    assert json.loads(metrics.read_text())["signals"]["sigxfsz"] == 1
    assert (tmp_path / "log").stat().st_size == 32768


# -------------------------------------------------------------------- clients


def test_a_thousand_connections_leave_nothing_behind(start):
    process = start()
    assert " 204 " in process.request("PUT", "/logger", {"level": "Off"})  # nobody reads it
    for number in range(1000):
        with connect(process) as client:
            if number % 2:
                client.sendall(GET)
                assert b" 200 " in client.recv(65536)
            elif number % 4:
                client.sendall(GET[:10])
    assert " 200 " in process.request("GET", "/version")
    eventually(lambda: sockets(process) == 1)  # the one that listens


def test_a_slow_client_holds_up_nobody_and_gets_its_answer(start):
    process = start()
    slow = connect(process)
    for index in range(len(GET)):
        slow.sendall(GET[index : index + 1])
        assert " 200 " in process.request("GET", "/")
    assert b" 200 " in slow.recv(65536)
    slow.close()


def test_clients_that_say_nothing_leave_room_when_they_go(start):
    process = start()
    with crowd(process, MAX_CONNECTIONS) as silent:
        with connect(process) as late:
            assert late.recv(65536).startswith(b"HTTP/1.1 503")
        silent[0].close()
        eventually(lambda: " 200 " in process.request("GET", "/"))


# ------------------------------------------------------------------------ taps


@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="no /dev/net/tun")
def test_a_tap_that_does_not_exist_and_may_not_be_made(start):
    drop = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    process = start(wrapper=drop)
    body = {"iface_id": "eth0", "host_dev_name": "no-such-tap0"}
    reply = process.request("PUT", "/network-interfaces/eth0", body)
    assert " 400 " in reply
    assert (
        "Could not create the network device: Open tap device failed: Error while creating ifreq "
        "structure: Operation not permitted (os error 1). Invalid TUN/TAP Backend provided by "
        "no-such-tap0."
    ) in reply
    assert " 200 " in process.request("GET", "/")
