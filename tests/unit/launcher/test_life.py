"""The launcher comes, serves, is looked at and goes; what it cannot do is said."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from pyrovm.launcher import client, wire
from tests.fakes.launcher import ENTRY, PYROVM, TIMEOUT, wait_until

OTHER_USER = """
import os, sys
sys.path.insert(0, {source!r})
os.environ["XDG_RUNTIME_DIR"] = {base!r}
import select, socket
from pyrovm.launcher import client
os.setgid(65534); os.setuid(65534)
try:
    client.ask("status")
except client.Unavailable as error:
    print(error)
direct = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    direct.connect({path!r})
    print(direct.recv(1000))
except OSError as error:
    print(error)
"""
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__)))) + "/src"


def test_start_and_stop_say_what_they_have_done(launcher):
    assert launcher.pyrovm("launcher", "status").returncode == 3
    started = launcher.pyrovm("launcher", "start", "--pool", "1")
    assert (started.returncode, started.stdout) == (
        0,
        f"the launcher serves at {launcher.socket}\n",
    )
    again = launcher.pyrovm("launcher", "start")
    assert again.stdout == f"a launcher runs already at {launcher.socket}\n"
    assert os.stat(launcher.socket).st_mode & 0o777 == 0o600
    assert os.stat(launcher.folder).st_mode & 0o077 == 0
    launcher.wait_for_pool()
    assert "0 of at most 1024 VMs, 1 of 1 waiting" in launcher.pyrovm("launcher", "status").stdout
    assert launcher.pyrovm("launcher", "stop").returncode == 0
    wait_until(lambda: not launcher.pids(), "launcher and pool are gone")
    assert not os.path.exists(launcher.socket)
    stopped = launcher.pyrovm("launcher", "stop")
    assert stopped.returncode == 3
    assert stopped.stderr.startswith("pyrovm launcher: no launcher: ")


def test_one_launcher_for_each_user(launcher):
    launcher.run()
    second = launcher.pyrovm("launcher", "run")
    assert second.returncode == 1
    assert second.stderr == f"pyrovm launcher: a launcher runs already: {launcher.socket}\n"


def test_a_launcher_without_work_ends(launcher):
    launcher.run("--idle", "0.2")
    assert launcher.process.wait(TIMEOUT) == 0
    wait_until(lambda: not launcher.pids(), "the pool is gone too")
    assert os.listdir(launcher.folder) == ["launcher.lock"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--pool", "-1"], "argument --pool: '-1': 0 to 256 are allowed"),
        (["--max-children", "0"], "argument --max-children: '0': 1 to 65536 are allowed"),
    ],
)
def test_limits_that_cannot_be(launcher, words, text):
    assert text in launcher.pyrovm("launcher", "run", *words).stderr


def test_a_folder_that_others_may_write_to_is_refused(launcher):
    os.mkdir(launcher.folder)
    os.chmod(launcher.folder, 0o777)
    refused = launcher.pyrovm("launcher", "run")
    assert refused.returncode == 1
    assert "needs a folder of user" in refused.stderr
    assert "mode 777" in refused.stderr


def test_status_tells_of_each_child(launcher, start):
    launcher.run("--pool", "1")
    launcher.wait_for_pool()
    process = start("--id", "vm-7")
    (child,) = launcher.status()["children"]
    assert (child["kind"], child["name"]) == ("firecracker", "vm-7")
    assert 500 < child["private_kib"] < 20_000
    assert child["pid"] != process.process.pid
    (line,) = launcher.pyrovm("launcher", "status").stdout.splitlines()[1:]
    assert line.split()[0] == str(child["pid"])
    assert line.endswith("firecracker vm-7")
    process.end()
    after = wait_until(lambda: not (s := launcher.status())["children"] and s, "it is reaped")
    assert (after["started"], after["ended"], after["failed"]) == (1, 1, 0)
    launcher.wait_for_pool()


def test_a_launcher_that_is_never_left_alone_fills_its_pool(launcher, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", launcher.environment["XDG_RUNTIME_DIR"])
    launcher.run("--pool", "2")
    until = time.monotonic() + TIMEOUT
    while len(json.loads(client.ask("status"))["pool"]["waiting"]) < 2:
        assert time.monotonic() < until
        time.sleep(0.002)


def test_the_switch_says_whether_it_is_used(launcher, start):
    launcher.run()
    for switch, count in (("off", 0), ("auto", 1), ("on", 2)):
        start(env={**launcher.environment, "PYROVM_LAUNCHER": switch}).end()
        assert launcher.status()["started"] == count
    wrong = subprocess.run(
        ENTRY,
        env={**launcher.environment, "PYROVM_LAUNCHER": "maybe"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert wrong.returncode == 1
    assert wrong.stderr == "PYROVM_LAUNCHER is 'maybe': off, on and auto are allowed\n"


def test_it_is_started_on_demand_only_when_asked_to(launcher, start):
    start().end()
    assert launcher.status() is None
    start(env={**launcher.environment, "PYROVM_LAUNCHER": "on"}).end()
    assert launcher.status()["started"] == 1


# ------------------------------------------------------------------------ refusals


def test_more_children_than_the_limit_are_refused(launcher, start, tmp_path):
    launcher.run("--max-children", "1", "--pool", "2")
    first = start()
    second = subprocess.run(
        [*ENTRY, "--api-sock", str(tmp_path / "second")],
        env=launcher.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == (
        "pyrovm: the launcher has 1 children at work, which is its limit "
        "(pyrovm launcher run --max-children)\n"
    )
    assert not os.path.exists(tmp_path / "second")
    assert launcher.status()["failed"] == 1
    first.end()
    wait_until(lambda: not launcher.status()["children"], "it is reaped")
    assert start().end() == -signal.SIGTERM


@pytest.mark.root
def test_other_users_are_refused(launcher):
    launcher.run()
    code = OTHER_USER.format(source=SOURCE, base=launcher.base, path=launcher.socket)

    def as_other():
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    os.chmod(launcher.base, 0o755)
    assert all("Permission denied" in line for line in as_other())
    os.chmod(launcher.folder, 0o755)
    os.chmod(launcher.socket, 0o666)
    by_client, directly = as_other()
    assert by_client == f"whoever listens on {launcher.socket} is another user"
    assert directly == r"b'failed=this launcher serves user 0 only\x00'"


@pytest.mark.root
def test_who_lives_elsewhere_starts_without_it(launcher, start):
    launcher.run()
    assert start(wrapper=("unshare", "--net")).end(signal.SIGHUP) == 156
    status = launcher.status()
    assert (status["started"], status["refused"]) == (0, 1)
    assert status["last_refusal"] == "the caller's net namespace differs from the launcher's"
    assert start(wrapper=("setpriv", "--no-new-privs")).end() == -signal.SIGTERM
    assert "no_new_privs" in launcher.status()["last_refusal"]


def test_what_is_no_request_does_not_disturb_it(launcher, start):
    launcher.run()
    for data in (b"", b"x", b"ask=run\0", b"ask=run\0kind=firecracker\0", b"\0" * 100_000, b"ask="):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(launcher.socket)
            client.send(data)
            answer = client.recv(1000) if data else b""
            if data.startswith(b"ask=run"):
                assert b"another build" in answer
            else:
                assert answer == b""
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(70)]
    for client in idle:
        client.connect(launcher.socket)
    refused = wire.decode(idle[-1].recv(1000))
    assert refused == {"refused": ["64 clients have not asked yet"]}
    for client in idle:
        client.close()
    start().end()
    assert launcher.status()["started"] == 1


def test_descriptors_that_run_out_are_no_end(launcher, start):
    launcher.run("--pool", "0")
    pid = launcher.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 3, limits[1]))
    assert start().end() == -signal.SIGTERM  # without it
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    start().end()
    assert launcher.status()["started"] == 1
    assert len(os.listdir(f"/proc/{pid}/fd")) <= open_now + 1


def test_the_commands_help_is_there():
    told = subprocess.run([*PYROVM, "launcher", "-h"], capture_output=True, text=True, check=True)
    assert "PYROVM_LAUNCHER=off" in told.stdout
    assert json.dumps("status") in f'"{told.stdout.split()[told.stdout.split().index("status")]}"'
