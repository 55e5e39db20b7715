"""A launcher that is killed harms no VM, leaves nothing that matters, and is replaced."""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from tests.fakes.launcher import ENTRY, TIMEOUT, wait_until

ROUNDS = 12
AT_ONCE = 4


def test_vms_run_on_without_it_and_the_next_one_serves(launcher, start):
    launcher.run("--pool", "1")
    first = start()
    launcher.kill()
    assert os.path.exists(launcher.socket)
    assert '"state":"Not started"' in first.request("GET", "/")
    launcher.run()
    second = start()
    assert launcher.status()["started"] == 1
    first.end()
    assert second.end() == -signal.SIGTERM


@pytest.mark.parametrize("stop", [False, True])
def test_how_a_vm_ends_is_known_without_it(launcher, start, stop):
    launcher.run()
    by_code, by_signal, killed = start(), start(), start()
    pid = next(c["pid"] for c in launcher.status()["children"] if c["pid"])
    if stop:
        launcher.pyrovm("launcher", "stop")
        launcher.process.wait(TIMEOUT)
    else:
        launcher.kill()
    assert os.path.exists(f"/proc/{pid}")
    # An older kernel may keep it from those who are no parents.
    unknown = set() if release() >= (6, 15) else {1}
    assert by_code.end(signal.SIGHUP) in {156} | unknown
    assert by_signal.end(signal.SIGTERM) in {-signal.SIGTERM} | unknown
    killed.process.kill()
    wait_until(lambda: not launcher.pids(), "nothing is left")


def test_one_that_was_killed_is_replaced_by_its_next_user(launcher, start):
    launcher.run()
    launcher.kill()
    assert start().end() == -signal.SIGTERM  # without it
    status = wait_until(launcher.status, "another one serves")
    assert status["started"] == 0
    start().end()
    assert launcher.status()["started"] == 1


def test_a_child_of_the_pool_that_is_killed_is_replaced(launcher, start):
    launcher.run("--pool", "2")
    for pid in launcher.wait_for_pool():
        os.kill(pid, signal.SIGKILL)
    assert start().end() == -signal.SIGTERM
    assert start().end() == -signal.SIGTERM
    launcher.wait_for_pool()


def test_one_that_hangs_is_done_without(launcher, start):
    launcher.run()
    os.kill(launcher.process.pid, signal.SIGSTOP)
    process = start()
    os.kill(launcher.process.pid, signal.SIGCONT)
    assert '"state":"Not started"' in process.request("GET", "/")
    assert process.end() == -signal.SIGTERM
    assert not launcher.status()["children"]


def test_killed_at_any_moment_it_leaves_every_caller_with_a_vm(launcher, tmp_path):
    rng = random.Random(4)
    ends = {-signal.SIGTERM} if release() >= (6, 15) else {-signal.SIGTERM, 1}
    for number in range(ROUNDS):
        launcher.run("--pool", str(number % 3))
        sockets = [str(tmp_path / f"{number}-{index}") for index in range(AT_ONCE)]
        processes = [
            subprocess.Popen(
                [*ENTRY, "--api-sock", path, "--level", "Error"],
                env=launcher.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for path in sockets
        ]
        killer = threading.Timer(rng.uniform(0.0, 0.12), launcher.kill)
        killer.start()
        for process, path in zip(processes, sockets, strict=True):
            wait_until(lambda at=path, of=process: answers(at, of), "the API answers")
        killer.join()
        for process in processes:
            process.terminate()
            _, said = process.communicate(timeout=TIMEOUT)
            assert process.returncode in ends, said
            assert said == b""
        nothing_is_left(launcher)


def test_whoever_is_killed_when_nothing_remains(launcher, tmp_path):
    rng = random.Random(5)
    for number in range(ROUNDS):
        launcher.run("--pool", str(number % 3))
        processes = [
            subprocess.Popen(
                [*ENTRY, "--api-sock", str(tmp_path / f"{number}-{index}"), "--level", "Error"],
                env=launcher.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for index in range(AT_ONCE)
        ]
        time.sleep(rng.uniform(0.0, 0.1))
        victims = launcher.pids()
        for pid in rng.sample(victims, rng.randint(1, len(victims))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(rng.uniform(0.0, 0.01))
        for process in processes:
            process.kill()
            process.wait(TIMEOUT)
        launcher.kill()
        nothing_is_left(launcher)


def nothing_is_left(launcher):
    def gone():
        launcher.pyrovm("launcher", "stop")  # one that a caller may have started meanwhile
        return not launcher.pids()

    wait_until(gone, "nothing is left")
    assert set(os.listdir(launcher.folder)) <= {"launcher.lock", "launcher.sock"}


def release():
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def answers(path, process):
    import socket

    assert process.poll() is None, process.communicate()
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.settimeout(TIMEOUT)
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return b'"state":"Not started"' in client.recv(4096)
