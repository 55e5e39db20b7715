import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.guest import programs
from pyrovm.image import ldcache

NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20)


@given(st.dictionaries(NAMES, NAMES, max_size=20))
def test_what_is_written_is_read_back(libraries):
    found = ldcache.parse(ldcache.encode(libraries))
    assert found == {name: [path] for name, path in libraries.items()}


@given(st.binary(max_size=300), st.integers(0, 200))
def test_damage_is_refused_or_harmless(noise, at):
    whole = ldcache.encode({"libc.so.6": "/lib/libc.so.6", "libm.so.6": "/lib/libm.so.6"})
    for data in (noise, whole[:at] + noise, ldcache.OLD_MAGIC + noise + whole):
        try:
            ldcache.parse(data)
        except ldcache.CacheError:
            continue


def test_numbers_in_names_are_compared_by_value():
    names = ["libx.so.10", "libx.so.9", "libx.so", "liba.so.1", "libx9.so", "libx10.so"]
    ordered = ldcache.parse(ldcache.encode(dict.fromkeys(names, "/")))
    assert list(ordered) == [
        "libx10.so",
        "libx9.so",
        "libx.so.10",
        "libx.so.9",
        "libx.so",
        "liba.so.1",
    ]


@pytest.mark.skipif(not os.path.exists("/etc/ld.so.cache"), reason="no glibc")
def test_the_order_is_that_of_ldconfig():
    data = Path("/etc/ld.so.cache").read_bytes()
    found = {name: paths[0] for name, paths in ldcache.parse(data).items()}
    assert found
    again = ldcache.parse(ldcache.encode(found))
    assert list(again) == list(found)


@pytest.mark.skipif(programs.find("ldconfig") is None, reason="no ldconfig")
def test_ldconfig_reads_what_is_written(tmp_path):
    (tmp_path / "cache").write_bytes(ldcache.encode({"libx.so.1": "/opt/libx.so.1"}))
    words = [programs.find("ldconfig"), "-p", "-C", tmp_path / "cache"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "libx.so.1 (libc6,x86-64) => /opt/libx.so.1" in said
