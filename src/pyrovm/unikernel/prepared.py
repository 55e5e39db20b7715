"""A VM that is made before it is known which program will run in it."""

from __future__ import annotations

from pyrovm.errors import PyrovmError
from pyrovm.unikernel import engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.unicorn_vm import UnicornVm
    from pyrovm.unikernel.vm import ProgramVm


class Prepared:
    """One VM in waiting, on KVM; where there is none, programs get theirs as they come."""

    def __init__(self, memory: int, libos_path: str) -> None:
        """Make it; what is in the way is told to the first program, whose VM meets it again."""
        self._key = memory, libos_path
        self._vm: ProgramVm | None = None
        try:
            self._vm = engine.open_kvm_vm(memory, libos_path)
        except PyrovmError:
            pass

    def open_vm(self, program: Program, libos_path: str, name: str) -> ProgramVm | UnicornVm:
        """As :func:`pyrovm.unikernel.engine.open_vm`, from the VM in waiting if it fits."""
        vm, self._vm = self._vm, None
        if vm is None:
            return engine.open_vm(program, libos_path, name)
        if name == "unicorn" or self._key != (program.memory, libos_path):
            vm.close()
            return engine.open_vm(program, libos_path, name)
        return engine.loaded(vm, program)
