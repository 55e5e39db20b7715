"""``pyrovm.function``: Python functions in VMs, from which only data comes back."""

import asyncio
import datetime
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import pyrovm
from pyrovm.errors import ConfigError, HostError
from pyrovm.programs.helper import HELPERS
from tests.fakes import program_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

PATIENCE = 60  # seconds; the machine may be busy
FACTOR = 3


class Scale:
    """Used by functions below, so it goes with them."""

    def __init__(self, factor):
        self.factor = factor

    def of(self, value):
        return value * self.factor


def helper(value):
    return Scale(FACTOR).of(value)


@pyrovm.function(timeout=PATIENCE)
def everything(*args, **kwargs):
    return args, kwargs


@pyrovm.function(timeout=PATIENCE)
def scaled(text, *, offset=0):
    return [helper(each) + offset for each in json.loads(text)]


@pyrovm.function(timeout=PATIENCE)
def act(how):
    """What functions do that give no result."""
    import ctypes
    import signal

    match how:
        case "raise":
            raise ValueError("as it was\ntold to")
        case "exit":
            sys.exit(3)
        case "_exit":
            os._exit(9)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            ctypes.string_at(0)
        case "object":
            return [0, {"x": act}]
        case "recurse":
            return act_again()
        case "long":
            return b"x" * (65 << 20)
        case "lie":
            sys.stdout.flush()
            for fd in range(3, 20):
                try:
                    os.write(fd, b"pvm1" + b"\xff" * 60)
                except OSError:
                    continue
            os._exit(0)
        case "memory":
            return len(bytearray(1 << 30))
        case "unprintable":

            class Odd(Exception):
                def __str__(self):
                    raise RuntimeError

            raise Odd


def act_again():
    return act_again()


def test_arguments_and_results_are_data_of_many_kinds():
    values = [
        *(
            None,
            True,
            2**70,
            1.5,
            "ä\ud800",
            b"\x00\xff",
            [1, (2, {3})],
            {"k": {1: [2]}, (1, 2): 3},
        ),
        *(frozenset({1}), bytearray(b"x"), 1j, datetime.timedelta(1, 2, 3)),
        *(datetime.date(2020, 2, 29), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
    ]
    assert everything(*values, a=values) == (tuple(values), {"a": values})


def test_what_the_function_uses_goes_along():
    assert scaled("[1, 2]", offset=1) == [4, 7]


def test_a_function_within_a_function_sees_what_is_around_it():
    around = {"a": 1}

    @pyrovm.function
    async def inner(key):
        return around[key], os.getpid(), os.path.exists(__file__)

    value, pid, is_here = inner("a")
    assert (value, is_here) == (1, False)
    assert pid != os.getpid()


def test_prints_go_to_standard_error(capfd):
    @pyrovm.function
    def talk():
        print("to the user")
        subprocess_output = sys.stdout.write("more\n")
        return subprocess_output

    assert talk() == 5
    out, err = capfd.readouterr()
    assert (out, err) == ("", "to the user\nmore\n")


def test_an_exception_comes_back_as_text():
    with pytest.raises(pyrovm.FunctionError) as caught:
        act("raise")
    error = caught.value
    assert (error.type, error.message) == ("ValueError", "as it was\ntold to")
    line = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "told to" in text
    )
    assert f'File "{__file__}", line {line}, in act' in error.traceback
    assert 'raise ValueError("as it was' in error.traceback
    assert "<pyrovm>" not in error.traceback
    assert error.traceback in str(error)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "SystemExit: 3"),
        ("_exit", "act ended with status 9 and without a result"),
        ("kill", "act ended with signal 9 and without a result"),
        ("crash", "act ended with signal 11 and without a result"),
        ("object", r"the result\[1\]\['x'\]: builtins.function cannot be passed"),
        ("recurse", "RecursionError"),
        ("long", r"act has a result of more than 67108864 bytes \(max_result\)"),
        ("lie", "act has sent no result: "),
        ("memory", "MemoryError|signal 9"),
        ("unprintable", "Odd"),
    ],
)
def test_what_gives_no_result_is_an_error_that_says_why(how, words):
    with pytest.raises(pyrovm.FunctionError, match=words):
        act(how)


