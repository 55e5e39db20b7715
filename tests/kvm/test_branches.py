"""Branches of a running machine: a small kernel that ticks and remembers goes on in copies."""

import asyncio
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from pyrovm import ApiError, AsyncMicroVM, Drive, MicroVM, Vsock
from pyrovm import Clone as CloneOf
from pyrovm.snapshot import state
from tests.fakes import kernel_guest
from tests.fakes.vmm_process import message

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

TIMEOUT = 20


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    return kernel_guest.build("lasting", tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def make(kernel, tmp_path):
    """Starts a guest with these devices."""
    made = []

    def start(**options):
        vm = MicroVM(kernel, cmdline="", memory="64M", **options)
        made.append(vm)
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        return vm

    yield start
    for vm in made:
        vm.close()


class Clone:
    """A clone by what the API says of it: its console is two FIFOs."""

    def __init__(self, folder, name, **fields):
        self.folder = folder / name
        self.folder.mkdir()
        self.socket = self.folder / "api.sock"
        for stream in ("in", "out"):
            os.mkfifo(self.folder / stream)
        self.console = os.open(self.folder / "out", os.O_RDONLY | os.O_NONBLOCK)
        self.said = b""
        self.pid = 0
        self.fields = {
            "api_sock": str(self.socket),
            "id": name,
            "stdin_path": str(self.folder / "in"),
            "stdout_path": str(self.folder / "out"),
            "log_path": str(self.folder / "log"),
            **fields,
        }

    def ask(self, question):
        with open(self.folder / "in", "w") as console:
            console.write(question)
        return self.line()

    def line(self):
        deadline = time.monotonic() + TIMEOUT
        while b"\n" not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, f"{self.said!r}, {(self.folder / 'log').read_text()}"
            if select.select([self.console], [], [], left)[0]:
                self.said += os.read(self.console, 4096)
        line, _, self.said = self.said.partition(b"\n")
        return line.decode().strip()

    def request(self, method, path, body=None):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(str(self.socket))
            connection.sendall(message(method, path, body))
            return connection.recv(65536).decode()

    def end(self):
        os.close(self.console)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


def number(answer):
    return int(answer.split()[1])


def ask(vm, question):
    vm.console.write(question)
    return vm.console.wait_for("\n", TIMEOUT).strip()


@pytest.fixture
def clones(tmp_path):
    """Makes clones of a microVM; they end with the test."""
    made = []

    def fork(vm, *names, **fields):
        new = [Clone(tmp_path, name, **fields) for name in names]
        made.extend(new)
        answer = vm.request("PUT", "/branch", {"clones": [clone.fields for clone in new]})
        for clone, told in zip(new, answer["clones"], strict=True):
            assert (told["id"], told["api_sock"]) == (clone.fields["id"], str(clone.socket))
            clone.pid = told["pid"]
        assert answer["pause_us"] > 0
        return new

    yield fork
    for clone in made:
        clone.end()


def test_clones_go_on_where_the_source_was_and_so_does_the_source(make, clones):
    vm = make(cpus=2)
    assert [ask(vm, "w"), ask(vm, "w")] == ["page 1", "page 2"]
    ticks = number(ask(vm, "t"))
    one, other = clones(vm, "one", "other")
    assert [one.ask("w"), one.ask("w"), one.ask("s")] == ["page 3", "page 4", "sum 10"]
    assert [other.ask("w"), other.ask("s")] == ["page 3", "sum 6"]
    assert ask(vm, "s") == "sum 3"
    assert number(one.ask("t")) > ticks
    assert vm.info()["state"] == "Running"
    assert '"state":"Running"' in one.request("GET", "/")
    assert '"id":"one"' in one.request("GET", "/")


def test_a_clone_lives_without_its_source(make, clones):
    vm = make()
    ask(vm, "w")
    (one,) = clones(vm, "one")
    os.kill(vm.pid, signal.SIGKILL)
    vm.wait(TIMEOUT)
    assert one.ask("w") == "page 2"
    assert one.ask("s") == "sum 3"


def test_a_source_lives_without_its_clones_and_leaves_no_zombies(make, clones):
    vm = make()
    for clone in clones(vm, "one", "other"):
        os.kill(clone.pid, signal.SIGKILL)
        _wait_gone(clone.pid)
        clone.pid = 0
    assert ask(vm, "w") == "page 1"


def _wait_gone(pid):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)
    raise AssertionError(f"{pid} is still there")


