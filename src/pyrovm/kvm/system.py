"""/dev/kvm: what the host's KVM is and can do, and where VMs come from."""

from __future__ import annotations

import os

from pyrovm.abi import kvm as abi
from pyrovm.abi.layout import entries, with_tail
from pyrovm.errors import HostError, Unsupported, os_error
from pyrovm.host.ioctl import ioctl, ioctl_buffer
from pyrovm.kvm.vm import Vm

DEVICE = "/dev/kvm"
MAX_CPUID_ENTRIES = 256

# Without one of these the machine cannot be built (Firecracker requires the same).
REQUIRED_CAPABILITIES = {
    "IRQCHIP": abi.KVM_CAP_IRQCHIP,
    "IOEVENTFD": abi.KVM_CAP_IOEVENTFD,
    "IRQFD": abi.KVM_CAP_IRQFD,
    "USER_MEMORY": abi.KVM_CAP_USER_MEMORY,
    "SET_TSS_ADDR": abi.KVM_CAP_SET_TSS_ADDR,
    "PIT2": abi.KVM_CAP_PIT2,
    "PIT_STATE2": abi.KVM_CAP_PIT_STATE2,
    "ADJUST_CLOCK": abi.KVM_CAP_ADJUST_CLOCK,
    "DEBUGREGS": abi.KVM_CAP_DEBUGREGS,
    "MP_STATE": abi.KVM_CAP_MP_STATE,
    "VCPU_EVENTS": abi.KVM_CAP_VCPU_EVENTS,
    "XCRS": abi.KVM_CAP_XCRS,
    "XSAVE": abi.KVM_CAP_XSAVE,
    "EXT_CPUID": abi.KVM_CAP_EXT_CPUID,
    "IMMEDIATE_EXIT": abi.KVM_CAP_IMMEDIATE_EXIT,
}

_spares: dict[str, tuple[Vm, int]] = {}  # by device: made ahead, and by which process


def make_spare(path: str = DEVICE) -> None:
    """Have an empty VM ready for the next :meth:`Kvm.create_vm` of this process.

    The kernel waits for a grace period when it makes one: some milliseconds.

    Raises:
        Unsupported, HostError: there is no KVM to be had.
    """
    with Kvm(path) as kvm:
        _spares[path] = kvm.create_vm(), os.getpid()


class Kvm:
    """The opened /dev/kvm (Documentation/virt/kvm/api.rst, section 4)."""

    def __init__(self, path: str = DEVICE) -> None:
        """Open the device.

        Raises:
            Unsupported: there is no KVM, or its API is not version 12.
            HostError: it may not be opened.
        """
        self._path = path
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            text = f"Error opening {path}: {os_error(error)}"
            if isinstance(error, FileNotFoundError):
                raise Unsupported(
                    f"{text}. This kernel has no KVM; 'pyrovm doctor' says what would help.",
                    error.errno or 0,
                ) from None
            raise HostError(
                f"{text}. Check permissions and group membership of {path}.", error.errno or 0
            ) from None
        version = ioctl(self.fd, abi.KVM_GET_API_VERSION, what="KVM_GET_API_VERSION")
        if version != abi.KVM_API_VERSION:
            self.close()
            raise Unsupported(f"KVM has API version {version}, {abi.KVM_API_VERSION} is needed")

    def __enter__(self) -> Kvm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def check_extension(self, capability: int) -> int:
        """0 where the capability is absent; else 1 or what the capability counts."""
        return ioctl(self.fd, abi.KVM_CHECK_EXTENSION, capability, what="KVM_CHECK_EXTENSION")

    def missing_capabilities(self) -> list[str]:
        """The names of the required capabilities that this KVM lacks."""
        return [n for n, cap in REQUIRED_CAPABILITIES.items() if not self.check_extension(cap)]

    def run_size(self) -> int:
        """Bytes of a vCPU's shared kvm_run mapping."""
        return ioctl(self.fd, abi.KVM_GET_VCPU_MMAP_SIZE, what="KVM_GET_VCPU_MMAP_SIZE")

    def supported_cpuid(self) -> list[abi.kvm_cpuid_entry2]:
        """The CPUID entries that this host and KVM can give to a guest."""
        return self._cpuid(abi.KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID")

    def _cpuid(self, request: int, what: str) -> list[abi.kvm_cpuid_entry2]:
        buffer = with_tail(abi.kvm_cpuid2, abi.kvm_cpuid_entry2, MAX_CPUID_ENTRIES)
        header = abi.kvm_cpuid2(buffer)
        header.nent = MAX_CPUID_ENTRIES
        ioctl_buffer(self.fd, request, buffer, what=what)
        return list(entries(buffer, abi.kvm_cpuid2, abi.kvm_cpuid_entry2, header.nent))

    def msr_index_list(self) -> list[int]:
        """The numbers of the MSRs that KVM saves and restores."""
        count = 1024
        buffer = bytearray(abi.kvm_msr_list.SIZE + 4 * count)
        header = abi.kvm_msr_list(buffer)
        header.nmsrs = count
        ioctl_buffer(self.fd, abi.KVM_GET_MSR_INDEX_LIST, buffer, what="KVM_GET_MSR_INDEX_LIST")
        start = abi.kvm_msr_list.SIZE
        return list(memoryview(buffer)[start : start + 4 * header.nmsrs].cast("I"))

    def create_vm(self) -> Vm:
        """A VM with nothing in it.

        Raises:
            HostError: the kernel refused (out of memory, a limit).
        """
        vm, pid = _spares.pop(self._path, (None, 0))
        if vm is not None and pid == os.getpid():  # a VM works only where it was made
            return vm
        return Vm(ioctl(self.fd, abi.KVM_CREATE_VM, what="KVM_CREATE_VM"), self.run_size())