def test_a_call_that_takes_too_long_is_ended():
    @pyrovm.function(timeout=1)
    def spin():
        while True:
            pass

    with pytest.raises(pyrovm.FunctionTimeout, match=r"spin took longer than 1 s"):
        spin()
    with pytest.raises(TimeoutError):
        spin()


def test_arguments_that_cannot_be_passed_are_named():
    with pytest.raises(TypeError, match=r"scaled\(\): the argument 'text': .*object"):
        scaled(object())
    with pytest.raises(TypeError, match=r"scaled\(\): the argument 'offset'\[0\]"):
        scaled("", offset=[print])
    with pytest.raises(TypeError, match=r"everything\(\): the argument 'x'"):
        everything(1, x=print)
    with pytest.raises(TypeError, match="missing a required argument: 'text'"):
        scaled()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "lots"}, "lots"),
        ({"cpus": 0}, "cpus: 0"),
        ({"max_result": "-1"}, "-1"),
        ({"requirements": ["-r other.txt"]}, "-r other.txt"),
    ],
)
def test_options_that_do_not_fit_are_named(options, words):
    def empty():
        pass

    with pytest.raises(ConfigError, match=words):
        pyrovm.function(**options)(empty)()


def test_large_arguments_and_results():
    data = os.urandom(30 << 20)

    @pyrovm.function(timeout=PATIENCE)
    def turned(data):
        return data[::-1]

    assert turned(data) == data[::-1]


def test_map_gives_results_in_order_and_takes_no_more_than_it_needs():
    taken = []

    def inputs():
        for number in range(100):
            taken.append(number)
            yield f"[{number}]"

    results = scaled.map(inputs(), workers=2)
    assert [next(results), next(results)] == [[0], [3]]
    assert len(taken) < 10
    results.close()
    assert list(everything.map([1, 2, 3], "ab")) == [((1, "a"), {}), ((2, "b"), {})]


def test_an_error_in_a_map_ends_the_others():
    @pyrovm.function
    def wait(seconds):
        time.sleep(seconds)
        return 1 // seconds

    with pytest.raises(pyrovm.FunctionError, match="ZeroDivisionError"):
        list(wait.map([0, 1000, 1000], workers=3))  # much longer than tests have patience


def test_calls_with_asyncio_and_their_end():
    async def several():
        return await asyncio.gather(*(scaled.acall(f"[{n}]") for n in range(3)))

    assert asyncio.run(several()) == [[0], [3], [6]]

    @pyrovm.function
    def sleep():
        time.sleep(1000)

    async def cancelled():
        await asyncio.wait_for(sleep.acall(), 1)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(cancelled())
    deadline = time.monotonic() + PATIENCE
    children = Path(f"/proc/{HELPERS.pid}/task/{HELPERS.pid}/children")
    while len(children.read_text().split()) > 1:  # one waits for the next call
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wheel(folder):
    """A package that nobody else has."""
    path = folder / "pyrovm_test_package-1.0-py3-none-any.whl"
    info = "pyrovm_test_package-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pyrovm_test_package.py", "ANSWER = 42\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: pyrovm-test-package\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_a_function_has_the_packages_that_it_requires(tmp_path):
    @pyrovm.function(requirements=(str(wheel(tmp_path)),), timeout=PATIENCE)
    def answer():
        import pyrovm_test_package

        return pyrovm_test_package.ANSWER

    assert answer() == 42
    assert answer() == 42


def test_a_package_that_cannot_be_installed_is_named(tmp_path):
    @pyrovm.function(requirements=(f"{tmp_path}/nosuchpackage.whl",))
    def answer():
        pass

    with pytest.raises(HostError, match="nosuchpackage"):
        answer()


def test_functions_of_a_program_started_by_its_name(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """\
import pyrovm

def double(value):
    return 2 * value

@pyrovm.function
def run(value):
    return double(value), __name__

print(run(21))
"""
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "(42, '__main__')\n"
