import os

import pytest

from pyrovm.errors import ConfigError
from pyrovm.image import script


@pytest.fixture
def tool(tmp_path, monkeypatch):
    path = tmp_path / "tool"
    path.write_text("")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(path)


def test_words_are_split_as_the_kernel_does(tool):
    assert script.interpreter(f"#! {tool}\n".encode(), "x") == [tool]
    assert script.interpreter(f"#!{tool} -a b \t\n".encode(), "x") == [tool, "-a b"]
    assert script.interpreter(f"#!{tool}".encode(), "x") == [tool]


def test_env_is_replaced_by_what_it_finds(tool):
    assert script.interpreter(b"#!/usr/bin/env tool\n", "x") == [tool]
    assert script.interpreter(b"#!/usr/bin/env -S tool -a b\n", "x") == [tool, "-a", "b"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"#!\n", "names no interpreter"),
        (b"#! \t\n", "names no interpreter"),
        (b"#!sh\n", "names no interpreter"),
        (b"#!/no/such/interpreter\n", "/no/such/interpreter is missing"),
        (b"#!/usr/bin/env no-such-program\n", "no-such-program, which is not on PATH"),
        (b"#!/usr/bin/env -i tool\n", "env with options"),
        (b"#!/usr/bin/env A=b\n", "env with options"),
        (b"#!/usr/bin/env -S\n", "env with options"),
        (b"#!/" + b"x" * 300, "more than 256 bytes"),
    ],
)
def test_a_script_that_nobody_can_run_is_refused(tool, line, said):
    assert os.path.basename(tool) == "tool"
    with pytest.raises(ConfigError, match=said):
        script.interpreter(line[:300], "/a/script")
