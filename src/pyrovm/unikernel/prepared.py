"""A VM that is made before it is known which program will run in it."""

from __future__ import annotations

from pyrovm.abi import libos as abi
from pyrovm.errors import PyrovmError
from pyrovm.unikernel import engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.unicorn_vm import UnicornVm
    from pyrovm.unikernel.vm import ProgramVm

MADV_POPULATE_WRITE = 23  # since Linux 5.14
# Memory that the host gives ahead, in bytes: what every program needs, and what those of large
# images need at least (an image with an interpreter has tens of megabytes).
FOR_ALL, FOR_LARGE = 64 << 10, 4 << 20
LARGE_IMAGE = 8 << 20


class Prepared:
    """One VM in waiting, on KVM; where there is none, programs get theirs as they come."""

    def __init__(self, memory: int, libos_path: str) -> None:
        """Make it; what is in the way is told to the first program, whose VM meets it again."""
        self._key = memory, libos_path, 1
        self._vm: ProgramVm | None = None
        try:
            self._vm = engine.open_kvm_vm(memory, libos_path)
            for start, size in ((self._vm.free_start, FOR_ALL), (abi.PV_RAM_HUGE, FOR_LARGE)):
                self._vm.ram.advise(MADV_POPULATE_WRITE, start, size)
        except PyrovmError:
            pass
        except OSError:  # it has not the memory, or the kernel knows no such advice
            pass

    def open_vm(self, program: Program, libos_path: str, name: str) -> ProgramVm | UnicornVm:
        """As :func:`pyrovm.unikernel.engine.open_vm`, from the VM in waiting if it fits."""
        vm, self._vm = self._vm, None
        if vm is None:
            return engine.open_vm(program, libos_path, name)
        if name == "unicorn" or self._key != (program.memory, libos_path, program.cpus):
            vm.close()
            return engine.open_vm(program, libos_path, name)
        vm = engine.loaded(vm, program)
        if vm.boot.image_size < LARGE_IMAGE:
            vm.discard(abi.PV_RAM_HUGE, FOR_LARGE)
        return vm
