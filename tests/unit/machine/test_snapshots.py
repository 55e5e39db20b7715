"""What of memory goes into a snapshot's file, by who has written it."""

import os
from types import SimpleNamespace

import pytest

from pyrovm.config.snapshot import SnapshotCreateParams
from pyrovm.devices.virtio_rng import VirtioRng
from pyrovm.devices.virtio_vsock_kernel import VirtioVsockKernel
from pyrovm.errors import HostError
from pyrovm.machine.dirty import DirtyPages
from pyrovm.machine.ram import Ram
from pyrovm.machine.snapshots import write_snapshot
from tests.unit.machine.fake_vm import FakeVm

PAGE = 4096
SIZE = 128 * PAGE


class World:
    """Memory that is tracked, and a machine around it; no guest but who writes when told to."""

    def __init__(self, folder, device):
        self.folder = folder
        self.vm = FakeVm()
        self.ram = Ram(self.vm, track_dirty_pages=True)
        self.ram.fill([(0, SIZE)], lambda _at, size: self.ram.map_new(size), huge_pages="None")
        self.machine = SimpleNamespace(ram=self.ram, slots=[SimpleNamespace(device=device)])
        self.dirty = DirtyPages(self.vm, self.ram)

    def write(self, page, text, *, logged=True):
        """As the guest, or as the kernel, which tells nobody."""
        self.ram.slots[0].mapping.view[page * PAGE : page * PAGE + len(text)] = text
        if logged:
            self.vm.guest_writes(0, page)

    def snapshot(self, name, kind="Diff"):
        params = SnapshotCreateParams(
            snapshot_path=str(self.folder / "state"),
            mem_file_path=str(self.folder / name),
            snapshot_type=kind,
        )
        sections = {"host": {}, "vm": {}, "vcpu.0": {}, "devices": {}}
        return write_snapshot(self.machine, sections, {}, params, self.dirty).written


@pytest.fixture(params=[VirtioRng(bytes), VirtioVsockKernel(3, None)], ids=["seen", "unseen"])
def world(request, tmp_path):
    made = World(tmp_path, request.param)
    yield made
    made.ram.close()


def pages(*numbers):
    return [(number * PAGE, number * PAGE + PAGE) for number in numbers]


def test_a_diff_has_the_logged_pages_and_where_the_kernel_writes_unseen_all_that_may_be(world):
    world.write(3, b"a")
    world.snapshot("base", "Full")
    world.write(5, b"b")
    world.write(9, b"c", logged=False)
    is_seen = not world.machine.slots[0].device.writes_unseen
    assert world.snapshot("diff") == (pages(5) if is_seen else pages(3, 5, 9))
    assert os.path.getsize(world.folder / "diff") == SIZE
    assert world.snapshot("next") == ([] if is_seen else pages(3, 5, 9))


def test_pages_of_a_snapshot_that_failed_are_in_the_next(world):
    world.snapshot("base", "Full")
    world.write(7, b"a")
    with pytest.raises(HostError, match="no/folder"):
        world.snapshot("no/folder")
    world.write(8, b"b")
    assert world.snapshot("diff") == [(7 * PAGE, 9 * PAGE)]
