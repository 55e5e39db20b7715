"""``pyrovm snapshot create`` and ``load`` on running VMMs, on a KVM of any kind."""

import shutil
import signal
import subprocess
import sys
import time

import pytest

from pyrovm import MicroVM
from pyrovm.cli import snapshot
from tests.fakes import kernel_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

TIMEOUT = 20


def run(*words):
    return snapshot.main([str(word) for word in words])


@pytest.fixture
def vm(tmp_path):
    kernel = kernel_guest.build("lasting", tmp_path)
    with MicroVM(kernel, cmdline="", memory="64M", track_dirty_pages=True) as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        yield vm


@pytest.fixture
def vmm(tmp_path):
    """The API socket of a VMM without a guest, and its process."""
    path = tmp_path / "new.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "pyrovm.cli.firecracker", "--api-sock", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + TIMEOUT
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield path, process
        process.send_signal(signal.SIGKILL)


def ask(vm, question):
    vm.console.write(question)
    return vm.console.wait_for("\n", TIMEOUT).strip()


def test_a_guest_is_saved_goes_on_and_goes_on_elsewhere(vm, vmm, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not where the VMMs are
    assert ask(vm, "w") == "page 1"
    api = vm.workspace.api_socket
    assert run("create", api, "base") == 0
    assert ask(vm, "w") == "page 2"
    assert run("create", api, tmp_path / "later", tmp_path / "diff.mem", "--diff") == 0
    assert run("rebase", tmp_path / "base.mem", tmp_path / "diff.mem") == 0
    assert "are written" in capsys.readouterr().out
    path, process = vmm
    assert run("load", path, "later", "base.mem") == 0
    assert f"{path}: running" in capsys.readouterr().out
    process.stdin.write("s")
    process.stdin.flush()
    lines = iter(process.stdout.readline, "")
    assert next(line for line in lines if line.startswith("sum")) == "sum 3\n"


def test_a_guest_that_cannot_be_saved_goes_on(vm, tmp_path, capsys):
    assert run("create", vm.workspace.api_socket, tmp_path / "none" / "state") == 1
    assert "No such file or directory" in capsys.readouterr().err
    assert vm.info()["state"] == "Running"
    assert ask(vm, "w") == "page 1"


def test_a_snapshot_that_cannot_be_loaded_is_said(vmm, tmp_path, capsys):
    path, process = vmm
    assert run("load", path, tmp_path / "none", "--tap", "eth0") == 1
    assert "--tap eth0: ID=TAP is wanted" in capsys.readouterr().err
    assert run("load", path, tmp_path / "none") == 1
    assert "Failed to open snapshot file: No such file" in capsys.readouterr().err
    assert process.wait(TIMEOUT) == 1
    assert run("load", path, tmp_path / "none") == 1
    assert "Connection refused" in capsys.readouterr().err
