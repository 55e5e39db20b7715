"""The command line of ``firecracker``: its flags, its rules, its words.

Long options only, each value in the next word.  This is not argparse's language (no abbreviations,
no ``--flag=value``), and argparse alone would cost more than the whole start-up may.
"""

from __future__ import annotations

from pyrovm.config.serde.text import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Name of the value ("" for a switch), help.
FLAGS: dict[str, tuple[str, str]] = {
    "api-sock": ("path", "Unix socket of the API [default: /run/firecracker.socket]."),
    "id": ("id", "Name of the microVM [default: anonymous-instance]."),
    "config-file": ("path", "JSON document to configure the microVM from, which then starts."),
    "no-api": ("", "Do not open the API socket; needs --config-file."),
    "metadata": ("path", "JSON document to put into the metadata service."),
    "log-path": ("path", "File or FIFO for the log [default: standard output]."),
    "level": ("level", "Log level: Off, Error, Warning, Info, Debug or Trace [default: Info]."),
    "module": ("module", "Log only what comes from modules whose path begins with this."),
    "show-level": ("", "Show the level in log lines."),
    "show-log-origin": ("", "Show file and line in log lines."),
    "metrics-path": ("path", "File or FIFO for the metrics."),
    "seccomp-filter": ("path", "Compiled filter: refused, none can be used yet."),
    "no-seccomp": ("", "Accepted; there is no seccomp filter yet."),
    "http-api-max-payload-size": ("bytes", "Largest body of an API request [default: 51200]."),
    "mmds-size-limit": ("bytes", "Largest metadata store [default: that of a body]."),
    "boot-timer": ("", "Attach the device that logs how long the guest took to boot."),
    "enable-pci": ("", "Accepted with a warning; devices stay on MMIO."),
    "start-time-us": ("us", "When the process was started (monotonic clock)."),
    "start-time-cpu-us": ("us", "CPU time of the process when it was started."),
    "parent-cpu-time-us": ("us", "CPU time that the parent spent on starting it."),
    "version": ("", "Print the version."),
    "snapshot-version": ("", "Print the version of the snapshot format."),
    "describe-snapshot": ("path", "Print the version of a snapshot's state file."),
    "help": ("", "Print this help."),
}
REQUIRES = {"no-api": "config-file"}
FORBIDS = {"no-seccomp": "seccomp-filter", "seccomp-filter": "no-seccomp"}


class ArgumentError(Exception):
    """The command line is wrong; ``kind`` names the rule and ``names`` what broke it."""

    def __init__(self, kind: str, text: str, *names: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.names = names

    @property
    def debug(self) -> str:
        """The error as standard error shows it: ``UnexpectedArgument("x")``."""
        return f"{self.kind}({', '.join(quoted(name) for name in self.names)})"


class Arguments:
    """The flags given; a switch has an empty value."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def has(self, flag: str) -> bool:
        """Whether ``flag`` was given."""
        return flag in self._values

    def get(self, flag: str) -> str | None:
        """The value of ``flag``; None if it was not given."""
        return self._values.get(flag)


def parse_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line without the program's name; what follows a bare ``--`` is ignored.

    Raises:
        ArgumentError: a rule is broken.
    """
    words = list(words)
    if "--" in words:
        words = words[: words.index("--")]
    if "--help" in words or "-h" in words:
        return Arguments({"help": ""})
    if "--version" in words:
        return Arguments({"version": ""})
    values: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name = word.removeprefix("--")
        if name not in FLAGS or name == word:
            raise ArgumentError(
                "UnexpectedArgument",
                f"Found argument '{name}' which wasn't expected, or isn't valid in this context.",
                name,
            )
        if name in values:
            raise ArgumentError(
                "DuplicateArgument", f"The argument '{name}' was provided more than once.", name
            )
        value = ""
        if FLAGS[name][0]:
            found = next(rest, None)
            if found is None or found.startswith("--"):
                raise ArgumentError(
                    "MissingValue",
                    f"The argument '{name}' requires a value, but none was supplied.",
                    name,
                )
            value = found
        values[name] = value
    _check_combinations(values)
    return Arguments(values)


def _check_combinations(values: dict[str, str]) -> None:
    for name in sorted(values):
        needed = REQUIRES.get(name)
        if needed is not None and needed not in values:
            raise ArgumentError(
                "MissingArgument", f"Argument '{needed}' required, but not found.", needed
            )
        other = FORBIDS.get(name)
        if other is not None and other in values:
            raise ArgumentError(
                "ForbiddenArgument",
                f"Argument '{other}' cannot be used together with argument '{name}'.",
                name,
                other,
            )


def help_text() -> str:
    """All flags, one per line."""
    lines = []
    for name, (value, text) in FLAGS.items():
        flag = f"--{name} <{value}>" if value else f"--{name}"
        lines.append(f"  {flag:<36} {text}")
    return "\n".join(lines)
