import pytest

from pyrovm.errors import ConfigError
from pyrovm.guest import kernels

pytestmark = pytest.mark.usefixtures("fresh_cache")


def add(name, flavour="full", **files):
    made = kernels.home() / f"making-{name}"
    made.mkdir()
    for file, data in {"vmlinux": b"ELF", **files}.items():
        (made / file).write_bytes(data)
    return kernels.add(made, name, flavour=flavour, release="6.1", source="linux 6.1", key="k")


def test_a_kernel_is_found_by_name_by_flavour_and_by_alias():
    older, newer, debian = add("full-1"), add("full-2"), add("debian-6", "debian")
    assert kernels.find("full-1") == older
    assert kernels.find("full") == kernels.find("lean") == newer
    assert kernels.get("cloud") == debian
    assert [kernel.name for kernel in kernels.installed()] == ["debian-6", "full-2", "full-1"]
    assert newer.vmlinux.read_bytes() == b"ELF"
    assert newer.modules is None


def test_a_kernel_takes_the_place_of_one_with_its_name():
    add("full-1", vmlinux=b"old", config=b"old")
    kernel = add("full-1", vmlinux=b"new")
    assert kernel.vmlinux.read_bytes() == b"new"
    assert not kernel.config.exists()
    assert len(kernels.installed()) == 1


def test_a_folder_without_a_record_is_no_kernel():
    (kernels.home() / "half-made").mkdir()
    (kernels.home() / "odd").mkdir()
    (kernels.home() / "odd" / kernels.RECORD).write_text('{"what": "is this"}')
    assert kernels.installed() == []


@pytest.mark.parametrize(
    ("name", "how"),
    [("debian", "fetch"), ("cloud", "fetch"), ("lean", "build full"), ("serverless", "build s")],
)
def test_a_kernel_that_is_not_there_comes_with_the_way_to_get_it(name, how):
    with pytest.raises(ConfigError, match=f"try: pyrovm kernel {how}"):
        kernels.get(name)


def test_a_removed_kernel_is_gone():
    kernel = add("full-1")
    assert kernels.remove("full").name == "full-1"
    assert not kernel.folder.exists()
    with pytest.raises(ConfigError):
        kernels.remove("full")
