"""``pyrovm run``: one Linux guest in this process, its console on this terminal."""

from __future__ import annotations

import os
import sys

from pyrovm.cli import run_options
from pyrovm.cli.firecracker_vmm import PARSE_FAILED, START_FAILED, Vmm
from pyrovm.cli.run_kernel import PROTOCOLS, identify_file, unikernel_words
from pyrovm.cli.run_signs import EXIT, INIT, SignFilter
from pyrovm.cli.run_terminal import Terminal, window_size
from pyrovm.cli.run_timeline import API, Timeline, exit_counts, print_table, to_json
from pyrovm.cli.run_timeline import INIT as INIT_REACHED
from pyrovm.config.size import size_mib
from pyrovm.errors import ConfigError
from pyrovm.machine.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from pyrovm.cli.run_folder import RunFolder
    from pyrovm.cli.run_network import Interface
    from pyrovm.config.serial import SerialConfig
    from pyrovm.machine.assembly import Assembler
    from pyrovm.machine.blueprint import SerialPlan
    from pyrovm.machine.machine import Machine

CMDLINE = "console=ttyS0 reboot=k panic=-1 loglevel=3"
STDIN, STDOUT, STDERR = 0, 1, 2
EXIT_FAILED, EXIT_TIMEOUT = 1, 124
PAYLOAD_LIMIT = 51200
VERSION = "1.17.0-dev"


def main(argv: Sequence[str]) -> int:
    """Run the guest; the exit status."""
    timeline = Timeline()
    options = run_options.parse(argv)
    from pyrovm.cli.run_folder import RunFolder

    folder = RunFolder(options.id)
    try:
        return _Run(options, folder, timeline).run()
    finally:
        folder.remove()


