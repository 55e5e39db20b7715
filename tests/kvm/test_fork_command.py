"""``pyrovm fork`` and ``pyrovm snapshot create --live``, as a user types them."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from pyrovm import Drive, MicroVM, Vsock
from tests.fakes import kernel_guest
from tests.kvm.test_branches import TIMEOUT, _wait_gone, ask

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    return kernel_guest.build("lasting", tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def vm(kernel, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    drive = Drive(tmp_path / "disk", id="disk")
    vsock = Vsock(path=tmp_path / "v.sock")
    with MicroVM(kernel, cmdline="", memory="64M", drives=[drive], vsock=vsock) as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        yield vm


def pyrovm(*words):
    command = [sys.executable, "-m", "pyrovm.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_copies_in_folders_of_their_own(vm, tmp_path):
    api = vm.workspace.api_socket
    vm.pause()
    done = pyrovm("fork", api, "-n", 2, "--into", tmp_path / "forks", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["clones"]
    try:
        assert sorted(os.listdir(tmp_path / "forks")) == ["0", "1"]
        for number, clone in enumerate(told):
            folder = tmp_path / "forks" / str(number)
            assert clone["api_sock"] == str(folder / "api.sock")
            assert {"api.sock", "console", "log", "vsock.sock"} == set(os.listdir(folder))
        words = pyrovm("fork", api, "--into", tmp_path / "forks", "--paused").stdout.splitlines()
        assert words[0].endswith(f"{tmp_path}/forks/2/api.sock")
        assert words[1].startswith("The source stood still for ")
        told.append({"pid": int(words[0].split()[2])})
    finally:
        for clone in told:
            os.kill(clone["pid"], signal.SIGKILL)
            _wait_gone(clone["pid"])
    vm.resume()
    assert ask(vm, "d") == "sector 0"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["-n", "0"], "--count: 0 given; 1 to 1024 are allowed"),
        (["--tap", "eth0"], "--tap eth0: ID=... is wanted"),
        (["--tap", "eth0=tap{n}"], "network_overrides: no interface is called eth0"),
        (["--drive", "disk=none{n}"], "/none0"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(vm, tmp_path, words, fault):
    done = pyrovm("fork", vm.workspace.api_socket, "--into", tmp_path / "forks", *words)
    assert done.returncode == 1
    assert fault in done.stderr
    assert not (tmp_path / "forks").exists() or os.listdir(tmp_path / "forks") == []
    assert ask(vm, "w") == "page 1"


def test_nobody_at_the_socket(tmp_path):
    done = pyrovm("fork", tmp_path / "none")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr


def test_a_live_snapshot(vm, tmp_path):
    ask(vm, "w")
    done = pyrovm("snapshot", "create", "--live", vm.workspace.api_socket, tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    assert ask(vm, "w") == "page 2"
    assert pyrovm("snapshot", "verify", tmp_path / "saved", tmp_path / "saved.mem").returncode == 0
    vm.stop()
    os.unlink(tmp_path / "v.sock")
    with MicroVM.restore(tmp_path / "saved") as again:
        assert ask(again, "s") == "sum 1"


def test_a_live_snapshot_that_cannot_be_written(vm, tmp_path):
    where = tmp_path / "none" / "saved"
    done = pyrovm("snapshot", "create", "--live", vm.workspace.api_socket, where)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    done = pyrovm("snapshot", "create", "--live", "--diff", vm.workspace.api_socket, where)
    assert "--live and --diff" in done.stderr
    assert ask(vm, "w") == "page 1"
