"""Who is compared with, how they are found and how their containers are described."""

import json

import pytest

from pyrovm.bench import peers
from pyrovm.bench.containers import Container
from pyrovm.bench.peers import Peer
from pyrovm.bench.terms import Terms
from pyrovm.cli import bench
from pyrovm.errors import ConfigError

MISSING = Peer("Nobody", "no-such-program-of-anybody", hint="write it")


def silent(text):
    pass


def test_a_peer_that_is_not_installed_is_named_with_how_to_get_it():
    skipped = []
    assert peers.usable((MISSING,), Terms(silent), skipped) == []
    assert skipped == ["Nobody: not installed (write it)"]


def test_a_peer_is_measured_only_where_it_is_wanted():
    shell = Peer("shell", "sh", version_words=())
    skipped = []
    assert peers.usable((shell,), Terms(silent, peers=frozenset()), skipped) == []
    assert skipped == ["shell: not asked for"]
    assert peers.usable((shell,), Terms(silent, peers=frozenset({"shell"})), []) == [shell]


def test_peers_are_named_by_name_or_program():
    assert bench._peers("crun,QEMU microvm") == {"crun", "QEMU microvm"}
    assert bench._peers("bwrap") == {"bubblewrap"}
    assert bench._peers("none") == frozenset()
    assert bench._peers(None) is None
    with pytest.raises(ConfigError, match=r"no peer 'docker'; there are: .*crun"):
        bench._peers("docker")


def test_a_container_has_the_program_alone_and_each_runtime_its_command(tmp_path):
    program = tmp_path / "hello"
    program.write_bytes(b"#!")
    with Container(str(program), "stay") as container:
        assert (container.root / "program").read_bytes() == b"#!"
        config = json.loads((container.folder / "config.json").read_text())
        assert config["process"]["args"] == ["/program", "stay"]
        assert config["root"] == {"path": str(container.root), "readonly": True}
        first, second = (container.command(peers.RUNC) for _ in range(2))
        assert first[-1] != second[-1]  # a container's name may be used once
        assert str(container.folder) in first
        assert container.command(peers.UNSHARE)[-2:] == ["/program", "stay"]
        assert container.command(peers.BUBBLEWRAP)[-2:] == ["/program", "stay"]
    assert not container.folder.exists()


def test_rounds_end_with_the_budget_but_not_before_the_third():
    said = []
    assert list(Terms(said.append, budget_s=0.0).rounds(9, "it")) == [0, 1, 2]
    assert said[0] == "it: round 1 of 9"
    assert list(Terms(silent, quick=True).rounds(9, "it", quick=1)) == [0]
    assert list(Terms(silent).rounds(5, "it")) == [0, 1, 2, 3, 4]
