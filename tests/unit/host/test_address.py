"""The address of a mapping is the one that ctypes knows, by either way."""

import mmap
import os

import pytest

from pyrovm.host import address
from pyrovm.host.libc import address_of


@pytest.fixture(params=[4096, 3 << 20])
def memory(request):
    with mmap.mmap(-1, request.param) as made:
        yield made


def test_the_address_is_right(memory):
    assert address.address_of_mapping(memory) == address_of(memory)


def test_without_proc_ctypes_is_asked(memory, monkeypatch):
    def no_proc(*_):
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", no_proc)
    assert address.address_of_mapping(memory) == address_of(memory)


def test_what_does_not_look_like_a_mapping_is_not_believed(memory, monkeypatch):
    monkeypatch.setattr(address, "_HEADER_SIZE", 24)
    assert address.address_of_mapping(memory) == address_of(memory)
