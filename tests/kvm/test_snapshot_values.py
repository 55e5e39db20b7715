"""Whatever a state file says: a load either works or fails with a sentence, and leaves nothing."""

import gc
import os
import random
import shutil

import pytest

from pyrovm import Drive, MicroVM
from pyrovm.config.snapshot import MemoryBackend, SnapshotLoadParams
from pyrovm.errors import PyrovmError
from pyrovm.machine.assembly import Assembler
from pyrovm.machine.blueprint import SerialPlan
from pyrovm.machine.factory import HostDevices
from pyrovm.machine.loading import load
from pyrovm.machine.log import Log
from pyrovm.machine.loop import EventLoop
from pyrovm.machine.resources import Resources
from pyrovm.snapshot import state
from tests.fakes import kernel_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

VALUES = (None, -1, 0, 1, 1 << 33, 1 << 70, 1.5, "", "x", b"", b"\xff" * 4096, [], [[]], {}, True)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A snapshot of a guest with a disk, and what is in its state file."""
    folder = tmp_path_factory.mktemp("snapshot")
    kernel_guest.write_disk(folder / "disk")
    kernel = kernel_guest.build("lasting", folder)
    with MicroVM(kernel, cmdline="", memory="16M", drives=[Drive(folder / "disk")]) as vm:
        vm.start()
        vm.console.wait_for("ready\n", 20)
        made = vm.snapshot(folder / "state")
    return made, state.read(made.state).values


def attempt(snapshot, values, folder):
    """Load a state file with these values: the complaint, None where there is none."""
    state.write(str(folder / "state"), "machine", values)
    loop = EventLoop()
    output = os.open(os.devnull, os.O_WRONLY)
    resources = Resources(HostDevices(print))
    assembler = Assembler(loop, Log(), lambda _config: SerialPlan(output), require_linux=False)
    backend = MemoryBackend(backend_path=snapshot.memory, backend_type="File")
    params = SnapshotLoadParams(snapshot_path=str(folder / "state"), mem_backend=backend)
    try:
        load(assembler, resources, params, print).close()
    except PyrovmError as error:
        resources.close()
        return str(error)
    finally:
        assembler.close()
        loop.close()
        os.close(output)
    return None


def leaves(value, path=()):
    """The paths of everything in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from leaves(item, (*path, key))


def changed(value, path, new):
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def open_files():
    gc.collect()  # views of memory live as long as the errors that tell of them
    return len(os.listdir("/proc/self/fd"))


def test_no_value_in_a_state_file_does_more_than_make_the_load_fail(snapshot, tmp_path):
    made, values = snapshot
    assert attempt(made, values, tmp_path) is None
    before = open_files()
    paths = [path for path in leaves(values) if "msrs" not in path[:-1]]
    dice = random.Random(7)
    complaints = 0
    for path in paths:
        new = dice.choice(VALUES)
        try:
            complaints += attempt(made, changed(values, path, new), tmp_path) is not None
        except Exception as error:
            raise AssertionError(f"{path} = {new!r:.60}") from error
    assert complaints > len(paths) // 2
    assert open_files() == before
