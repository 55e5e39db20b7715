"""``pyrovm-firecracker``: a drop-in for the ``firecracker`` program.

Start-up is a feature: until clients can connect to the API socket, only what is needed to get there
is imported.  The API, the records, KVM and the devices follow with the first request.
"""

from __future__ import annotations

import os
import sys

from pyrovm.cli.firecracker_args import ArgumentError, Arguments, help_text, parse_arguments
from pyrovm.cli.firecracker_errors import Panic, StartError
from pyrovm.errors import ConfigError, HostError, SnapshotError, os_error
from pyrovm.machine.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pyrovm.cli.firecracker_vmm import Vmm

VERSION = "1.17.0-dev"
DEFAULT_ID = "anonymous-instance"
DEFAULT_SOCKET = "/run/firecracker.socket"
DEFAULT_PAYLOAD_LIMIT = "51200"
MAX_ID = 64

EXIT_OK = 0
EXIT_BAD_CONFIGURATION, EXIT_ARGUMENTS = 152, 153
EXIT_NAMES = {1: "GenericError", 2: "UnexpectedError"}

FD_TABLE_MAX = 4096  # descriptors to make room for; the most that all our devices could use
USIZE_MAX = (1 << 64) - 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; its exit code."""
    log = Log(DEFAULT_ID)
    try:
        code = _run(sys.argv[1:] if words is None else words, log)
    except StartError as error:
        log.error(str(error))
        print(f"Error: {error.debug}", file=sys.stderr)
        code = error.code
    except Panic as error:
        abort(log, str(error))
    except Exception:  # our own mistake: leave traces and no half-dead machine
        import traceback

        abort(log, traceback.format_exc())
    if code is None:  # nothing has run
        return EXIT_OK
    say_exit(log, code)
    return code


def say_exit(log: Log, code: int) -> None:
    """The log's last line."""
    if code == EXIT_OK:
        log.info("Firecracker exiting successfully. exit_code=0")
    else:
        log.error(f"Firecracker exiting with error. exit_code={code}")


def abort(log: Log, reason: str) -> NoReturn:
    """End as a panic does: a word on standard error and in the log, then SIGABRT."""
    print(f"pyrovm-firecracker panicked: {reason}", file=sys.stderr, flush=True)
    log.error(f"Firecracker panicked: {reason}")
    os.abort()


def _run(words: Sequence[str], log: Log) -> int | None:
    """The exit code of a machine, None if only a question was answered.

    Raises:
        StartError, Panic: as their docstrings say.
    """
    arguments = begin(words, log)
    if arguments is None:
        return None

    from pyrovm.cli.firecracker_vmm import Vmm

    vmm = Vmm(_instance_id(arguments), log, version=VERSION)
    grow_fd_table()
    vmm.watch_signals()
    try:
        return _run_vmm(arguments, vmm)
    except StartError:
        raise
    except Exception:
        vmm.panicked()
        raise
    finally:
        vmm.close()


def begin(words: Sequence[str], log: Log) -> Arguments | None:
    """Read the command line and set up the log; None if only a question was asked.

    Raises:
        StartError, Panic: as their docstrings say.
    """
    try:
        arguments = parse_arguments(words)
    except ArgumentError as error:
        raise StartError(
            f"Arguments parsing error: {error} \\n\\nFor more information try --help.",
            f"ParseArguments({error.debug})",
            EXIT_ARGUMENTS,
        ) from None
    if _answer(arguments):
        return None
    log.set_instance_id(_instance_id(arguments))
    _configure_log(arguments, log)
    log.info(f"Running Firecracker v{VERSION}")
    return arguments


def make_ready(arguments: Arguments, vmm: Vmm) -> tuple[str, str]:
    """Everything before the loop runs; what a failure from then on is called, in two ways.

    Raises:
        StartError, Panic: as their docstrings say.
    """
    _configure_metrics(arguments, vmm)
    _refuse_filters(arguments)
    document = _read_file(
        arguments, "config-file", "Unable to open or read from the configuration file"
    )
    metadata = _read_file(
        arguments, "metadata", "Unable to open or read from the mmds content file"
    )
    payload_limit = _number(arguments, "http-api-max-payload-size", DEFAULT_PAYLOAD_LIMIT)
    vmm.boot_timer = arguments.has("boot-timer")
    vmm.enable_pci = arguments.has("enable-pci")
    if vmm.enable_pci:
        vmm.log.warn("--enable-pci: there is no PCI bus in this version, devices stay on MMIO")
    vmm.mmds_size_limit = _number(arguments, "mmds-size-limit", str(payload_limit))
    has_api = not arguments.has("no-api")
    if has_api:
        times = [
            None if arguments.get(flag) is None else _number(arguments, flag, "", "u64")
            for flag in ("start-time-us", "start-time-cpu-us", "parent-cpu-time-us")
        ]
        _open_api(arguments.get("api-sock") or DEFAULT_SOCKET, vmm, payload_limit)
        vmm.note_start_times(*times)
    kind, variant = ("RunWithApiError", "RunWithApi") if has_api else ("RunWithoutApiError",) * 2
    try:
        vmm.configure(document, metadata)
    except ConfigError as error:
        raise StartError(f"{kind} error: {error}", f"{variant}({error})") from None
    return kind, variant


def _run_vmm(arguments: Arguments, vmm: Vmm) -> int:
    kind, variant = make_ready(arguments, vmm)
    code = vmm.run()
    if code != EXIT_OK:
        name = EXIT_NAMES.get(code, str(code))
        raise StartError(
            f"{kind} error: MicroVM stopped with an error: {name}",
            f"{variant}(MicroVMStoppedWithError({name}))",
            code,
        )
    return code


