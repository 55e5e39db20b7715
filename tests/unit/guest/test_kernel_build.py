import dataclasses
import io
from pathlib import Path

import pytest

from pyrovm.errors import ConfigError, HostError, Unsupported
from pyrovm.guest import kernel_build, kernel_config, programs
from pyrovm.guest.debian import Package
from pyrovm.guest.kernel_build import Plan
from pyrovm.guest.progress import Progress

SOURCE = Package("linux-source-6.12", "6.12.1-1~deb12u1", "linux-source-6.12_1_all.deb", ())
PLAN = Plan("full", {"A": "y", "B": "n"}, SOURCE, "gcc 12.2.0")


def test_the_key_follows_everything_that_determines_the_kernel():
    changed = [
        dataclasses.replace(PLAN, options={"A": "y", "B": "y"}),
        dataclasses.replace(PLAN, compiler="gcc 14"),
        dataclasses.replace(PLAN, source=dataclasses.replace(SOURCE, filename="other.deb")),
    ]
    assert len({plan.key for plan in (PLAN, *changed)}) == 4


def test_the_key_does_not_follow_the_order_of_options():
    assert dataclasses.replace(PLAN, options={"B": "n", "A": "y"}).key == PLAN.key


def test_the_name_says_flavour_version_and_key():
    assert PLAN.name == f"full-6.12.1-1-deb12u1-{PLAN.key[:8]}"


def test_a_flavour_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="'tiny': one of full, serverless, pci"):
        kernel_build.plan("tiny")


def test_missing_packages_are_named_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr(programs, "find", lambda name: None if name in ("bc", "flex") else name)
    monkeypatch.setattr(kernel_build, "_LIBELF", Path("/no/such/gelf.h"))
    with pytest.raises(Unsupported) as caught:
        kernel_build.check_programs()
    assert "flex, bc, libelf" in str(caught.value)
    assert str(caught.value).endswith("--no-install-recommends bc flex libelf-dev")


@pytest.fixture
def fake_make(tmp_path, monkeypatch):
    """``make`` on the PATH is a script of the test's own."""

    def install(script):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "make").write_text("#!/bin/sh\n" + script)
        (tmp_path / "bin" / "make").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    return install


def test_a_build_that_fails_shows_the_end_of_its_output(fake_make, tmp_path):
    fake_make("echo '  CC      a.o'; echo 'a.c:1: error: what is this'; exit 2\n")
    with pytest.raises(HostError, match=r"status 2:\n(.|\n)*what is this"):
        kernel_build.compile_kernel(tmp_path, 1, Progress("t", io.StringIO()), 10)


def test_the_progress_never_reaches_the_end_before_the_build_does(fake_make, tmp_path):
    fake_make("for n in 1 2 3 4 5; do echo \"  CC      $n.o\"; done; echo 'make: whatever'\n")
    seen = []

    class Recorder(Progress):
        def at(self, fraction):
            seen.append(fraction)

    kernel_build.compile_kernel(tmp_path, 1, Recorder("t", io.StringIO()), 4)
    assert seen == [0.25, 0.5, 0.75, 0.99, 0.99]


def test_an_option_that_the_kernel_does_not_grant_stops_the_build(fake_make, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    fake_make(f"echo 'CONFIG_A=y' >{out}/.config\n")
    kernel_build.configure(tmp_path, out, {"A": "y"})
    assert kernel_config.parse((out / "wish.config").read_text()) == {"A": "y"}
    with pytest.raises(HostError, match="does not grant: B=y"):
        kernel_build.configure(tmp_path, out, {"A": "y", "B": "y"})
