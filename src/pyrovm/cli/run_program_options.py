"""The options of ``pyrovm run PROGRAM``.  By hand: argparse would double the time to the start."""

from __future__ import annotations

import os

from pyrovm.config.size import size_mib
from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
usage: pyrovm run [OPTIONS] [--] PROGRAM [ARGUMENTS ...]
       pyrovm run --kernel K [options] [-- COMMAND ...]     (a Linux guest: --kernel=K --help)

Run one Linux program in a VM of its own, without a Linux kernel in it.  PROGRAM is an
image ('pyrovm image list'), or a program of this machine, of which an image is made on first
use: an ELF file, a script, a Python or C source file.  The program has our standard input,
output and error, and its exit status is ours.

options:
  --memory SIZE         at most so much memory (default 512M)
  --cpus N              vCPUs for its threads, 1 to 8 (default 1)
  -e, --env NAME=VALUE  set a variable of the environment; NAME alone takes ours
  -v, --volume HOST:GUEST[:ro]
                        let it use this folder of the host, at GUEST
  -p, --publish [HOST_IP:]HOST_PORT:GUEST_PORT[/udp]
                        let the host connect to a port of the program, at 127.0.0.1 if no
                        HOST_IP is given; port 0 lets the host choose
  --allow HOST[:PORT]   let the program connect there: a name, an address, CIDR, *.DOMAIN or *
  -w, --workdir FOLDER  start in this folder of the image
  --hostname NAME       (default pyrovm)
  --engine ENGINE       kvm, unicorn (an emulator: slow, needs no KVM), or auto: what there is
  --id NAME             let others find it: 'pyrovm ps' lists it, 'pyrovm fork NAME' copies it
  --timeout SECONDS     end it after that time, with status 124
  --trace               print its system calls on standard error
  --json                print how it went on standard error, as JSON
  -h, --help            print this

exit status: the program's; 128 + n where signal n has ended it; 124 after --timeout; 125 where
pyrovm itself failed; 126 where the image cannot be run.
"""

MIB = 1 << 20
DEFAULT_MEMORY = 512 * MIB
PV_CPU_MAX = 8  # abi.libos has it; not imported for one number
ENGINES = ("auto", "kvm", "unicorn")


class Options:
    """What was given."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.memory = DEFAULT_MEMORY
        self.cpus = 1
        self.env: dict[str, str] = {}
        self.workdir = ""
        self.hostname = "pyrovm"
        self.allow: list[str] = []
        self.publish: list[str] = []
        self.volumes: list[str] = []
        self.timeout: float | None = None
        self.engine = "auto"
        self.id = ""
        self.trace = self.json = False


def _memory(options: Options, value: str) -> None:
    options.memory = -(-size_mib(value) // 2) * 2 * MIB


def _cpus(options: Options, value: str) -> None:
    if not value.isdecimal() or not 1 <= int(value) <= PV_CPU_MAX:
        raise ConfigError(f"--cpus: {value!r} given; 1 to {PV_CPU_MAX} are allowed")
    options.cpus = int(value)


def _env(options: Options, value: str) -> None:
    name, equals, text = value.partition("=")
    if not name:
        raise ConfigError(f"--env: {value!r} given; NAME=VALUE or NAME is needed")
    if equals:
        options.env[name] = text
    elif name in os.environ:
        options.env[name] = os.environ[name]


def _workdir(options: Options, value: str) -> None:
    if not value.startswith("/"):
        raise ConfigError(f"--workdir: {value!r} given; an absolute path is needed")
    options.workdir = value


def _hostname(options: Options, value: str) -> None:
    if not 0 < len(value.encode()) <= 64:
        raise ConfigError(f"--hostname: {value!r} given; 1 to 64 bytes are needed")
    options.hostname = value


def _timeout(options: Options, value: str) -> None:
    try:
        options.timeout = float(value)
    except ValueError:
        options.timeout = None
    if options.timeout is None or not 0 < options.timeout < 1e9:
        raise ConfigError(f"--timeout: {value!r} given; seconds above 0 are needed")


def _engine(options: Options, value: str) -> None:
    if value not in ENGINES:
        raise ConfigError(f"--engine: {value!r} given; {', '.join(ENGINES)} are there")
    options.engine = value


def _id(options: Options, value: str) -> None:
    from pyrovm.programs.naming import check_name

    options.id = check_name(value)


def _allow(options: Options, value: str) -> None:
    options.allow.append(value)


def _publish(options: Options, value: str) -> None:
    options.publish.append(value)


def _volume(options: Options, value: str) -> None:
    options.volumes.append(value)


WITH_VALUE = {
    "--allow": _allow,
    "--publish": _publish,
    "--volume": _volume,
    "--memory": _memory,
    "--cpus": _cpus,
    "--engine": _engine,
    "--env": _env,
    "--workdir": _workdir,
    "--hostname": _hostname,
    "--id": _id,
    "--timeout": _timeout,
}
SWITCHES = {"--trace": "trace", "--json": "json"}
SHORT = {"-e": "--env", "-p": "--publish", "-v": "--volume", "-w": "--workdir", "-h": "--help"}


def parse(argv: Sequence[str]) -> Options | None:
    """The options; None where help was asked for and printed.

    Raises:
        ConfigError: an option is unknown or its value does not fit, or there is no program.
    """
    options = Options()
    words = list(argv)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if word[:2] in SHORT and word[1] != "-":
            name, equals, value = SHORT[word[:2]], "=" if len(word) > 2 else "", word[2:]
        if name == "--help":
            print(USAGE, end="")
            return None
        if name in SWITCHES and not equals:
            setattr(options, SWITCHES[name], True)
        elif name in WITH_VALUE:
            if not equals:
                if not words:
                    raise ConfigError(f"{name}: a value is needed")
                value = words.pop(0)
            WITH_VALUE[name](options, value)
        else:
            raise ConfigError(f"{word}: no such option; 'pyrovm run --help' lists them")
    if options.id and options.engine != "kvm":
        if options.engine == "unicorn":
            raise ConfigError(
                "--engine: 'unicorn' given; with --id, kvm is allowed: it can be copied"
            )
        options.engine = "kvm"
    if not words:
        raise ConfigError("a program or an image is needed; 'pyrovm run --help' tells more")
    options.command = words
    return options
