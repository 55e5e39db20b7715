import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.guest import demo


@given(st.text(min_size=1))
def test_any_command_goes_through_the_kernel_command_line(script):
    (word,) = demo.boot_args(script).split(" ")
    name, _, value = word.partition("=")
    assert name == "pyrovm.cmd"
    assert base64.b64decode(value).decode() == script


def test_words_are_quoted_for_the_shell():
    word = demo.boot_args(["echo", "a b", "$HOME"]).removeprefix("pyrovm.cmd=")
    assert base64.b64decode(word) == b"echo 'a b' '$HOME'"


def test_addresses_are_given_as_the_kernel_takes_them():
    words = demo.boot_args(address="10.0.0.2", gateway="10.0.0.1", dns="9.9.9.9").split()
    assert words == ["ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off", "pyrovm.dns=9.9.9.9"]
    assert demo.boot_args() == ""


@pytest.mark.parametrize(
    ("console", "status"),
    [
        ("boot\r\npyrovm-guest: exit status 7\r\n[  1.0] reboot\r\n", 7),
        ("pyrovm-guest: exit status 0\n", 0),
        ("it says pyrovm-guest: exit status 3\n", None),
        ("", None),
    ],
)
def test_the_status_is_read_from_the_console(console, status):
    assert demo.exit_status(console) == status
