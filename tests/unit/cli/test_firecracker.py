"""``pyrovm-firecracker`` as a process: what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from pyrovm.snapshot.state import VERSION, version_text
from tests.fakes.vmm_process import TIMEOUT, run

UNEXPECTED = "Found argument '{}' which wasn't expected, or isn't valid in this context."
NO_VALUE = "The argument 'id' requires a value, but none was supplied."


# ------------------------------------------------------------------- questions


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Firecracker v1.17.0-dev\n\n", "")


def test_snapshot_version():
    done = run("--snapshot-version")
    assert (done.returncode, done.stdout) == (0, f"v{version_text(VERSION)}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_flag_and_wins_over_everything(flag):
    done = run("--nonsense", flag, "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("Firecracker v1.17.0-dev\n")
    for name in ("api-sock <path>", "no-api", "http-api-max-payload-size <bytes>", "enable-pci"):
        assert f"  --{name} " in done.stdout


def test_version_wins_over_mistakes():
    assert run("--nonsense", "--version").returncode == 0


def test_describing_a_snapshot_that_is_not_there(tmp_path):
    done = run("--describe-snapshot", str(tmp_path / "none"))
    assert done.returncode == 1
    assert (
        "When printing Snapshot Data format: Unable to open snapshot state file: No such file or "
        "directory (os error 2)"
    ) in done.stdout


# -------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "text", "debug"),
    [
        (["foo"], UNEXPECTED.format("foo"), 'UnexpectedArgument("foo")'),
        (["--foo"], UNEXPECTED.format("foo"), 'UnexpectedArgument("foo")'),
        (["-x"], UNEXPECTED.format("-x"), 'UnexpectedArgument("-x")'),
        (["--id=a"], UNEXPECTED.format("id=a"), 'UnexpectedArgument("id=a")'),
        (["--id"], NO_VALUE, 'MissingValue("id")'),
        (["--id", "--no-api"], NO_VALUE, 'MissingValue("id")'),
        (
            ["--id", "a", "--id", "b"],
            "The argument 'id' was provided more than once.",
            'DuplicateArgument("id")',
        ),
        (
            ["--no-api"],
            "Argument 'config-file' required, but not found.",
            'MissingArgument("config-file")',
        ),
        (
            ["--no-seccomp", "--seccomp-filter", "x"],
            "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.",
            'ForbiddenArgument("no-seccomp", "seccomp-filter")',
        ),
    ],
)
def test_a_wrong_command_line(arguments, text, debug):
    done = run(*arguments)
    assert done.returncode == 153
    assert f"Arguments parsing error: {text} \\n\\nFor more information try --help." in done.stdout
    assert "Firecracker exiting with error. exit_code=153" in done.stdout
    assert done.stderr == f"Error: ParseArguments({debug})\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--id", "a_b"], "Invalid instance ID: Invalid char (_) at position 1"),
        (
            ["--id", ""],
            "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64",
        ),
        (["--id", "x" * 65], "Invalid instance ID: Invalid len (65)"),
        (["--config-file", "/none"], "Unable to open or read from the configuration file: No such"),
        (["--metadata", "/none"], "Unable to open or read from the mmds content file: No such"),
        (
            ["--http-api-max-payload-size", "x"],
            "'http-api-max-payload-size' parameter expected to be of 'usize' type.",
        ),
        (
            ["--mmds-size-limit", "-1"],
            "'mmds-size-limit' parameter expected to be of 'usize' type.",
        ),
        (["--start-time-us", "1.5"], "'start-time-us' parameter expected to be of 'u64' type."),
    ],
)
def test_misuses_that_end_in_an_abort(arguments, text, tmp_path):
    done = run("--api-sock", str(tmp_path / "s"), *arguments)
    assert done.returncode == -signal.SIGABRT
    assert text in done.stderr
    assert f"Firecracker panicked: {text}" in done.stdout


def test_a_wrong_level_is_bad_configuration():
    done = run("--level", "loud")
    assert done.returncode == 152
    assert "Invalid value for logger level: Failed to parse string to level filter: loud." in (
        done.stdout
    )
    assert 'InvalidLogLevel(LevelFilterFromStrError("loud"))' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--log-path", "/none/log"], "Could not initialize logger: Failed to open target file: "),
        (["--metrics-path", "/none/m"], "Could not initialize metrics: Cannot initialize the metr"),
        (["--seccomp-filter", "/none"], "Seccomp error: "),
        (["--api-sock", "/none/api.sock"], "Failed to open the API socket"),
    ],
)
def test_sinks_and_sockets_that_cannot_be_opened(arguments, text):
    done = run(*arguments)
    assert done.returncode == 1
    assert text in done.stdout
    assert done.stderr.startswith("Error: ")


def test_a_socket_that_is_taken(tmp_path):
    path = tmp_path / "api.sock"
    path.touch()
    done = run("--api-sock", str(path))
    assert done.returncode == 1
    assert (
        f"Failed to open the API socket at: {path}. Check that it is not already used."
    ) in done.stdout


# --------------------------------------------------------------------- the API


def test_the_api_answers_as_the_command_line_says(start):
    process = start("--id", "vm-7", "--http-api-max-payload-size", "250")
    assert "[vm-7:main] Running Firecracker v1.17.0-dev\n" in process.log
    assert f'[vm-7:main] Listening on API socket ("{process.socket}").\n' in process.log
    assert "[vm-7:fc_api] API server started.\n" in process.log
    assert '{"id":"vm-7","state":"Not started",' in process.request("GET", "/")
    too_long = process.request("PUT", "/mmds", "x" * 258)
    assert "payload with size 260 is larger than the limit of 250" in too_long
    assert process.end() == -signal.SIGTERM
    assert os.path.exists(process.socket)  # it is left behind, as ever


def test_the_store_may_be_smaller_than_a_request(start):
    process = start("--mmds-size-limit", "9")
    assert "HTTP/1.1 204 " in process.request("PUT", "/mmds", "x" * 7)
    assert "HTTP/1.1 413 " in process.request("PUT", "/mmds", "x" * 8)


def test_words_after_a_bare_double_dash_are_ignored(start):
    assert start("--", "--nonsense", "x").end() == -signal.SIGTERM


def test_the_log_and_the_metrics_go_where_the_flags_say(start, tmp_path):
    log, metrics = str(tmp_path / "log"), str(tmp_path / "metrics")
    os.mkfifo(log)
    log_fd = os.open(log, os.O_RDWR)
    process = start(
        *("--log-path", log, "--level", "debug", "--show-level", "--show-log-origin"),
        *("--metrics-path", metrics),
        *("--start-time-us", "1", "--start-time-cpu-us", "0", "--parent-cpu-time-us", "1000"),
        log_fd=log_fd,
    )
    reply = process.request("PUT", "/metrics", {"metrics_path": str(tmp_path / "other")})
    assert "Reinitialization of metrics not allowed." in reply
    assert process.end(signal.SIGHUP) == 156
    process.wait_for("exit_code=156")
    os.close(log_fd)
    origin = r"\[anonymous-instance:main:INFO:\S+\.py:\d+\] Running Firecracker"
    assert re.search(origin, process.log)
    assert "Shutting down VM after intercepting signal 1, code 0." in process.log
    with open(metrics) as file:
        line = json.loads(file.read())
    assert line["signals"]["sighup"] == 1
    assert line["put_api_requests"]["metrics_count"] == 1
    assert line["api_server"]["process_startup_time_us"] > 0
    assert line["api_server"]["process_startup_time_cpu_us"] >= 1000


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGSYS, 148),
        (signal.SIGBUS, 149),
        (signal.SIGSEGV, 150),
        (signal.SIGXFSZ, 151),
        (signal.SIGXCPU, 154),
        (signal.SIGHUP, 156),
        (signal.SIGILL, 157),
    ],
)
def test_signals_have_codes_of_their_own(start, number, code):
    process = start()
    assert process.end(number) == code
    assert f"Shutting down VM after intercepting signal {int(number)}, code 0." in process.log
    assert f"Firecracker exiting with error. exit_code={code}" in process.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_plain_signals_do_what_they_always_do(start, number):
    assert start().end(number) == -number


def test_a_broken_pipe_is_survived(start):
    process = start()
    process.process.send_signal(signal.SIGPIPE)
    process.wait_for("Received signal 13, code 0.")
    assert " 200 " in process.request("GET", "/")


def test_a_failed_load_ends_with_1_after_the_answer(start):
    process = start()
    body = {"snapshot_path": "a", "mem_backend": {"backend_type": "File", "backend_path": "b"}}
    assert "Load snapshot error: " in process.request("PUT", "/snapshot/load", body)
    assert process.finish() == 1
    assert "Error: RunWithApi(" in process.errors
    assert "Firecracker exiting with error. exit_code=1" in process.log


def test_metadata_is_there_from_the_start(start, tmp_path):
    (tmp_path / "meta").write_text('{"b":1,"a":[]}')
    process = start("--metadata", str(tmp_path / "meta"))
    process.wait_for("Successfully added metadata to mmds from file")
    assert process.request("GET", "/mmds").endswith('{"a":[],"b":1}')


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        ("{", [], -signal.SIGABRT, "MMDS error: metadata provided not valid json"),
        (
            '{"a":1}',
            ["--mmds-size-limit", "3"],
            1,
            "Populating MMDS from file failed: The MMDS patch request doesn't fit.",
        ),
    ],
)
def test_metadata_that_cannot_be(tmp_path, text, arguments, code, message):
    (tmp_path / "meta").write_text(text)
    done = run("--api-sock", str(tmp_path / "s"), "--metadata", str(tmp_path / "meta"), *arguments)
    assert done.returncode == code
    assert message in done.stdout


@pytest.mark.parametrize(("limit", "panics"), [("2", 0), ("x", 1)])
def test_a_panic_is_counted_and_a_refusal_is_none(tmp_path, limit, panics):
    (tmp_path / "meta").write_text('{"a":1}')
    run(
        *("--api-sock", str(tmp_path / "s"), "--metrics-path", str(tmp_path / "metrics")),
        *("--metadata", str(tmp_path / "meta"), "--mmds-size-limit", limit),
    )
    assert json.loads((tmp_path / "metrics").read_text())["vmm"]["panic_count"] == panics


# ----------------------------------------------------------------- config file


@pytest.mark.parametrize("no_api", [[], ["--no-api"]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "Configuration for VMM from one single json failed: Invalid JSON: missing field"),
        (
            '{"boot-source":{"kernel_image_path":"/none"},"drives":[]}',
            "Configuration for VMM from one single json failed: Boot source error: The kernel file",
        ),
        (
            '{"boot-source":{"kernel_image_path":"{file}"},"drives":[]}',
            "Could not Start MicroVM from one single json: ",
        ),
    ],
)
def test_a_config_file_that_makes_no_machine_ends_with_1(tmp_path, no_api, text, message):
    path = tmp_path / "vm.json"
    path.write_text(text.replace("{file}", str(path)))
    done = run("--api-sock", str(tmp_path / "s"), "--config-file", str(path), *no_api)
    assert done.returncode == 1
    assert f"Failed to build MicroVM from Json: {message}" in done.stdout
    assert done.stderr.startswith("Error: RunWith")
    assert ((tmp_path / "s").exists()) == (not no_api)


# -------------------------------------------------------------------- start-up

EAGER = {
    "pyrovm",
    "pyrovm.api",
    "pyrovm.api.http",
    "pyrovm.api.server",
    "pyrovm.cli",
    "pyrovm.cli.firecracker",
    "pyrovm.cli.firecracker_args",
    "pyrovm.cli.firecracker_errors",
    "pyrovm.cli.firecracker_signals",
    "pyrovm.cli.firecracker_vmm",
    "pyrovm.config",
    "pyrovm.config.serde",
    "pyrovm.config.serde.text",
    "pyrovm.errors",
    "pyrovm.host",
    "pyrovm.host.eventfd",
    "pyrovm.host.signals",
    "pyrovm.machine",
    "pyrovm.machine.log",
    "pyrovm.machine.loop",
}
HEAVY = {
    *("dataclasses", "typing", "enum", "re", "socket", "threading", "signal", "logging"),
    *("argparse", "collections", "pathlib", "subprocess", "asyncio", "ctypes", "json", "inspect"),
}


def test_only_what_opens_the_socket_is_imported_before_it_is_open(tmp_path):
    code = (
        "import sys\n"
        f"sys.path.insert(0, {os.path.abspath('src')!r})\n"
        "from pyrovm.cli import firecracker as f, firecracker_vmm as v\n"
        "def run(self):\n"
        "    print('modules', *sys.modules)\n"
        "    return 0\n"
        "v.Vmm.run = run\n"
        f"sys.exit(f.main(['--api-sock', {str(tmp_path / 'api.sock')!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    modules = set(next(line for line in done.stdout.splitlines() if "modules" in line).split()[1:])
    assert {name for name in modules if name.startswith("pyrovm")} == EAGER
    assert modules & HEAVY == set()


@pytest.mark.parametrize("configured", [False, True])
def test_an_idle_vmm_gets_ready_for_a_load_as_well_until_it_is_configured(tmp_path, configured):
    code = (
        "import sys\n"
        f"sys.path.insert(0, {os.path.abspath('src')!r})\n"
        "from pyrovm.cli import firecracker as f, firecracker_vmm as v\n"
        "def run(self):\n"
        "    from pyrovm.config.entropy import EntropyConfig\n"
        f"    if {configured}:\n"
        "        self.controller.set_entropy(EntropyConfig())\n"
        "    for _ in range(200):\n"
        "        self.loop.run_once(0.005)\n"
        "    print('modules', *sys.modules)\n"
        "    return 0\n"
        "v.Vmm.run = run\n"
        f"sys.exit(f.main(['--api-sock', {str(tmp_path / 'api.sock')!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    modules = next(line for line in done.stdout.splitlines() if "modules" in line).split()
    assert "pyrovm.machine.assembly" in modules
    assert ("pyrovm.machine.loading" in modules) is not configured
