"""A program's VM at rest as files: a folder with ``state``, ``memory`` and the library OS.

The state is a file of :mod:`pyrovm.snapshot.state`, the memory one of :mod:`.memory`.  Code of the
library OS is in the guest's stacks, so it goes along; the image is found where it was.
"""

from __future__ import annotations

import os
import shutil
import time

from pyrovm.errors import HostError, SnapshotError
from pyrovm.snapshot import memory, state
from pyrovm.snapshot.layout import Layout
from pyrovm.unikernel.branch import CLOCK_SLACK_NS, CLOCK_SLACK_PART, REGISTERS, CpuState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.unikernel.branch import Rest
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.program import Program
    from pyrovm.unikernel.vm import ProgramVm

STATE, MEMORY, LIBRARY_OS = "state", "memory", "libos"


def save(
    folder: str, rest: Rest, outside: Outside, config: dict[str, Any], libos_path: str
) -> None:
    """Write the files into ``folder``, which is there; ``config`` is for whoever restores.

    Raises:
        HostError: they cannot be written, or the guest has open what cannot be saved.
    """
    vm = rest.vm
    process = outside.state()
    # What the guest's clock says at most: it began with the host's.
    run_ns = max(rest.since_ns - vm.boot.monotonic_base_ns, 0)
    clock = rest.since_ns + run_ns // CLOCK_SLACK_PART + CLOCK_SLACK_NS
    process |= {"monotonic_ns": clock, "started": sorted(vm.started), "ticking": rest.ticking}
    layout = Layout([(0, vm.ram.size)])
    source = memory.Source(vm.ram.view, vm.ram.address, 0)
    file = memory.prepare_full(os.path.join(folder, MEMORY), vm.ram.size, [source])
    try:
        layout.samples = file.samples()
        file.publish()
    except BaseException:
        file.discard()
        raise
    try:
        shutil.copyfile(libos_path, os.path.join(folder, LIBRARY_OS))
    except OSError as error:
        raise HostError.wrap(f"Cannot write into {folder}", error) from None
    sections = {
        "host": {"engine": vm.boot.engine, "xcr0": vm.boot.xcr0},
        "config": config,
        "memory": layout.to_json(),
        **{f"vcpu.{n}": cpu.registers for n, cpu in enumerate(rest.cpus)},
        "process": process,
    }
    state.write(os.path.join(folder, STATE), "program", sections)


# Fields of the request that cannot be missing, and what they have.
NEEDED = {"image": "text", "exe": "text", "libos": "text", "cwd": "text", "hostname": "text"} | {
    "memory": "a number",
    "cpus": "a number",
}


class Saved:
    """A VM in a folder; ``config`` is what it was saved with, ``request`` the part of it that says
    how to run it."""

    def __init__(self, folder: str) -> None:
        """Read its state.

        Raises:
            HostError: there is none, or it cannot be read.
            SnapshotError: it is damaged, or of another kind.
        """
        self.folder = folder
        self._state = found = state.read(os.path.join(folder, STATE))
        if found.kind != "program":
            raise SnapshotError(
                f"{found.path}: it is of a {found.kind}; one of a program is needed"
            )
        self.created_ns = found.created_ns
        self.config: dict[str, Any] = found["config"]
        self.request = self._request()
        self.layout = Layout.of(found)
        self._process: dict[str, Any] = found["process"]

    def _request(self) -> dict[str, list[str]]:
        fields = self.config.get("request") if isinstance(self.config, dict) else None
        where = f"{self._state.path}: section config: request"
        if not isinstance(fields, dict):
            raise SnapshotError(f"{where}: it is missing")
        for name, values in fields.items():
            if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
                raise SnapshotError(f"{where}: {name}: it is no list of texts")
        for name, what in NEEDED.items():
            values = fields.get(name)
            if not values or (what == "a number" and not values[0].isdecimal()):
                raise SnapshotError(f"{where}: {name}: {values!r}; {what} is needed")
        return fields

    def open_vm(self, program: Program, _libos_path: str, _engine: str) -> ProgramVm:
        """The VM as it was; memory comes from the file as the guest touches it.

        Raises:
            HostError: KVM refuses something, or a file cannot be used.
            SnapshotError: a file is not that of this VM, or this CPU lacks something.
        """
        from pyrovm.kvm.system import Kvm
        from pyrovm.unikernel.vm import ProgramVm, engine_of, xcr0_for

        cpus = [self._registers(found) for found in self._state.numbered("vcpu.")]
        fd = memory.open_file(os.path.join(self.folder, MEMORY), self.layout)
        try:
            ram = memory.map_range(fd, self.layout.ranges[0])
        finally:
            os.close(fd)
        vm = ProgramVm(Kvm(), ram, os.path.join(self.folder, LIBRARY_OS), len(cpus))
        try:
            host = self._state["host"]
            here = {"engine": engine_of(vm.cpuid), "xcr0": xcr0_for(vm.cpuid)}
            missing = host["xcr0"] & ~here["xcr0"]
            if host["engine"] != here["engine"] or missing:
                raise SnapshotError(
                    f"{self.folder}: it was saved on another kind of KVM, or with registers (XCR0 "
                    f"{missing:#x}) that this CPU lacks; make it again here"
                )
            vm.started = {int(number) for number in self._process["started"]}
            if program.image:
                vm.map_image(program.image)
            vm.attach()
            for cpu, registers in zip(vm.cpus, cpus, strict=True):
                registers.load(cpu.vcpu)
            vm.boot.tsc_khz = vm.cpus[0].vcpu.tsc_khz()
            vm.boot.tsc_base = 0  # the guest takes it when it looks
            vm.boot.monotonic_base_ns = self._process["monotonic_ns"]
            vm.boot.realtime_base_ns = time.time_ns()
            vm.boot.clock_sequence += 2
        except BaseException:
            vm.close()
            raise
        return vm

    def _registers(self, found: Any) -> CpuState:
        try:
            return CpuState({name: bytes(found[name]) for name in REGISTERS})
        except (KeyError, TypeError) as error:
            raise SnapshotError(f"{self._state.path}: a vCPU has no {error}") from None

    def restore(self, calls: Calls, outside: Outside) -> None:
        """Have what it had open.

        Raises:
            SnapshotError: the file has no good data about that.
            HostError: there are no descriptors left.
        """
        try:
            calls.waiting.set_ticking(int(self._process["ticking"]))
            outside.restore(calls, self._process)
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"{self._state.path}: section process: {error}") from None
        except OSError as error:
            raise HostError.wrap("Sockets cannot be had", error) from None