def test_a_clone_of_a_clone(make, clones, tmp_path):
    vm = make()
    ask(vm, "w")
    (one,) = clones(vm, "one")
    assert one.ask("w") == "page 2"
    child = Clone(tmp_path, "child")
    answer = one.request("PUT", "/branch", {"clones": [child.fields]})
    assert answer.startswith("HTTP/1.1 200")
    child.pid = int(answer.partition('"pid":')[2].partition("}")[0])
    try:
        assert child.ask("w") == "page 3"
        assert [one.ask("s"), child.ask("s"), ask(vm, "s")] == ["sum 3", "sum 6", "sum 1"]
    finally:
        child.end()


def test_a_clone_ends_when_its_guest_does(make, clones):
    (one,) = clones(make(), "one")
    with open(one.folder / "in", "w") as console:
        console.write("q")
    _wait_gone(one.pid)
    one.pid = 0


def test_a_paused_source_stays_so_and_clones_may_be_paused(make, clones):
    vm = make()
    vm.pause()
    (one,) = clones(vm, "one", resume_vm=False)
    assert vm.info()["state"] == "Paused"
    assert '"state":"Paused"' in one.request("GET", "/")
    assert one.request("PATCH", "/vm", {"state": "Resumed"}).startswith("HTTP/1.1 204")
    assert one.ask("w") == "page 1"


