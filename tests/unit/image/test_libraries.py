import subprocess

import pytest

from pyrovm.errors import ConfigError
from pyrovm.image.libraries import Libraries
from pyrovm.image.tree import Tree
from tests.unit.image.elves import elf

LOADER = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture
def tree():
    """An image with a loader of its own, so that nothing depends on the host's."""
    made = Tree()
    made.add_file(LOADER, elf(soname="ld-linux-x86-64.so.2"), "test")
    made.add_file("/etc/ld.so.cache", b"", "test")
    return made


def put(tree, path, **fields):
    tree.add_file(path, elf(**fields), "test", executable=True)
    return path


def program(tree, path="/bin/program", **fields):
    return put(tree, path, interpreter=LOADER, **fields)


def test_libraries_of_libraries_are_found_in_default_folders(tree):
    put(tree, "/usr/lib/libb-test.so.1", soname="libb-test.so.1")
    put(tree, "/lib64/liba-test.so.1", soname="liba-test.so.1", needed=["libb-test.so.1"])
    libraries = Libraries(tree)
    libraries.add_program(program(tree, needed=["liba-test.so.1"]))
    assert {"/usr/lib/libb-test.so.1", "/lib64/liba-test.so.1"} < set(libraries.paths)


def test_runpath_holds_for_its_own_object_only_rpath_for_all_below(tree):
    put(tree, "/opt/liba-test.so", needed=["libb-test.so"])
    put(tree, "/opt/libb-test.so")
    with pytest.raises(ConfigError, match=r"libb-test.so, needed by /opt/liba-test.so"):
        Libraries(tree).add_program(program(tree, needed=["liba-test.so"], runpath="/opt"))
    libraries = Libraries(tree)
    libraries.add_program(program(tree, "/bin/other", needed=["liba-test.so"], rpath="/opt"))
    assert "/opt/libb-test.so" in libraries.paths


def test_origin_is_where_the_object_really_is(tree):
    put(tree, "/opt/app/lib/libx-test.so")
    program(tree, "/opt/app/bin/run", needed=["libx-test.so"], runpath="${ORIGIN}/../lib")
    tree.add_link("/usr/bin/run", "/opt/app/bin/run", "test")
    libraries = Libraries(tree)
    libraries.add_program("/usr/bin/run")
    assert any(tree.resolve(path) == "/opt/app/lib/libx-test.so" for path in libraries.paths)


def test_a_library_for_another_machine_is_passed_over(tree):
    put(tree, "/opt/libx-test.so", machine=183)
    put(tree, "/usr/lib/libx-test.so")
    libraries = Libraries(tree)
    libraries.add_program(program(tree, needed=["libx-test.so"], runpath="/opt"))
    assert "/usr/lib/libx-test.so" in libraries.paths


def test_a_damaged_library_is_named(tree):
    tree.add_file("/usr/lib/libx-test.so", elf()[:100], "test")
    with pytest.raises(ConfigError, match=r"libx-test.so: truncated"):
        Libraries(tree).add_program(program(tree, needed=["libx-test.so"]))


def test_all_that_is_missing_is_named_at_once(tree):
    with pytest.raises(ConfigError) as caught:
        Libraries(tree).add_program(program(tree, needed=["liby-test.so", "libz-test.so"]))
    for word in ("/bin/program", "liby-test.so", "libz-test.so"):
        assert word in str(caught.value)


def test_a_missing_loader_is_named():
    tree = Tree()
    tree.add_file("/p", elf(interpreter="/no/such/ld.so"), "test")
    with pytest.raises(ConfigError, match=r"/p: its loader /no/such/ld.so is missing"):
        Libraries(tree).add_program("/p")


def test_libraries_that_need_each_other_end(tree):
    put(tree, "/lib64/liba-test.so", needed=["libb-test.so"])
    put(tree, "/lib64/libb-test.so", needed=["liba-test.so"])
    libraries = Libraries(tree)
    libraries.add_program(program(tree, needed=["liba-test.so"]))
    assert "/lib64/libb-test.so" in libraries.paths


def test_a_plug_in_that_lacks_something_is_only_remarked_upon(tree):
    put(tree, "/opt/plugin.so", needed=["libgone-test.so"])
    Libraries(tree).add_object("/opt/plugin.so")
    assert tree.remarks == ["/opt/plugin.so: not found: libgone-test.so, needed by /opt/plugin.so"]


def test_musl_s_loader_is_its_c_library():
    tree = Tree()
    loader = "/lib/ld-musl-x86_64.so.1"
    tree.add_file("/etc/ld-musl-x86_64.path", b"/usr/lib\n/opt", "test")
    tree.add_file(loader, elf(soname="libc.musl-x86_64.so.1"), "test")
    tree.add_file("/usr/lib/libx-test.so", elf(needed=["libc.musl-x86_64.so.1"]), "test")
    tree.add_file("/p", elf(interpreter=loader, needed=["libc.so", "libx-test.so"]), "test")
    libraries = Libraries(tree)
    libraries.add_program("/p")
    libraries.finish()
    assert "/usr/lib/libx-test.so" in libraries.paths
    assert tree.get("/etc/ld.so.cache") is None


def test_what_the_host_s_loader_finds_is_found(gcc):
    """Against ldd, for a program that is run from where it is."""
    path = gcc("#include <math.h>\nint main(int c, char **v) { return (int)cosh(c); }", "-lm")
    tree = Tree()
    libraries = Libraries(tree)
    libraries.add_program(tree.add_host(str(path), "test"))
    libraries.finish()
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    told = {line.split(" => ")[1].split(" ")[0] for line in said.splitlines() if " => /" in line}
    assert told
    assert told <= set(libraries.paths)
    assert any(path.endswith("/libgcc_s.so.1") for path in libraries.paths)
    assert b"libm.so.6" in tree.get("/etc/ld.so.cache").source
