"""Sizes as people write them."""

import pytest

from pyrovm.config.size import size_bytes, size_mib
from pyrovm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("128", 128),
        ("128M", 128),
        ("1g", 1024),
        ("1GiB", 1024),
        ("1.5G", 1536),
        ("2048k", 2),
        (" 256 MB ", 256),
        ("1T", 1 << 20),
    ],
)
def test_a_size_has_a_unit_or_counts_mib(text, mib):
    assert size_mib(text) == mib


def test_an_int_counts_mib():
    assert size_mib(64) == 64


@pytest.mark.parametrize(
    "text", ["", "M", "x", "-1M", "1.5.2G", "1P", "nan", "inf", "1e99G", "12 34"]
)
def test_what_is_no_size_is_refused_with_the_text(text):
    with pytest.raises(ConfigError) as caught:
        size_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", ["1k", "0", 0, -5, "1.0001M"])
def test_memory_is_a_positive_whole_number_of_mib(value):
    with pytest.raises(ConfigError, match="whole number of MiB"):
        size_mib(value)
