"""What kind of KVM is behind /dev/kvm: one that can run an operating system, or not.

Some clouds offer the KVM API without VMX or SVM underneath.  Guest kernels are then interpreted
instruction by instruction, only user mode runs natively, and Linux stops at the first instruction
that the interpreter does not know.  No capability says so.  What gives such a KVM away is
architectural: a guest's SYSCALL instruction goes to its handler but stays in user mode, since
there is no guest kernel mode to enter.  So a VM of a few pages executes one, and where it landed
is looked at.

That takes some milliseconds, so it is done only where KVM's capabilities do not already show that
it sits on real virtualization (both asked for here need VMX or SVM code), and the answer is kept
for the time until the next boot.
"""

from __future__ import annotations

import os
from struct import pack

from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import regs
from pyrovm.errors import HostError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.kvm.system import Kvm
    from pyrovm.kvm.vcpu import Vcpu
    from pyrovm.kvm.vm import Vm

HARDWARE, SOFTWARE = "hardware", "software-only"

# The probe's guest: everything in 64 KiB, mapped one to one, and one page behind that is no memory.
MEMORY_SIZE = 0x10000
PML4, PDPT, PD, PT = 0x1000, 0x2000, 0x3000, 0x4000
CODE, STUB = 0x8000, 0x8100
MARK_GPA, MARK = MEMORY_SIZE, 0x5A
PRESENT_WRITABLE_USER = 7

SYSCALL = b"\x0f\x05"
STORE_MARK = b"\xc6\x04\x25" + pack("<IB", MARK_GPA, MARK)  # mov byte ptr [MARK_GPA], MARK

EFER_SCE = 1 << 0
CR0_NE, CR0_WP = 1 << 5, 1 << 16
MSR_STAR, MSR_LSTAR = 0xC0000081, 0xC0000082
KERNEL_CODE = 0x10
USER_DATA, USER_CODE = 0x2B, 0x33
# Flags of descriptors as in regs.py: present, DPL 3, and for code the 64-bit bit.
USER_CODE_FLAGS, USER_DATA_FLAGS, TSS_FLAGS = 0xA0FB, 0xC0F3, 0x008B


def kvm_kind(kvm: Kvm, *, thorough: bool = False) -> str:
    """HARDWARE or SOFTWARE; ``thorough`` executes the probe whatever hints and cache say.

    Raises:
        HostError: KVM cannot even run the probe.
    """
    if thorough:
        return probe(kvm)
    if hints_at_hardware(kvm):
        return HARDWARE
    cache = KindCache()
    kind = cache.load()
    if kind is None:
        kind = probe(kvm)
        cache.store(kind)
    return kind


def hints_at_hardware(kvm: Kvm) -> bool:
    """Whether KVM can save nested VMX or SVM state and has system management mode."""
    return bool(
        kvm.check_extension(abi.KVM_CAP_NESTED_STATE) and kvm.check_extension(abi.KVM_CAP_X86_SMM)
    )


def require_linux_capable(kvm: Kvm) -> None:
    """Refuse a KVM that cannot run Linux guests.

    Raises:
        Unsupported: it is software-only; the message says what to do.
    """
    if kvm_kind(kvm) == SOFTWARE:
        raise Unsupported(
            "Linux guests cannot run here: this host's KVM works without hardware virtualization "
            "(no VMX or SVM) and interprets guest kernels, which it cannot do for Linux. Run the "
            "command in the lab, a software-emulated host with a complete KVM: "
            "'pyrovm lab run -- ...'; or use a host with VMX or SVM. 'pyrovm doctor' tells more."
        )


# ------------------------------------------------------------------------ the probe


def probe(kvm: Kvm) -> str:
    """Execute the probe in a VM of its own.

    Raises:
        HostError: it did not come to its end.
    """
    from pyrovm.host import mapping

    memory = mapping.anonymous(MEMORY_SIZE)
    vm = kvm.create_vm()
    try:
        write_guest(memory.view)
        vm.set_memory(0, 0, MEMORY_SIZE, memory.address)
        return _run(vm)
    finally:
        vm.close()
        memory.close()


def write_guest(memory: memoryview) -> None:
    """Page tables and two pieces of code: user mode's SYSCALL, and where it leads."""

    def put(at: int, data: bytes) -> None:
        memory[at : at + len(data)] = data

    for table, entry in ((PML4, PDPT), (PDPT, PD), (PD, PT)):
        put(table, pack("<Q", entry | PRESENT_WRITABLE_USER))
    pages = range(0, MEMORY_SIZE + 0x1000, 0x1000)
    put(PT, b"".join(pack("<Q", page | PRESENT_WRITABLE_USER) for page in pages))
    put(CODE, SYSCALL)
    put(STUB, STORE_MARK)


