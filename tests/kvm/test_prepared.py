"""What is prepared ahead of a start is used once, fits the start, and is never left behind."""

import os

import pytest

from pyrovm.config.boot_source import BootSourceConfig
from pyrovm.errors import ConfigError, HostError
from pyrovm.kvm.system import Kvm
from pyrovm.machine.assembly import Assembler
from pyrovm.machine.log import Log
from pyrovm.machine.loop import EventLoop
from pyrovm.machine.prepared import Prepared, key_of
from pyrovm.machine.resources import Resources
from tests.fakes.register_guest import CODE, ENTRY
from tests.unit.boot.images import elf, pvh_note

pytestmark = pytest.mark.kvm


@pytest.fixture
def resources(tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf([(ENTRY, CODE, len(CODE))], entry=ENTRY, notes=pvh_note(ENTRY)))
    made = Resources(factory=None)
    made.set_boot_source(BootSourceConfig(kernel_image_path=str(kernel)))
    yield made
    made.close()


@pytest.fixture
def prepared():
    kvm = Kvm()
    made = Prepared(kvm, kvm.create_vm())
    yield made
    made.close()


def test_memory_and_kernel_are_there_before_the_start(prepared, resources):
    prepared.load(resources, None)
    assert prepared.ram.memory.size == resources.machine_config.mem_size_mib << 20
    assert prepared.ram.memory.read(prepared.kernel.entry, len(CODE)) == CODE
    prepared.keep_for(key_of(resources, None))
    assert prepared.ram is not None


def test_a_kernel_that_has_changed_since_is_not_used(prepared, resources):
    prepared.load(resources, None)
    os.utime(resources.boot_source.kernel_image_path, ns=(1, 1))
    prepared.keep_for(key_of(resources, None))
    assert prepared.ram is None


def test_what_is_no_kernel_leaves_nothing(prepared, resources, tmp_path):
    (tmp_path / "text").write_text("no kernel")
    resources.set_boot_source(BootSourceConfig(kernel_image_path=str(tmp_path / "text")))
    prepared.load(resources, None)
    assert prepared.ram is None


def test_a_start_that_cannot_open_its_console_leaves_nothing_open(resources):
    def no_console(_config):
        raise HostError("no console")

    loop = EventLoop()
    before = len(os.listdir("/proc/self/fd"))
    assembler = Assembler(loop, Log(), no_console, require_linux=False)
    assembler.prepare()
    assembler.prepare_memory(resources)
    with pytest.raises((HostError, ConfigError), match="no console"):
        assembler(resources, print)
    assembler.close()
    assert len(os.listdir("/proc/self/fd")) == before
    loop.close()
