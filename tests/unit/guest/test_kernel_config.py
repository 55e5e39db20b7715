import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.guest import kernel_config
from pyrovm.guest.kernel_config import FLAVOURS, merge, not_granted, parse, render

options = st.dictionaries(
    st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True),
    st.sampled_from(["y", "n", "100", '"a string"']),
)


@given(options)
def test_what_is_written_is_read_back(wanted):
    assert parse(render(wanted)) == wanted


@given(options, options)
def test_a_later_fragment_wins(first, second):
    assert merge([render(first), render(second)]) == {**first, **second}


def test_comments_and_other_lines_do_not_count():
    text = "# CONFIG_A is a nice thing\n# CONFIG_B is not set\n\n CONFIG_C=y \nD=y\n"
    assert parse(text) == {"B": "n", "C": "y"}


def test_what_a_kernel_does_not_grant_is_listed_with_what_it_has():
    final = {"A": "y", "B": "m"}
    requested = {"A": "y", "B": "y", "C": "y", "D": "n"}
    assert not_granted(requested, final) == ["B=y (is m)", "C=y (is n)"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_has_what_a_microvm_cannot_do_without(flavour):
    merged = merge(kernel_config.fragments(flavour))
    for name in ("64BIT", "KVM_GUEST", "PVH", "VIRTIO_BLK", "VIRTIO_NET", "SERIAL_8250_CONSOLE"):
        assert merged[name] == "y"
    assert merged.get("MODULES", "n") == "n"


@pytest.mark.parametrize("name", sorted({name for names in FLAVOURS.values() for name in names}))
def test_no_fragment_says_a_thing_twice(name):
    (text,) = [
        text
        for flavour, names in FLAVOURS.items()
        for fragment, text in zip(names, kernel_config.fragments(flavour), strict=True)
        if fragment == name
    ][:1]
    lines = [line for line in text.splitlines() if parse(line)]
    assert len(lines) == len(parse(text))


def test_every_flavour_is_described():
    assert kernel_config.ABOUT.keys() == FLAVOURS.keys()
