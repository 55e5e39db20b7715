"""Host memory: what is there when a part was given back, and parts of mappings."""

import pytest

from pyrovm.host import mapping

PAGE = 4096


@pytest.fixture
def file(tmp_path):
    with open(tmp_path / "file", "w+b") as made:
        made.write(b"a" * 4 * PAGE)
        made.flush()
        yield made


def private(file):
    return mapping.file(file.fileno(), 4 * PAGE, shared=False)


@pytest.mark.parametrize("make", [mapping.anonymous, mapping.memfd])
def test_what_is_given_back_reads_as_zeros(make):
    memory = make(4 * PAGE)
    memory.view[:] = b"x" * 4 * PAGE
    memory.discard(PAGE, 2 * PAGE)
    assert bytes(memory.view) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
    memory.close()


def test_what_is_given_back_of_a_private_file_does_not_come_again_from_the_file(file):
    memory = private(file)
    memory.view[PAGE : PAGE + 1] = b"b"
    memory.discard(PAGE, 2 * PAGE)
    assert bytes(memory.view) == b"a" * PAGE + bytes(2 * PAGE) + b"a" * PAGE
    memory.view[PAGE : PAGE + 1] = b"c"
    assert memory.view[PAGE] == ord("c")
    memory.close()
    file.seek(0)
    assert file.read() == b"a" * 4 * PAGE


def test_untouched_pages_are_of_known_origin(file):
    shared = mapping.memfd(PAGE)
    anonymous = mapping.anonymous(PAGE)
    of_file = private(file)
    assert [each.origin for each in (shared, anonymous, of_file)] == [
        *("shared", "anonymous", "private")
    ]
    assert of_file.base == (file.fileno(), 0)
    for each in (shared, anonymous, of_file):
        each.close()


def test_a_part_lives_longer_than_its_whole():
    whole = mapping.anonymous(4 * PAGE)
    part = whole.part(PAGE, 2 * PAGE)
    part.view[0] = 7
    assert (whole.view[PAGE], part.address, part.size) == (7, whole.address + PAGE, 2 * PAGE)
    whole.close()
    assert part.view[0] == 7
    part.discard(0, PAGE)
    assert part.view[0] == 0
    part.close()
