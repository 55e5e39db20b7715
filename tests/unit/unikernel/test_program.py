"""What a program is given, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError
from pyrovm.unikernel.program import Program

WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def strings_at(blob, offset, count):
    return [word.decode() for word in blob[offset:].split(b"\0")[:count]]


@given(WORD, st.lists(WORD), st.dictionaries(WORD, WORD))
def test_the_boot_information_points_to_the_strings(exe, argv, env):
    program = Program("image", exe, argv, env, cwd="/w", hostname="h")
    blob = program.strings()
    boot = abi.pv_boot()
    program.fill(boot)
    assert strings_at(blob, boot.exe_offset, 1) == [exe]
    assert strings_at(blob, boot.cwd_offset, 1) == ["/w"]
    assert strings_at(blob, boot.hostname_offset, 1) == ["h"]
    assert (boot.argc, boot.envc) == (len(argv), len(env))
    assert strings_at(blob, boot.argv_offset, boot.argc) == argv
    assert strings_at(blob, boot.env_offset, boot.envc) == [f"{k}={v}" for k, v in env.items()]


@pytest.mark.parametrize("memory", [0, 4 << 20, (64 << 20) + 4096])
def test_memory_that_cannot_be_is_refused(memory):
    with pytest.raises(ConfigError, match="memory: "):
        Program("image", "/x", [], {}, memory=memory)


def test_a_nul_in_an_argument_is_refused():
    with pytest.raises(ConfigError, match="NUL"):
        Program("image", "/x", ["a\0b"], {}).strings()


def test_too_long_arguments_are_refused():
    with pytest.raises(ConfigError, match="262144 are allowed"):
        Program("image", "/x", ["a" * (256 << 10)], {}).strings()
