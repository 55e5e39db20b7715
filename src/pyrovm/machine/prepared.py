"""What is made ahead of a start, while nobody waits: KVM's empty VM, then memory with the kernel.

Both are most of what a start costs: KVM waits for a grace period when it makes a VM, and a kernel
is megabytes to copy.  What was prepared is used only if the start asks for exactly that; else it is
taken down again and everything goes as if there had been nothing.
"""

from __future__ import annotations

import os

from pyrovm.boot import loader
from pyrovm.boot.identify import identify
from pyrovm.errors import HostError, PyrovmError, os_error
from pyrovm.machine.ram import Ram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrovm.boot.loader import Initrd, LoadedKernel
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vm import Vm
    from pyrovm.machine.resources import Resources

    Key = tuple[object, ...]


class Prepared:
    """An empty VM, and perhaps its memory with kernel and initrd in it."""

    def __init__(self, kvm: Kvm, vm: Vm) -> None:
        self.kvm = kvm
        self.vm = vm
        self.ram: Ram | None = None
        self.kernel: LoadedKernel
        self.initrd: Initrd | None = None
        self._key: Key = ()

    def close(self) -> None:
        """Release all of it."""
        if self.ram is not None:
            self.ram.close()
        self.vm.close()
        self.kvm.close()

    def load(self, resources: Resources, protocol: str | None) -> None:
        """Memory and kernel for a start with these resources; nothing where that cannot be."""
        key = key_of(resources, protocol)
        if key is None or (key == self._key and self.ram is not None):
            return
        self.drop_memory()
        machine = resources.machine_config
        ram = Ram(self.vm, track_dirty_pages=machine.track_dirty_pages)
        self.ram = ram
        try:
            ram.allocate(machine.mem_size_mib, machine.huge_pages)
            self.kernel, self.initrd = load_files(
                ram, resources.kernel_fd, resources.initrd_fd, protocol
            )
        except PyrovmError:  # the start will say so
            self.drop_memory()
            return
        self._key = key

    def drop_memory(self) -> None:
        """Leave only the empty VM."""
        ram, self.ram = self.ram, None
        if ram is not None:
            for slot in list(ram.slots.values()):
                ram.remove(slot)
            ram.close()

    def keep_for(self, key: Key | None) -> None:
        """Drop the memory unless it was made for this key."""
        if key is None or key != self._key:
            self.drop_memory()


def key_of(resources: Resources, protocol: str | None) -> Key | None:
    """Everything that memory and kernel depend on; None where there is no kernel."""
    if resources.kernel_fd < 0:
        return None
    machine = resources.machine_config
    return (
        *(machine.mem_size_mib, machine.huge_pages, machine.track_dirty_pages, protocol),
        *(_file_key(resources.kernel_fd), _file_key(resources.initrd_fd)),
    )


def _file_key(fd: int) -> Key:
    if fd < 0:
        return ()
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def load_files(
    ram: Ram, kernel_fd: int, initrd_fd: int | None, protocol: str | None
) -> tuple[LoadedKernel, Initrd | None]:
    """Kernel and initrd into memory; ``protocol`` None takes what the kernel asks for.

    Raises:
        ConfigError: one of them cannot be used or does not fit.
        HostError: one cannot be read.
    """
    if protocol is None:
        protocol = identify(reader_at(kernel_fd)).protocol
    kernel = loader.load_kernel(ram.memory, *_file(kernel_fd, "kernel"), protocol=protocol)
    if initrd_fd is None or initrd_fd < 0:
        return kernel, None
    return kernel, loader.load_initrd(ram.memory, *_file(initrd_fd, "initrd"), kernel.end)


def reader_at(fd: int) -> Callable[[int, int], bytes]:
    """How to look at an open file; one that cannot be read has nothing in it yet."""

    def read_at(offset: int, size: int) -> bytes:
        try:
            return os.pread(fd, size, offset)
        except OSError:  # loading it says so
            return b""

    return read_at


def _file(fd: int, what: str) -> tuple[Callable[[int, memoryview], int], int]:
    """How to read an open file at any offset, and its size in bytes."""

    def read_into(offset: int, view: memoryview) -> int:
        try:
            return os.preadv(fd, [view], offset)
        except OSError as error:
            raise HostError(f"Cannot read the {what}: {os_error(error)}") from None

    return read_into, os.fstat(fd).st_size