# ------------------------------------------------------------------- arguments


def _answer(arguments: Arguments) -> bool:
    """Answer a question about the program; whether one was asked."""
    path = arguments.get("describe-snapshot")
    if arguments.has("help"):
        print(f"Firecracker v{VERSION}\n\n{help_text()}")
    elif arguments.has("version"):
        print(f"Firecracker v{VERSION}\n")
    elif arguments.has("snapshot-version"):
        from pyrovm.snapshot import state

        print(f"v{state.version_text(state.VERSION)}")
    elif path is not None:
        _describe_snapshot(path)
    else:
        return False
    return True


def _describe_snapshot(path: str) -> None:
    from pyrovm.snapshot import state

    what = "When printing Snapshot Data format: "
    try:
        version = state.read_version(path)
    except HostError as error:
        problem = str(error).removeprefix("Failed to open snapshot file: ")
        raise StartError(
            f"{what}Unable to open snapshot state file: {problem}",
            f"PrintSnapshotDataFormat(OpenSnapshot({problem}))",
        ) from None
    except SnapshotError as error:
        raise StartError(
            f"{what}Invalid data format version of snapshot file: {error}",
            f"PrintSnapshotDataFormat(SnapshotVersion({error}))",
        ) from None
    print(f"v{state.version_text(version)}")


def _instance_id(arguments: Arguments) -> str:
    value = arguments.get("id")
    if value is None:
        return DEFAULT_ID
    if not 1 <= len(value) <= MAX_ID:
        raise Panic(
            f"Invalid instance ID: Invalid len ({len(value)});  the length must be between 1 and "
            f"{MAX_ID}"
        )
    for position, char in enumerate(value):
        if char != "-" and not (char.isascii() and char.isalnum()):
            raise Panic(f"Invalid instance ID: Invalid char ({char}) at position {position}")
    return value


def _configure_log(arguments: Arguments, log: Log) -> None:
    flags = ("log-path", "level", "module", "show-level", "show-log-origin")
    if not any(arguments.has(flag) for flag in flags):
        return
    from pyrovm.config.logger import LoggerConfig, parse_level

    word = arguments.get("level")
    try:
        level = None if word is None else parse_level(word)
    except ConfigError:
        raise StartError(
            f"Invalid value for logger level: Failed to parse string to level filter: {word}."
            "Possible values: [Error, Warning, Info, Debug]",
            f'InvalidLogLevel(LevelFilterFromStrError("{word}"))',
            EXIT_BAD_CONFIGURATION,
        ) from None
    try:
        log.update(
            LoggerConfig(
                log_path=arguments.get("log-path"),
                level=level,
                show_level=True if arguments.has("show-level") else None,
                show_log_origin=True if arguments.has("show-log-origin") else None,
                module=arguments.get("module"),
            )
        )
    except ConfigError as error:
        raise StartError(
            f"Could not initialize logger: {error}", f"LoggerInitialization({error})"
        ) from None


def _configure_metrics(arguments: Arguments, vmm: Vmm) -> None:
    path = arguments.get("metrics-path")
    if path is None:
        return
    from pyrovm.config.metrics import MetricsConfig

    try:
        vmm.metrics.configure(MetricsConfig(metrics_path=path))
    except ConfigError as error:
        raise StartError(
            f"Could not initialize metrics: {error}", f"MetricsInitialization({error})"
        ) from None


def _refuse_filters(arguments: Arguments) -> None:
    """Compiled filters are another program's format."""
    path = arguments.get("seccomp-filter")
    if path is None:
        return
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        problem = "Filter deserialization failed: compiled filters are not part of this version"
    except OSError as error:
        problem = f"Filter file open failed: {os_error(error)}"
    raise StartError(f"Seccomp error: {problem}", f"SeccompFilter({problem})")


def _read_file(arguments: Arguments, flag: str, what: str) -> bytes | None:
    path = arguments.get(flag)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read()
        data.decode()
    except OSError as error:
        raise Panic(f"{what}: {os_error(error)}") from None
    except UnicodeDecodeError:
        raise Panic(f"{what}: stream did not contain valid UTF-8") from None
    return data


def _number(arguments: Arguments, flag: str, default: str, kind: str = "usize") -> int:
    text = arguments.get(flag) or default
    digits = text.removeprefix("+")
    if digits.isascii() and digits.isdigit() and len(digits) <= 20 and int(digits) <= USIZE_MAX:
        return int(digits)
    raise Panic(f"'{flag}' parameter expected to be of '{kind}' type.")


# --------------------------------------------------------------------- process


def grow_fd_table() -> None:
    """Have the kernel make the descriptor table large now, while there is one thread.

    With threads, each growth waits for a grace period: some 10 ms.
    """
    limit = min(os.sysconf("SC_OPEN_MAX"), FD_TABLE_MAX)
    if limit > 3:
        try:
            os.close(os.dup2(0, limit - 1, inheritable=False))
        except OSError:  # no standard input to duplicate: the table grows by itself, then
            pass


def _open_api(path: str, vmm: Vmm, payload_limit: int) -> None:
    from pyrovm.config.serde.text import quoted

    try:
        vmm.open_api(path, payload_limit)
    except HostError as error:
        problem = f"Failed to open the API socket at: {path}. Check that it is not already used."
        if error.errno != 98:
            problem = f"Failed to open the API socket: {error}"
        raise StartError(
            f"RunWithApiError error: {problem}", f"RunWithApi(FailedToBindSocket({quoted(path)}))"
        ) from None
    vmm.log.info(f"Listening on API socket ({quoted(path)}).")
    vmm.log.named("fc_api").info("API server started.")


if __name__ == "__main__":
    sys.exit(main())
