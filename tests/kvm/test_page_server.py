"""Guests whose memory ``pyrovm snapshot serve`` brings, on a KVM of any kind."""

import contextlib
import shutil
import signal
import subprocess
import sys

import pytest

from pyrovm import MicroVM
from pyrovm.host import facts
from pyrovm.snapshot import working_set
from tests.fakes import kernel_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
    pytest.mark.skipif(facts.userfaultfd() != facts.OK, reason="no userfaultfd for this user"),
]

TIMEOUT = 20
SERVE = (sys.executable, "-m", "pyrovm.cli.main", "snapshot", "serve")


@pytest.fixture
def snapshot(tmp_path):
    kernel = kernel_guest.build("lasting", tmp_path)
    with MicroVM(kernel, cmdline="", memory="64M") as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        assert ask(vm, "w") == "page 1"
        return vm.snapshot(tmp_path / "state")


def ask(vm, question):
    vm.console.write(question)
    return vm.console.wait_for("\n", TIMEOUT).strip()


@contextlib.contextmanager
def served(snapshot, *options):
    """The handler's process; its socket; what it says is in ``log``."""
    path = f"{snapshot.memory}.sock"
    with open(f"{snapshot.memory}.log", "w+") as log:
        process = subprocess.Popen(
            [*SERVE, *options, snapshot.memory, path],
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                log.write(process.stderr.readline())
                yield process, path
            finally:
                process.send_signal(signal.SIGTERM)
                log.write(process.communicate(timeout=TIMEOUT)[1])


def said(snapshot):
    with open(f"{snapshot.memory}.log") as log:
        return log.read()


def test_guests_are_served_and_what_they_needed_comes_ahead_the_next_time(snapshot, tmp_path):
    with served(snapshot) as (_, path), MicroVM.restore(snapshot, page_server=path) as one:
        assert ask(one, "w") == "page 2"
        with MicroVM.restore(snapshot, page_server=path) as other:
            assert [ask(other, "w"), ask(other, "s")] == ["page 2", "sum 3"]
            again = other.snapshot(tmp_path / "again")
        assert ask(one, "w") == "page 3"
    assert working_set.load(snapshot.memory)
    with served(snapshot) as (_, path), MicroVM.restore(snapshot, page_server=path) as third:
        assert ask(third, "s") == "sum 1"
    assert " 0 KiB ahead" not in said(snapshot)
    with MicroVM.restore(again) as whole:  # every page was fetched for it
        assert ask(whole, "s") == "sum 3"


def test_one_guest_and_no_more(snapshot):
    with served(snapshot, "--once", "--no-working-set") as (process, path):
        with MicroVM.restore(snapshot, page_server=path) as vm:
            assert ask(vm, "s") == "sum 1"
        assert process.wait(TIMEOUT) == 0
    assert working_set.load(snapshot.memory) == []


def test_a_handler_that_is_told_to_stop_says_so_to_its_guests(snapshot):
    with served(snapshot) as (process, path), MicroVM.restore(snapshot, page_server=path) as vm:
        assert ask(vm, "s") == "sum 1"
        process.terminate()
        process.wait(TIMEOUT)
        assert vm.wait(TIMEOUT) != 0
        assert "guest memory: the page-fault handler gives up: it was told to stop" in vm.log
