import gzip
import lzma

import pytest

from pyrovm.errors import ConfigError
from pyrovm.guest.modules import ModuleTree, dependencies, plain_name


def module(*depends):
    return b"ELF...\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=x\0"


@pytest.fixture
def tree(tmp_path):
    files = {
        "kernel/net/app-one.ko": module("mid", "base"),
        "kernel/net/mid.ko.xz": lzma.compress(module("base", "built_in")),
        "kernel/base.ko.gz": gzip.compress(module()),
        "kernel/a.ko": module("b"),
        "kernel/b.ko": module("a"),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "modules.builtin").write_text("kernel/fs/built-in.ko\n")
    return ModuleTree(tmp_path)


def test_a_module_comes_after_all_it_needs_and_only_once(tree):
    assert list(tree.closure(["app_one", "base"])) == ["base", "mid", "app_one"]


def test_modules_come_uncompressed(tree):
    assert tree.closure(["mid"]) == {"base": module(), "mid": module("base", "built_in")}


def test_what_is_built_in_is_left_out(tree):
    assert tree.closure(["built-in"]) == {}
    assert tree.has("built_in")


def test_a_module_that_is_not_there_is_named(tree):
    assert not tree.has("missing")
    with pytest.raises(ConfigError, match="no kernel module missing"):
        tree.closure(["missing"])


def test_modules_that_depend_on_each_other_are_refused(tree):
    with pytest.raises(ConfigError, match="depend on each other"):
        tree.closure(["a"])


def test_names_are_spelt_with_underscores():
    assert plain_name("kvm-amd.ko.zst") == plain_name("kvm_amd") == "kvm_amd"
    assert dependencies(b"no modinfo") == []