class _Run:
    """One guest, from options to exit status."""

    def __init__(self, options: Namespace, folder: RunFolder, timeline: Timeline) -> None:
        self.options = options
        self.folder = folder
        self.timeline = timeline
        self.guest_status: int | None = None
        self.machine: Machine | None = None
        self.interfaces = _interfaces(options)
        self.kernel_path, self.initrd_path = _kernel(options.kernel, options.initrd)
        self.kernel = identify_file(self.kernel_path)
        self.log = _make_log(options)
        self.terminal = Terminal(
            run_options.escape_key(options.escape),
            {
                b"q": self._quit,
                b"c": self._ctrl_alt_del,
                b"p": self._pause,
                b"t": self._show_timeline,
                b"w": _stty,
            },
        )
        self.vmm = RunVmm(self)

    def run(self) -> int:
        options, vmm = self.options, self.vmm
        metadata = None
        if options.mmds is not None:
            with open(options.mmds, "rb") as file:
                metadata = file.read()
        try:
            if not options.no_api:
                vmm.open_api(options.api_sock or self.folder.api_socket, PAYLOAD_LIMIT)
                self.timeline.mark(API)
            try:
                vmm.configure(self._document(), metadata)
            except ConfigError as error:
                raise ConfigError(_plain(str(error))) from None
            if options.timeout is not None:
                vmm.loop.timer(self._timed_out).arm(options.timeout)
            code = vmm.run()
        finally:
            self.terminal.leave()
            if self.machine is not None:
                self.timeline.take(self.machine)
                self._report()
            vmm.close()
        return self._status(code)

    # ------------------------------------------------------------------ document

    def _document(self) -> bytes:
        """The options as the text of a config file."""
        from pyrovm.config.serde.writer import dumps

        options = self.options
        drives = [run_options.drive(i, text) for i, text in enumerate(options.drive)]
        pmem = [run_options.pmem(i, text) for i, text in enumerate(options.pmem)]
        has_root = any(d["is_root_device"] for d in drives) or any(p["root_device"] for p in pmem)
        if drives and not has_root and options.initrd is None:
            drives[0]["is_root_device"] = True
        initrd = self.initrd_path
        boot: dict[str, object] = {
            "kernel_image_path": self.kernel_path,
            "boot_args": self._boot_args(initrd_only=not drives and not pmem),
        }
        if initrd is not None:
            boot["initrd_path"] = initrd
        document: dict[str, object] = {
            "boot-source": boot,
            "machine-config": {
                "vcpu_count": options.cpus,
                "mem_size_mib": size_mib(options.memory),
                "smt": options.smt,
                "huge_pages": options.huge_pages,
            },
            "drives": drives,
            "pmem": pmem,
            "network-interfaces": [interface.record for interface in self.interfaces],
        }
        if options.vsock is not None:
            document["vsock"] = run_options.vsock(options.vsock, self.folder.vsock)
        if options.balloon is not None:
            document["balloon"] = {"amount_mib": options.balloon, "deflate_on_oom": True}
        if not options.no_entropy and self.kernel.is_linux:
            document["entropy"] = {}
        if options.hotplug_memory is not None:
            document["memory-hotplug"] = run_options.hotplug(options.hotplug_memory)
        if options.mmds is not None:
            names = [interface.record["iface_id"] for interface in self.interfaces]
            document["mmds-config"] = {"version": "V2", "network_interfaces": names}
        if options.metrics is not None:
            document["metrics"] = {"metrics_path": options.metrics}
        return dumps(document).encode()

    def _boot_args(self, *, initrd_only: bool) -> str:
        options = self.options
        if not self.kernel.is_linux:
            return unikernel_words(options, self.kernel, self.kernel_path)
        words = [CMDLINE if options.cmdline is None else options.cmdline]
        words += filter(None, (i.kernel_words(n) for n, i in enumerate(self.interfaces)))
        words += filter(None, [options.append])
        size = window_size() if self.terminal.is_interactive else None
        if size is not None:  # what the kernel does not know becomes init's environment
            words.append(f"TERM={_term()} LINES={size[0]} COLUMNS={size[1]}")
        if options.command:
            from pyrovm.cli.run_guest_command import kernel_words

            parameter, init_words = kernel_words(options.command, initrd_only=initrd_only)
            words += [parameter, "--", init_words]
        return " ".join(words)

    # -------------------------------------------------------------------- console

    def serial(self, _config: SerialConfig | None) -> SerialPlan:
        """Where the guest's serial port goes."""
        from pyrovm.machine.blueprint import SerialPlan

        if self.options.console == "none":
            sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            return SerialPlan(sink, output_owned=True, output_filter=SignFilter(self._sign))
        return SerialPlan(
            STDOUT,
            input_fd=STDIN,
            output_filter=SignFilter(self._sign),
            input_filter=self.terminal.keys,
        )

    def _sign(self, name: str, value: str) -> None:
        """The guest gave a sign; called in a vCPU's thread."""
        if name == INIT:
            self.timeline.mark(INIT_REACHED)
        elif name == EXIT and value.isascii() and value.isdigit():
            self.guest_status = int(value) & 0xFF

    def _quit(self) -> bytes:
        self.terminal.say("\r\nthe machine was stopped\r\n")
        self.vmm.exit(0)
        return b""

    def _ctrl_alt_del(self) -> bytes:
        return self._try(self.vmm.controller.send_ctrl_alt_del)

    def _pause(self) -> bytes:
        from pyrovm.machine.controller import PAUSED

        controller = self.vmm.controller
        if controller.state == PAUSED:
            return self._try(controller.resume)
        self.terminal.say("\r\npaused; the same keys again to go on\r\n")
        return self._try(controller.pause)

    def _try(self, action: Callable[[], object]) -> bytes:
        from pyrovm.machine.controller_fault import Fault

        try:
            action()
        except Fault as fault:
            self.terminal.say(f"\r\n{fault}\r\n")
        return b""

    def _show_timeline(self) -> bytes:
        if self.machine is not None:
            from io import StringIO

            self.timeline.take(self.machine)
            text = StringIO()
            print_table(self.timeline, exit_counts(self.machine), text)
            self.terminal.say(text.getvalue().replace("\n", "\r\n"))
        return b""

    # ------------------------------------------------------------------------ end

    def built(self, machine: Machine) -> None:
        """The machine is about to run."""
        self.machine = machine
        for interface in self.interfaces:
            interface.configure_host()
        self.terminal.enter()

    def _timed_out(self) -> None:
        self.terminal.say(f"pyrovm run: stopped after {self.options.timeout:g} s\n")
        self.vmm.exit(EXIT_TIMEOUT)

    def _report(self) -> None:
        assert self.machine is not None
        options = self.options
        exits = exit_counts(self.machine)
        if options.json:
            import json

            print(json.dumps(to_json(self.timeline, exits)), file=sys.stderr)
        elif options.timeline:
            print_table(self.timeline, exits, sys.stderr)

    def _status(self, code: int) -> int:
        stopped = None if self.machine is None else self.machine.stopped
        if stopped is not None and not stopped.ok:
            print(f"pyrovm run: the machine ended by a fault: {stopped.text}", file=sys.stderr)
        if code == 0 and self.guest_status is not None:
            return self.guest_status
        if code == 0 and self.options.command and self.kernel.is_linux:
            print(
                "pyrovm run: the guest stopped without saying how the command ended",
                file=sys.stderr,
            )
            return EXIT_FAILED
        return code


