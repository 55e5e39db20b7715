import pytest

from pyrovm.errors import Unsupported
from pyrovm.guest import programs
from pyrovm.lab import Lab, LabError, Result


def result(status=0, stdout=b"", stderr=b""):
    return Result(status, stdout, stderr, {}, False, {}, "console")


def test_icount_is_for_one_cpu():
    with pytest.raises(LabError, match="cpus must be 1"):
        Lab(cpus=2, icount=0)


def test_a_lab_that_was_not_entered_says_so():
    with pytest.raises(LabError, match="with Lab"):
        Lab().run(["true"])


def test_without_qemu_the_message_says_how_to_get_it(monkeypatch, fresh_cache):
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(Unsupported, match=r"qemu-system-x86_64.*apt-get install .*qemu-system-x86"):
        Lab().__enter__()


def test_a_result_is_read_from_the_last_line():
    assert result(stdout=b"noise\n[1, 2]\n").json() == [1, 2]
    with pytest.raises(LabError, match="wrote nothing"):
        result().json()


def test_a_bad_status_raises_with_the_output():
    good = result()
    assert good.check() is good
    with pytest.raises(LabError, match=r"status 3 in the lab\nout(.|\n)*err(.|\n)*console"):
        result(3, b"out", b"err").json()
