import pytest

from pyrovm.bench.figures import Answer, Curve, Detail, Figure, Sample
from pyrovm.bench.page import headlines, page
from pyrovm.bench.results import Results, Run, Topic

RUN = Run({"CPU": "of a kind"}, {"q": 1.5})


def figure(ours, peer=None, **more):
    more = {"question": "q", "name": "n", "unit": "ms"} | more
    return Figure(ours=Sample.of([ours]), peer=peer and Sample.of([peer]), **more)


def test_a_sample_is_summed_up_by_its_median_and_its_ends():
    assert Sample.of(iter([5.0, 1.0, 2.0])) == Sample(3, 2.0, 1.0, 5.0, 1.0, 5.0)
    many = Sample.of(range(1, 201))
    assert many.tail(higher_is_better=False) == 198
    assert many.tail(higher_is_better=True) == 2
    assert Sample.of([1.0, 2.0]).median == 1.5
    with pytest.raises(ValueError, match="no measurements"):
        Sample.of([])


@pytest.mark.parametrize(
    ("found", "is_met"),
    [
        (figure(11, 10, target=1.1), True),
        (figure(12, 10, target=1.1), False),
        (figure(9, 10, target=0.9, higher_is_better=True), True),
        (figure(8, 10, target=0.9, higher_is_better=True), False),
        (figure(60, target=60, absolute=True), True),
        (figure(61, 1000, target=60, absolute=True), False),
        (figure(1, target=2, absolute=True, target_p99=0.5), False),
        (figure(1, target=2, absolute=True, target_p99=1), True),
        (figure(1, target_p99=0.5), False),
        (figure(61, target=60), None),  # a ratio, and nothing to divide by
        (figure(61, 10), None),
    ],
)
def test_a_target_bounds_the_ratio_or_where_absolute_our_own_figure(found, is_met):
    assert found.is_met is is_met


def test_a_peer_that_measured_zero_gives_no_ratio():
    assert Figure("q", "n", "ms", Sample.of([1]), Sample.of([0])).ratio is None


def test_peers_are_named_with_the_one_first_that_the_ratio_is_about():
    found = figure(30, 10, peer_name="QEMU", others={"crun": Sample.of([15])})
    assert list(found.peers) == ["QEMU", "crun"]
    assert found.ratio == 3
    assert list(figure(30, others={"crun": Sample.of([15])}).peers) == ["crun"]


def test_the_page_shows_every_figure_detail_curve_and_reason():
    answer = Answer(
        [
            figure(34886, 40504.0, name="exits", peer_name="QEMU", target=1.5, note="by us"),
            figure(30, name="start", unit="ms CPU", target=25, absolute=True),
        ],
        [Detail("q", "What they are", ["exit", "times"], [["IO", "7"]])],
        ["disk: no compiler"],
        [Curve("q", "f", "How it grows", "MiB", "ms", {"a": [(1, 2.5), (2, 3)], "b": [(2, 4)]})],
    )
    topics = [Topic("t", "How many?", "We count.", ["q"])]
    text = page(Results.of(RUN, topics, {"q": answer}), "../assets")
    assert "| CPU | of a kind |" in text
    assert "1 of 2 are met." in text
    assert "| exits | 34886 |  | 1 | ms | QEMU 40504 | 0.86 | at most 1.5 times | yes |" in text
    assert "| start | 30 |  | 1 | ms CPU |  |  | at most 25 ms CPU | NO |" in text
    assert "## How many?\n\nWe count.\n" in text
    assert "$ pyrovm bench t\n" in text
    assert "exits: by us." in text
    assert "### What they are\n\n| exit | times |\n| --- | --- |\n| IO | 7 |\n" in text
    assert "### How it grows\n\n| MiB | a, ms | b, ms |\n" in text
    assert "| 1 | 2.50 |  |\n| 2 | 3 | 4 |\n" in text
    assert '<img alt="How it grows" src="../assets/f.svg">' in text
    assert "- disk: no compiler [q]\n" in text


def test_the_readme_shows_figures_with_a_headline_and_their_commands():
    shown = figure(2, 4, peer_name="QEMU", headline="boot", target=3, absolute=True)
    text = headlines(Results.of(RUN, [], {"q": Answer([shown, figure(5, name="other")])}))
    assert text.splitlines()[2:] == [
        "| boot | 2 |  | ms | QEMU 4 | at most 3 ms | yes | `pyrovm bench q` |"
    ]
