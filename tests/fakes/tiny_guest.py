"""A VM with 64 KiB of memory and a few bytes of real-mode code: runs on any kind of KVM."""

from __future__ import annotations

from pyrovm.abi import kvm as abi
from pyrovm.host.mapping import Mapping, anonymous
from pyrovm.kvm.system import Kvm
from pyrovm.kvm.vcpu import Vcpu
from pyrovm.kvm.vm import Vm

CODE = 0x1000


class TinyGuest:
    """``code`` is real-mode machine code, loaded and entered at 0x1000."""

    def __init__(self, code: bytes, *, size: int = 0x10000, flags: int = 0) -> None:
        self.kvm = Kvm()
        self.vm: Vm = self.kvm.create_vm()
        self.ram: Mapping = anonymous(size)
        self.vm.set_memory(0, 0, size, self.ram.address, flags)
        self.ram.view[CODE : CODE + len(code)] = code
        self.vcpu: Vcpu = self.vm.create_vcpu(0)
        sregs = self.vcpu.sregs()
        sregs.cs.base = sregs.cs.selector = 0
        self.vcpu.set_sregs(sregs)
        regs = abi.kvm_regs()
        regs.rip, regs.rflags, regs.rsp = CODE, 2, 0x8000
        self.vcpu.set_regs(regs)

    def __enter__(self) -> TinyGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self.vcpu.close()
        self.vm.close()
        self.kvm.close()
        self.ram.close()
