"""The command line: the user's words first, the machine's behind them, init's last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86.layout import CMDLINE_MAX
from pyrovm.boot.cmdline import DEFAULT, Cmdline, CmdlineError

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200)


def test_the_machines_words_come_between_the_kernels_and_inits():
    line = Cmdline("console=ttyS0 -- --verbose -- x")
    line.add("pci=off")
    line.add("root=/dev/vda ro")
    assert str(line) == "console=ttyS0 pci=off root=/dev/vda ro -- --verbose -- x"


def test_an_empty_line_grows_without_a_leading_space():
    line = Cmdline("")
    line.add("pci=off")
    assert bytes(line) == b"pci=off\0"


def test_dashes_without_spaces_are_a_word_like_any_other():
    line = Cmdline("a--b --c")
    line.add("pci=off")
    assert str(line) == "a--b --c pci=off"


def test_the_default_has_no_console():
    assert "console" not in DEFAULT
    assert str(Cmdline(DEFAULT)) == DEFAULT


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\0b", "\x7f", "grün", "\u2028"])
def test_only_printable_ascii_is_taken(text):
    with pytest.raises(CmdlineError, match=r"^The kernel command line is invalid"):
        Cmdline(text)


def test_the_line_fills_its_room_to_the_last_byte():
    line = Cmdline("x" * (CMDLINE_MAX - 1))
    assert len(bytes(line)) == CMDLINE_MAX
    with pytest.raises(CmdlineError, match="2049 bytes with its NUL, 2048 allowed"):
        Cmdline("x" * CMDLINE_MAX)


def test_what_is_added_counts():
    line = Cmdline("x" * (CMDLINE_MAX - 9))
    line.add("1234567")
    with pytest.raises(CmdlineError, match="invalid"):
        line.add("1")


@given(printable, st.lists(st.sampled_from(["pci=off", "root=/dev/vda rw", "a=b"]), max_size=5))
def test_no_word_of_the_user_is_lost(text, added):
    line = Cmdline(text)
    for words in added:
        line.add(words)
    user_kernel, separator, init = text.partition(" -- ")
    assert str(line).endswith(separator + init)
    words = str(line)[: len(str(line)) - len(separator + init)].split()
    assert words == user_kernel.split() + " ".join(added).split()
