"""``pyrovm run --id``, ``pyrovm ps`` and ``pyrovm fork NAME``, as a user types them."""

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from pyrovm.programs import naming, wire
from tests.fakes import program_guest
from tests.kvm.test_run_from_python import is_alive

TIMEOUT = 60
pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

COUNTER = """
import sys, time
for n in range(100000):
    print(n, flush=True)
    time.sleep(0.05)
"""
SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
calls = 0
while True:
    connection, _ = server.accept()
    calls += 1
    connection.sendall(b"%d" % calls)
    connection.close()
"""
INPUT = "import sys, time; print('up', flush=True); time.sleep(3); print(sys.stdin.read(), 'end')"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user whose programs are all ended at the end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    user = User(tmp_path)
    yield user
    user.end()


class User:
    def __init__(self, folder):
        self.folder = folder
        self.vms = folder / "run" / "pyrovm" / "vms"
        self._started = []

    def pyrovm(self, *words, **more):
        return subprocess.run(
            _command(*words),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            cwd=self.folder,
            env=program_guest.environment() | more,
        )

    def start(self, *words):
        """A named program; returns when it has written a line."""
        out = self.folder / f"out{len(self._started)}"
        with out.open("wb") as file:
            process = subprocess.Popen(
                _command("run", *words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=program_guest.environment(),
            )
        self._started.append(process)
        return process, out

    def ps(self):
        done = self.pyrovm("ps", "--json")
        assert done.returncode == 0, done.stderr
        return {facts["name"]: facts for facts in json.loads(done.stdout)}

    def fork(self, *words):
        done = self.pyrovm("fork", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["clones"]

    def end(self):
        for facts in naming.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(facts["pid"], signal.SIGKILL)
        for process in self._started:
            process.kill()
            process.wait(TIMEOUT)


def _command(*words):
    return [sys.executable, "-m", "pyrovm.cli.main", *map(str, words)]


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)
    return found


def counts(path):
    return [int(line) for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]


def test_a_counting_program_is_forked_while_it_runs(user):
    process, out = user.start("--id", "counter", "--", "python3", "-c", COUNTER)
    wait_for(lambda: out.read_bytes().count(b"\n") > 3)
    clones = user.fork("counter", "-n", 12, "--into", user.folder / "copies")
    assert [clone["name"] for clone in clones] == [f"counter-{n}" for n in range(12)]
    assert len({clone["generation"] for clone in clones}) == 12
    for number, clone in enumerate(clones):
        said = user.folder / "copies" / str(number) / "stdout"
        assert clone["folder"] == str(said.parent)
        found = wait_for(lambda said=said: counts(said)[:3])
        wait_for(lambda said=said: len(counts(said)) > 3)
        assert found[0] > 2  # it has not begun anew
        assert found == list(range(found[0], found[0] + len(found)))
    length = len(counts(out))
    wait_for(lambda: len(counts(out)) > length)  # the source goes on
    assert counts(out) == list(range(len(counts(out))))

    there = user.ps()
    assert set(there) == {"counter", *(f"counter-{n}" for n in range(12))}
    assert there["counter"]["pid"] == process.pid
    assert there["counter"]["program"] == ["python3", "-c", COUNTER]
    assert there["counter"]["memory_bytes"] == 512 << 20
    assert there["counter"]["source"] is None
    copy = there["counter-11"]
    assert (copy["pid"], copy["source"]) == (clones[11]["pid"], "counter")
    assert copy["since"] > there["counter"]["since"]
    assert 0 < copy["used_bytes"] < 64 << 20

    # Copies outlive their source and are forked like it; a signal ends them, and their names.
    process.kill()
    process.wait(TIMEOUT)
    (again,) = user.fork("counter-3", "--into", user.folder / "more")
    assert again["name"] == "counter-3-0"
    wait_for(lambda: len(counts(user.folder / "more" / "0" / "stdout")) > 3)
    for pid in (again["pid"], *(clone["pid"] for clone in clones)):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not user.ps())
    assert os.listdir(user.vms) == []


def test_each_copy_of_a_server_has_its_own_port(user):
    user.start("--id", "web", "-p", "0:80", "--", "python3", "-c", SERVER)
    port = wait_for(lambda: user.ps().get("web", {}).get("ports"))["80/tcp"]
    assert port[0] == "127.0.0.1"
    assert [call(port), call(port)] == [b"1", b"2"]
    (user.folder / "web").mkdir()  # no API socket, though of this name
    clones = user.fork("web", "-n", 2)
    assert sorted(os.listdir(user.folder / "web.forks")) == ["0", "1"]
    ports = [clone["ports"]["80/tcp"] for clone in clones]
    assert len({tuple(each) for each in (port, *ports)}) == 3
    assert [call(each) for each in (*ports, port)] == [b"3"] * 3
    there = user.ps()
    assert [there[f"web-{n}"]["ports"] for n in (0, 1)] == [{"80/tcp": each} for each in ports]
    words = user.pyrovm("fork", "web").stdout.split()
    assert words[:2] == ["web-2", "pid"]
    assert words[3] == str(user.folder / "web.forks" / "2")
    assert words[4:6] == ["80/tcp", "at"]
    lines = user.pyrovm("ps").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PID", "SINCE", "MEMORY", "PORTS", "PROGRAM"]
    assert f" 127.0.0.1:{port[1]}->80/tcp " in lines[1]
    assert " of 512 MiB " in lines[1]


def call(address):
    with socket.create_connection(tuple(address), TIMEOUT) as connection:
        connection.settimeout(TIMEOUT)
        return connection.recv(100)


def test_the_input_of_a_copy_is_empty_and_its_end_ends_it(user):
    process, out = user.start("--id", "reader", "--", "python3", "-c", INPUT)
    wait_for(lambda: out.read_text() == "up\n")
    (clone,) = user.fork("reader")
    assert process.wait(TIMEOUT) == 0
    wait_for(lambda: not user.ps())
    assert out.read_text() == "up\n end\n"
    assert (user.folder / "reader.forks" / "0" / "stdout").read_text() == " end\n"
    assert (user.folder / "reader.forks" / "0" / "stderr").read_text() == ""
    wait_for(lambda: not is_alive(clone["pid"]))


def test_a_name_is_one_vms_and_is_free_when_that_was_killed(user):
    process, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    assert [path.stat().st_mode & 0o777 for path in user.vms.iterdir()] == [0o600] * 2
    refused = user.pyrovm("run", "--id", "one", "--", "true")
    assert refused.returncode == 125
    assert refused.stderr == (
        f"pyrovm run: --id: 'one' given; a VM of that name runs (pid {process.pid}): "
        "another name is needed\n"
    )
    process.kill()
    process.wait(TIMEOUT)
    assert len(os.listdir(user.vms)) == 2  # nobody could clear them
    unreached = user.pyrovm("fork", "one")
    assert unreached.returncode == 1
    assert "NAME: 'one' given; no program of that name runs" in unreached.stderr
    assert os.listdir(user.vms) == []  # whoever looks clears

    process, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    process.kill()
    process.wait(TIMEOUT)
    process, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    assert user.ps()["one"]["pid"] == process.pid
    user.fork("one")


def test_what_cannot_be_says_why(user):
    for name in ("", "-x", "a/b", "..", "x" * 65, "ä"):
        done = user.pyrovm("run", f"--id={name}", "--", "true")
        assert done.returncode == 2
        assert f"--id: {name!r} given; 1 to 64 letters, digits" in done.stderr
    done = user.pyrovm("run", "--id", "one", "--engine", "unicorn", "--", "true")
    assert "--engine: 'unicorn' given; with --id, kvm is allowed" in done.stderr
    _, out = user.start("--id", "x" * 64, "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    done = user.pyrovm("fork", "x" * 64)
    assert "NAME of a copy: " in done.stderr
    assert not (user.folder / f"{'x' * 64}.forks").exists()
    done = user.pyrovm("fork", "x" * 64, "--tap", "eth0=tap0")
    assert "--tap: it is for Linux guests" in done.stderr
    done = user.pyrovm("fork", "x" * 64, "-n", 0)
    assert "--count: 0 given; 1 to 1024 are allowed" in done.stderr
    assert user.pyrovm("ps").stdout.count("\n") == 2


@contextlib.contextmanager
def request(user, name, copy):
    """Ask as the command does; the channel, and the program's news."""
    channel, theirs = socket.socketpair()
    with channel, theirs, open(os.devnull, "r+b") as null:
        channel.settimeout(TIMEOUT)
        channel.sendall(wire.encode([("id", copy)]))
        fds = array.array("i", [theirs.fileno(), *[null.fileno()] * 3])
        with contextlib.closing(naming.connect(name, TIMEOUT)) as source:
            source.sendmsg([wire.PASS], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        theirs.close()
        assert channel.recv(1) == wire.STARTED
        yield channel, wire.receive(channel.recv)


def test_a_copy_whose_caller_leaves_is_none(user):
    _, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    with request(user, "one", "one-7") as (_, news):
        pid = int(news["pid"][0])
        assert naming.find("one-7")["pid"] == pid
    wait_for(lambda: not is_alive(pid))
    with request(user, "one", "one") as (_, news):
        assert "'one' given; a VM of that name runs" in news["message"][0]
    assert list(user.ps()) == ["one"]
    assert sorted(os.listdir(user.vms)) == ["one.json", "one.sock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing_though_the_socket_is_open_to_all(user):
    _, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    channel, theirs = socket.socketpair()
    with channel:
        channel.settimeout(TIMEOUT)
        channel.sendall(wire.encode([("id", "one-0")]))
        source = naming.connect("one", TIMEOUT)
        pid = os.fork()
        if not pid:
            os.setuid(65534)
            fds = array.array("i", [theirs.fileno(), 0, 1, 2])
            source.sendmsg([wire.PASS], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        theirs.close()
        with pytest.raises(ConnectionResetError):  # closed, with what we have sent unread
            channel.recv(1)
        source.sendmsg([b""])  # nonsense
        source.sendmsg([b"x" * 1000])
        source.close()
    length = len(counts(out))
    wait_for(lambda: len(counts(out)) > length)
    assert list(user.ps()) == ["one"]
    user.fork("one")


def test_several_vcpus(user):
    _, out = user.start("--cpus", 2, "--id", "two", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    user.fork("two", "-n", 2)
    for number in range(2):
        said = user.folder / "two.forks" / str(number) / "stdout"
        wait_for(lambda said=said: len(counts(said)) > 2)


def test_the_launcher_is_not_asked_and_a_run_without_a_name_loads_nothing_of_this(user):
    done = user.pyrovm("run", "--id", "one", "--", "true", PYROVM_LAUNCHER="on")
    assert done.returncode == 0, done.stderr
    assert os.listdir(user.vms.parent) == ["vms"]  # no launcher has been started
    code = (
        "import sys; from pyrovm.cli import main; assert main.main(['run', 'true']) == 0; "
        "assert not {'json', 'pyrovm.programs', 'pyrovm.programs.naming'} & {*sys.modules}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=program_guest.environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_program_that_ends_before_it_is_copied(user):
    process, out = user.start("--id", "one", "--", "python3", "-c", COUNTER)
    wait_for(out.read_bytes)
    process.send_signal(signal.SIGSTOP)
    command = subprocess.Popen(
        _command("fork", "one"), cwd=user.folder, stderr=subprocess.PIPE, text=True
    )
    wait_for((user.folder / "one.forks" / "0" / "stderr").exists)
    process.kill()
    assert "one has ended: it cannot be copied\n" in command.communicate(timeout=TIMEOUT)[1]
    assert command.returncode == 1
    assert os.listdir(user.folder / "one.forks") == []