class RunVmm(Vmm):
    """The VMM of ``pyrovm run``: with its own console, and told when the machine is built."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run.options.id, run.log, version=VERSION)
        self._run = run
        self.boot_timer = True
        self.mmds_size_limit = PAYLOAD_LIMIT
        self.vhost = run.options.vhost

    def _make_assembler(self) -> Assembler:
        from pyrovm.machine.assembly import Assembler

        run = self._run
        return Assembler(
            self.loop,
            self.log,
            run.serial,
            on_built=run.built,
            acpi=run.kernel.is_linux if run.options.acpi is None else run.options.acpi,
            protocol=PROTOCOLS[run.options.boot],
            kvm_device=run.options.kvm,
        )


def _make_log(options: Namespace) -> Log:
    from pyrovm.config.logger import LoggerConfig, parse_level

    log = Log(options.id)
    # Without a file only what people must know, and not amid the guest's output.
    level = options.level if options.log is not None else "Error"
    log.update(LoggerConfig(log_path=options.log or "/dev/stderr", level=parse_level(level)))
    return log


def _interfaces(options: Namespace) -> list[Interface]:
    if not options.net:
        return []
    from pyrovm.cli.run_network import Interface

    return [Interface(index, text) for index, text in enumerate(options.net)]


def _kernel(name: str, initrd: str | None) -> tuple[str, str | None]:
    """The files of kernel and initrd; ``name`` is a path or the name of a kernel in the cache.

    A cached kernel whose drivers are modules brings an initramfs that loads them and then does
    what a kernel does by itself.

    Raises:
        ConfigError: it is neither a file nor a kernel of the cache.
    """
    if os.path.exists(name) or "/" in name:
        return name, initrd
    from pyrovm.guest import boot_initramfs, kernels

    kernel = kernels.get(name)
    if initrd is None:
        own = boot_initramfs.path(kernel)
        initrd = None if own is None else str(own)
    return str(kernel.vmlinux), initrd


def _plain(text: str) -> str:
    """An error without the words that tell a client which request it was."""
    for prefix in (PARSE_FAILED, START_FAILED):
        text = text.removeprefix(prefix)
    return text


def _term() -> str:
    term = os.environ.get("TERM", "")
    return term if term.isascii() and term.isprintable() and " " not in term else "vt100"


def _stty() -> bytes:
    size = window_size()
    return b"" if size is None else f"stty rows {size[0]} cols {size[1]}\r".encode()
