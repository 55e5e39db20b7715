"""Everything the builder needs to know about one machine, with nothing left to look up."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrovm.arch.x86.template import Template
    from pyrovm.devices.rate_limiter import TokenBucket
    from pyrovm.machine.machine import Machine
    from pyrovm.virtio.device import VirtioDevice

    Filter = Callable[[bytes], bytes]

DEFAULT_KVM = "/dev/kvm"


class SerialPlan:
    """Where the console's bytes go and come from; ``input_fd`` None attaches no input.

    The filters see the bytes of their direction first and return what shall pass.
    """

    __slots__ = (
        "bucket",
        "input_fd",
        "input_filter",
        "on_input_end",
        "output_fd",
        "output_filter",
        "output_owned",
    )

    def __init__(
        self,
        output_fd: int,
        *,
        output_owned: bool = False,
        input_fd: int | None = None,
        bucket: TokenBucket | None = None,
        output_filter: Filter | None = None,
        input_filter: Filter | None = None,
        on_input_end: Callable[[], object] | None = None,
    ) -> None:
        self.output_fd = output_fd
        self.output_owned = output_owned
        self.input_fd = input_fd
        self.bucket = bucket
        self.output_filter = output_filter
        self.input_filter = input_filter
        self.on_input_end = on_input_end


class Blueprint:
    """A machine to be built.

    ``devices`` are in attach order, which fixes their windows and interrupts; ``prepare`` is called
    when RAM is there and before they are attached, to place what they bring into the address
    space.  ``root`` are the kernel's words for the root device; ``kernel_fd`` and ``initrd_fd``
    stay the caller's.  ``require_linux`` refuses a Linux kernel where KVM cannot run it.
    ``protocol`` is how to start the kernel, None as it asks for; ``kernel_name`` the first word
    of a multiboot command line.
    """

    __slots__ = (
        "acpi",
        "boot_args",
        "boot_timer",
        "capabilities",
        "devices",
        "huge_pages",
        "initrd_fd",
        "kernel_fd",
        "kernel_name",
        "kvm_device",
        "mem_size_mib",
        "prepare",
        "protocol",
        "require_linux",
        "root",
        "serial",
        "smt",
        "static_template",
        "template",
        "track_dirty_pages",
        "vcpu_count",
    )

    def __init__(
        self,
        *,
        kernel_fd: int,
        initrd_fd: int | None = None,
        boot_args: str | None = None,
        root: str = "",
        vcpu_count: int = 1,
        mem_size_mib: int = 128,
        smt: bool = False,
        huge_pages: str = "None",
        track_dirty_pages: bool = False,
        devices: Sequence[VirtioDevice] = (),
        prepare: Callable[[Machine], object] | None = None,
        serial: SerialPlan,
        template: Template | None = None,
        static_template: str | None = None,
        capabilities: Sequence[tuple[int, bool]] = (),
        boot_timer: Callable[[], object] | None = None,
        acpi: bool = True,
        protocol: str | None = None,
        kernel_name: str = "kernel",
        kvm_device: str = DEFAULT_KVM,
        require_linux: bool = True,
    ) -> None:
        self.kernel_fd = kernel_fd
        self.initrd_fd = initrd_fd
        self.boot_args = boot_args
        self.root = root
        self.vcpu_count = vcpu_count
        self.mem_size_mib = mem_size_mib
        self.smt = smt
        self.huge_pages = huge_pages
        self.track_dirty_pages = track_dirty_pages
        self.devices = devices
        self.prepare = prepare
        self.serial = serial
        self.template = template
        self.static_template = static_template
        self.capabilities = capabilities
        self.boot_timer = boot_timer
        self.acpi = acpi
        self.protocol = protocol
        self.kernel_name = kernel_name
        self.kvm_device = kvm_device
        self.require_linux = require_linux