def _run(vm: Vm) -> str:
    vcpu = vm.create_vcpu(0)
    try:
        _enter_user_mode(vcpu)
        try:
            vcpu.run()
        except OSError as error:
            raise HostError.wrap("The KVM probe could not run", error) from None
        reason, run = vcpu.exit_reason[0], vcpu.run_struct
        if reason != abi.KVM_EXIT_MMIO or run.mmio_phys_addr != MARK_GPA:
            raise HostError(f"The KVM probe ended with exit reason {reason}")
        return SOFTWARE if vcpu.sregs().cs.dpl else HARDWARE
    finally:
        vcpu.close()


def _enter_user_mode(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    sregs.cs = regs.segment(USER_CODE_FLAGS, 0, 0xFFFFF, USER_CODE)
    data = regs.segment(USER_DATA_FLAGS, 0, 0xFFFFF, USER_DATA)
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data
    sregs.tr = regs.segment(TSS_FLAGS, 0, 0x67, 0x40)
    sregs.cr3 = PML4
    sregs.cr4 = regs.CR4_PAE
    sregs.cr0 = regs.CR0_PE | regs.CR0_ET | CR0_NE | CR0_WP | regs.CR0_PG
    sregs.efer = EFER_SCE | regs.EFER_LME | regs.EFER_LMA
    vcpu.set_sregs(sregs)
    vcpu.set_msrs({MSR_STAR: KERNEL_CODE << 32, MSR_LSTAR: STUB})
    state = abi.kvm_regs()
    state.rip = CODE
    state.rflags = regs.RFLAGS_RESERVED
    vcpu.set_regs(state)


# ------------------------------------------------------------------------ the cache


class KindCache:
    """The probe's answer in a file that no other user can have written, valid for one boot."""

    NAME = "kvm-kind"

    def __init__(self, directory: str | None = None, boot_id: str | None = None) -> None:
        """Use ``directory``, by default a private one below the user's run-time directory."""
        self.directory = runtime_directory() if directory is None else directory
        self._boot_id = boot_id

    def load(self) -> str | None:
        """The kind that was stored since the last boot, or None."""
        try:
            parent = self._open_directory()
            if parent < 0:
                return None
            try:
                fd = os.open(self.NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            finally:
                os.close(parent)
            try:
                text = os.read(fd, 256).decode("ascii", "replace")
            finally:
                os.close(fd)
        except OSError:  # no cache is no error: the probe is run instead
            return None
        boot_id, _, kind = text.strip().partition(" ")
        if boot_id and boot_id == self._current_boot() and kind in (HARDWARE, SOFTWARE):
            return kind
        return None

    def store(self, kind: str) -> None:
        """Keep ``kind``; where that cannot be done safely it is not kept."""
        boot_id = self._current_boot()
        if not boot_id or not self.directory:
            return
        temporary = f"{self.NAME}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            try:
                os.mkdir(self.directory, 0o700)
            except FileExistsError:
                pass
            parent = self._open_directory()
            if parent < 0:
                return
            try:
                fd = os.open(temporary, flags, 0o600, dir_fd=parent)
                try:
                    os.write(fd, f"{boot_id} {kind}\n".encode())
                finally:
                    os.close(fd)
                os.rename(temporary, self.NAME, src_dir_fd=parent, dst_dir_fd=parent)
            finally:
                os.close(parent)
        except OSError:  # a full or read-only file system costs the next start some milliseconds
            return

    def _open_directory(self) -> int:
        """A descriptor of the directory, or -1 where others could have a hand in it."""
        if not self.directory:
            return -1
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.directory, flags)
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            os.close(fd)
            return -1
        return fd

    def _current_boot(self) -> str:
        if self._boot_id is None:
            try:
                with open("/proc/sys/kernel/random/boot_id") as file:
                    self._boot_id = file.read().strip()
            except OSError:  # no /proc in a jail
                self._boot_id = ""
        return self._boot_id


def runtime_directory() -> str:
    """``pyrovm`` below XDG_RUNTIME_DIR, for root below /run; empty where there is neither."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not base.startswith("/"):
        base = "/run" if os.geteuid() == 0 else ""
    return f"{base}/pyrovm" if base else ""
