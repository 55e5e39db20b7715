"""Every fuzz target for a moment: its seeds, its committed corpus, and mutations of both.

The mutations come from a fixed seed: what fails here fails every time.
"""

from random import Random

import pytest

from fuzz import corpus, targets
from fuzz.mutate import Mutator
from fuzz.run import ROOT
from fuzz.source import EDGES, Source
from fuzz.trace import minimised, traced

INPUTS = 2000
SEED = 20260821


@pytest.mark.parametrize("name", targets.names())
def test_a_target_stands_seeds_corpus_and_mutations(name):
    target = targets.load(name)
    inputs = [*targets.seeds(target), *corpus.load(ROOT / "fuzz" / "corpus" / name)]
    for data in inputs:
        target.one_input(data)
    mutator = Mutator(Random(SEED), inputs, targets.words(target))
    for _ in range(INPUTS):
        target.one_input(mutator.next())


def test_the_mutator_is_deterministic_and_varied():
    inputs = [b"hello world", b"\0" * 40]
    first, second = (Mutator(Random(1), inputs, (b"word",)) for _ in range(2))
    made = [first.next() for _ in range(500)]
    assert made == [second.next() for _ in range(500)]
    assert len(set(made)) > 400
    assert any(b"word" in data for data in made)


def test_a_source_gives_what_is_in_the_input_and_then_zeros():
    source = Source(b"\x01\x02\x03\x04\x02ab")
    assert (source.u8(), source.u16(), source.below(3), source.blob(10)) == (1, 0x302, 1, b"ab")
    assert source.left == 0
    assert (source.u64(), source.flag(), source.edge(), source.rest()) == (0, False, EDGES[0], b"")


def test_minimising_keeps_the_smallest_inputs_that_reach_every_line():
    elf = targets.load("elf")
    seeds = targets.seeds(elf)
    kept = minimised(elf.one_input, [*seeds, *(seed + b"more" for seed in seeds), b"", b"x"])
    lines = [traced(lambda data=data: elf.one_input(data)) for data in seeds]
    assert set().union(*lines) <= set().union(
        *(traced(lambda data=data: elf.one_input(data)) for data in kept)
    )
    assert len(kept) <= len(seeds) + 1
    assert all(not data.endswith(b"more") for data in kept)


def test_an_input_that_fails_is_reported_once_with_how_to_repeat_it(tmp_path, monkeypatch, capsys):
    from fuzz import findings

    monkeypatch.setattr(findings, "FOLDER", tmp_path)
    found = findings.Findings("elf")

    def one_input(data):
        assert data != b"bad", "a broken rule"

    assert found.run(one_input, b"bad")
    assert found.run(one_input, b"bad")
    assert not found.run(one_input, b"good")
    assert [path.read_bytes() for path in (tmp_path / "elf").iterdir()] == [b"bad"]
    message = capsys.readouterr().err
    assert message.count("AssertionError: a broken rule") == 1
    assert "python fuzz/run.py elf --reproduce" in message