def test_nothing_of_the_source_is_open_in_a_clone(make, clones, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    vm = make(
        drives=[Drive(tmp_path / "disk", id="disk", read_only=True)],
        vsock=Vsock(path=tmp_path / "source.sock"),
    )
    (one,) = clones(vm, "one", vsock_override={"uds_path": str(tmp_path / "one.sock")})
    of_source, of_clone = (_inodes(pid) for pid in (vm.pid, one.pid))
    assert of_source & of_clone <= {os.stat(tmp_path / "disk").st_ino}
    with open(f"/proc/{one.pid}/maps") as maps:
        assert maps.read().count("kvm-vcpu") == 1


def _inodes(pid):
    """Of pipes, sockets and files; KVM's and other nameless ones share one."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if not os.readlink(path).startswith(("anon_inode:", "/dev/")):
                found.add(os.stat(path).st_ino)
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def test_each_clone_has_an_id_of_its_own(make, clones, tmp_path):
    vm = make()
    seen = set()
    for clone in clones(vm, "one", "other"):
        for path, body in (
            ("/vm", {"state": "Paused"}),
            ("/snapshot/create", _files(tmp_path / "saved")),
        ):
            method = "PATCH" if path == "/vm" else "PUT"
            assert clone.request(method, path, body).startswith("HTTP/1.1 204")
        seen.add(_genid(tmp_path / "saved"))
    vm.snapshot(tmp_path / "saved")
    seen.add(_genid(tmp_path / "saved"))
    assert len(seen) == 3


def _files(path):
    return {"snapshot_path": str(path), "mem_file_path": f"{path}.mem"}


def _genid(path):
    gpa = state.read(str(path))["devices"]["vmgenid"]
    with open(f"{path}.mem", "rb") as memory:
        memory.seek(gpa)
        return memory.read(16)


# ------------------------------------------------------------------------------------------ drives


def test_a_clone_has_the_disk_of_a_paused_source_and_its_source_waits_for_it(
    make, clones, tmp_path
):
    kernel_guest.write_disk(tmp_path / "disk")
    vm = make(drives=[Drive(tmp_path / "disk", id="disk")])
    assert ask(vm, "d") == "sector 0"
    vm.pause()
    (one,) = clones(vm, "one")
    assert one.ask("d") == "sector 1"
    if not _shares_blocks(tmp_path / "disk"):
        with pytest.raises(ApiError, match="drive disk: clones of this machine read its file"):
            vm.resume()
    os.kill(one.pid, signal.SIGKILL)
    _wait_gone(one.pid)
    one.pid = 0
    vm.resume()
    assert ask(vm, "d") == "sector 1"


def _shares_blocks(path):
    from pyrovm.backends.disk_layer import can_clone

    return can_clone(str(path))


def test_a_running_source_keeps_its_writable_disk_to_itself(make, clones, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    vm = make(drives=[Drive(tmp_path / "disk", id="disk")])
    if not _shares_blocks(tmp_path / "disk"):
        with pytest.raises(ApiError, match="drive disk can be written: pause the machine"):
            clones(vm, "no")
    shutil.copy(tmp_path / "disk", tmp_path / "copy")
    override = {"drive_id": "disk", "path_on_host": str(tmp_path / "copy")}
    (one,) = clones(vm, "one", drive_overrides=[override])
    assert [ask(vm, "d"), one.ask("d")] == ["sector 0", "sector 0"]
    assert f'"path_on_host":"{tmp_path / "copy"}"' in one.request("GET", "/vm/config")


def test_a_disk_of_its_own_is_in_no_snapshot_and_no_clone(make, clones, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    vm = make(drives=[Drive(tmp_path / "disk", id="disk")])
    vm.pause()
    (one,) = clones(vm, "one", resume_vm=False)
    answer = one.request("PUT", "/snapshot/create", _files(tmp_path / "saved"))
    assert "Devices without snapshot support are present: block(id: disk)" in answer
    child = Clone(tmp_path, "child")
    answer = one.request("PUT", "/branch", {"clones": [child.fields]})
    child.end()
    assert "drive disk is this clone's own disk" in answer
    assert one.request("PATCH", "/vm", {"state": "Resumed"}).startswith("HTTP/1.1 204")
    assert one.ask("d") == "sector 0"


# --------------------------------------------------------------------------------------- snapshots


def test_a_snapshot_is_written_while_the_machine_runs_on(make, tmp_path):
    vm = make()
    ask(vm, "w")
    answer = vm.request("PUT", "/branch", {"snapshot": _files(tmp_path / "saved")})
    assert answer["pause_us"] > 0
    assert ask(vm, "w") == "page 2"
    told = _outcome(vm)
    assert told["state"] == "written"
    assert told["written_bytes"] > 0
    with MicroVM.restore(tmp_path / "saved", memory=tmp_path / "saved.mem") as again:
        assert ask(again, "s") == "sum 1"
    assert ask(vm, "s") == "sum 3"


def _outcome(vm):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        (told,) = vm.request("GET", "/branch")["snapshots"]
        if told["state"] != "writing":
            return told
        time.sleep(0.01)
    raise AssertionError(told)


def test_a_snapshot_that_cannot_be_written_says_so_and_the_machine_runs_on(make, tmp_path):
    vm = make()
    vm.request("PUT", "/branch", {"snapshot": _files(tmp_path / "none" / "saved")})
    told = _outcome(vm)
    assert told["state"] == "failed"
    assert "No such file or directory" in told["error"]
    assert ask(vm, "w") == "page 1"


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "either `clones`, at least one, or `snapshot` is required"),
        ({"clones": []}, "either `clones`, at least one, or `snapshot` is required"),
        ({"clones": [{"id": "x"}]}, "missing field `api_sock`"),
        ({"clones": [{"api_sock": "a"}] * 2}, "api_sock: a is given to two clones"),
        ({"clones": [{"api_sock": f"{n}"} for n in range(1025)]}, "1024 are allowed at once"),
        ({"clones": [{"api_sock": "{folder}"}]}, "api_sock: {folder} exists already"),
        ({"clones": [{"api_sock": "{folder}/none/a"}]}, "Cannot bind the API socket"),
        (
            {"clones": [{"api_sock": "{folder}/a", "netns": "{folder}/none"}]},
            "netns: {folder}/none cannot be entered: No such file",
        ),
        (
            {"clones": [{"api_sock": "{folder}/a", "stdout_path": "{folder}/none/out"}]},
            "stdout_path: {folder}/none/out: No such file",
        ),
        (
            {"clones": [{"api_sock": "{folder}/a", "vsock_override": {"uds_path": "v"}}]},
            "clone {folder}/a: vsock_override: there is no vsock device",
        ),
        (
            {
                "clones": [
                    {
                        "api_sock": "{folder}/a",
                        "network_overrides": [{"iface_id": "e", "host_dev_name": "t"}],
                    }
                ]
            },
            "network_overrides: no interface is called e",
        ),
        (
            {
                "clones": [
                    {
                        "api_sock": "{folder}/a",
                        "drive_overrides": [{"drive_id": "e", "path_on_host": "t"}],
                    }
                ]
            },
            "drive_overrides: no drive is called e",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(make, tmp_path, body, fault):
    vm = make()

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value.replace("{folder}", str(tmp_path))

    with pytest.raises(ApiError) as caught:
        vm.request("PUT", "/branch", filled(body))
    assert filled(fault) in caught.value.fault
    assert ask(vm, "w") == "page 1"
    assert os.listdir(tmp_path) == []


def test_a_branch_before_the_start_is_refused(kernel):
    with MicroVM(kernel) as vm:
        vm.launch()
        with pytest.raises(ApiError, match="not supported before starting the microVM"):
            vm.request("PUT", "/branch", {"clones": [{"api_sock": "a"}]})


def test_if_one_of_several_cannot_be_none_is_left(make, tmp_path):
    vm = make()
    three = [Clone(tmp_path, name) for name in ("first", "second", "third")]
    three[2].fields["api_sock"] = str(tmp_path / "none" / "api.sock")
    with pytest.raises(ApiError, match="Cannot bind the API socket"):
        vm.request("PUT", "/branch", {"clones": [clone.fields for clone in three]})
    for clone in three:
        assert not clone.socket.exists()
        clone.end()
    assert ask(vm, "w") == "page 1"


# --------------------------------------------------------------------------------------------- SDK


def test_the_sdk_forks_microvms_that_are_used_as_any(make, tmp_path):
    vm = make(vsock=Vsock(path=tmp_path / "source.sock"))
    ask(vm, "w")
    copies = vm.fork(3)
    try:
        assert [ask(copy, "w") for copy in copies] == ["page 2"] * 3
        assert ask(vm, "s") == "sum 1"
        assert [copy.info()["id"] for copy in copies] == [f"{vm.id}-{n}" for n in range(3)]
        assert len({copy.config()["vsock"]["uds_path"] for copy in copies}) == 3
        assert copies[0].metrics()["vcpu"]
        (grandchild,) = copies[0].fork()
        with grandchild:
            assert ask(grandchild, "s") == "sum 3"
        copies[1].console.write("q")
        assert copies[1].wait(TIMEOUT) == 0
        assert copies[2].stop() is not None
    finally:
        for copy in copies:
            copy.close()
    for copy in copies:
        assert copy.returncode is not None


def test_clones_end_with_the_program_that_asked_for_them(kernel, tmp_path):
    script = (
        "import os, sys; from pyrovm import MicroVM\n"
        f"vm = MicroVM({str(kernel)!r}, cmdline='', memory='64M'); vm.start()\n"
        "vm.console.wait_for('ready')\n"
        "print(*(copy.pid for copy in vm.fork(2)), flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    for pid in pids:
        _wait_gone(pid)


def test_what_each_clone_has_otherwise(make, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    shutil.copy(tmp_path / "disk", tmp_path / "copy")
    vm = make(drives=[Drive(tmp_path / "disk", id="disk")])
    (copy,) = vm.fork([CloneOf(id="the-one", drives={"disk": tmp_path / "copy"})], resume=False)
    with copy:
        assert (copy.info()["id"], copy.info()["state"]) == ("the-one", "Paused")
        assert copy.config()["drives"][0]["path_on_host"] == str(tmp_path / "copy")
        copy.resume()
        assert ask(copy, "d") == "sector 0"


def test_a_fork_that_is_refused_leaves_no_folder(make, tmp_path, monkeypatch):
    vm = make()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ApiError, match="drive_overrides: no drive is called x"):
        vm.fork([CloneOf(), CloneOf(drives={"x": "y"})])
    with pytest.raises(ValueError, match="at least one is needed"):
        vm.fork(0)
    assert os.listdir(tmp_path) == []
    assert ask(vm, "w") == "page 1"


def test_asyncio_forks_as_well(kernel):
    async def main():
        async with AsyncMicroVM(kernel, cmdline="", memory="64M") as vm:
            await vm.start()
            await vm.console.wait_for("ready\n", TIMEOUT)
            copies = await vm.fork(2)
            said = []
            for copy in copies:
                async with copy:
                    await copy.console.write("w")
                    said.append((await copy.console.wait_for("\n", TIMEOUT)).strip())
                    await copy.console.write("q")
                    said.append(await copy.wait(TIMEOUT))
            return said

    assert asyncio.run(main()) == ["page 1", 0, "page 1", 0]
