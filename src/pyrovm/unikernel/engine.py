"""Which engine a program runs on: KVM where there is one, else Unicorn where that is installed."""

from __future__ import annotations

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.kvm.system import Kvm
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.unicorn_vm import UnicornVm
    from pyrovm.unikernel.vm import ProgramVm

_NAMES = {
    abi.PV_ENGINE_HARDWARE: "hardware",
    abi.PV_ENGINE_SOFTWARE: "software",
    abi.PV_ENGINE_UNICORN: "unicorn",
}


def engine_name(number: int) -> str:
    """PV_ENGINE as a word."""
    return _NAMES[number]


def open_vm(program: Program, libos_path: str, engine: str = "auto") -> ProgramVm | UnicornVm:
    """A VM for ``program``; the caller closes it.

    Raises:
        Unsupported: there is no engine, or not the one that was asked for.
        HostError: the image or the library OS cannot be used, or KVM refuses something.
    """
    kvm = None if engine == "unicorn" else _open_kvm(engine)
    if kvm is None:
        from pyrovm.unikernel.unicorn_vm import UnicornVm

        return UnicornVm(program, libos_path)
    from pyrovm.unikernel.vm import ProgramVm

    return loaded(ProgramVm(kvm, program.memory, libos_path, program.cpus), program)


def open_kvm_vm(memory: int, libos_path: str) -> ProgramVm:
    """A VM on KVM that no program has been loaded into yet.

    Raises:
        Unsupported: there is no KVM.
        HostError: KVM or the library OS cannot be used.
    """
    from pyrovm.kvm.system import Kvm
    from pyrovm.unikernel.vm import ProgramVm

    return ProgramVm(Kvm(), memory, libos_path)


def loaded(vm: ProgramVm, program: Program) -> ProgramVm:
    """``vm`` with the program in it, or closed.

    Raises:
        ConfigError: the program's strings do not fit.
        HostError: the image cannot be used, or KVM refuses it.
    """
    try:
        vm.load(program)
    except BaseException:
        vm.close()
        raise
    return vm


def _open_kvm(engine: str) -> Kvm | None:
    """KVM; None where Unicorn has to do."""
    from pyrovm.kvm.system import Kvm

    try:
        return Kvm()
    except HostError as error:
        if engine == "kvm":
            raise
        from pyrovm.unikernel import unicorn_cpu

        if unicorn_cpu.is_there():
            return None
        raise Unsupported(
            f"No engine to run a program: {error}; and Unicorn, which needs no KVM, is not "
            "installed (pip install 'pyrovm[unicorn]')"
        ) from None
