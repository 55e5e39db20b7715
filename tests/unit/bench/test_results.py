"""Results as they are kept: written, read again, and put together from several runs."""

import json

import pytest

from pyrovm.bench import runner
from pyrovm.bench.figures import Answer, Bars, Curve, Detail, Figure, Sample
from pyrovm.bench.questions import Question
from pyrovm.bench.results import Results, Run, Skipped, Topic
from pyrovm.bench.runner import Runner
from pyrovm.errors import ConfigError


def answer(name, value):
    """All that a question can have found out."""
    figure = Figure(
        name, "n", "ms", Sample.of([value]), Sample.of([3.25]), "QEMU", others={"x": Sample.of([1])}
    )
    curve = Curve(name, f"{name}-curve", "c", "x", "y", {"ours": [(1, 2.0), (3, 4.0)]})
    bars = Bars.of(figure, "pyrovm", f"{name}-bars", "b")
    detail = Detail(name, "what", ["a", "b"], [["1", "2"]])
    return Answer([figure], [detail], [f"that: {value}"], [curve], [bars])


def results(when, names, value=1.5):
    run = Run({"date": when}, dict.fromkeys(names, 2.0))
    topics = [Topic(f"topic-{name}", "How?", "So.", [name]) for name in names]
    return Results.of(run, topics, {name: answer(name, value) for name in names})


def test_results_are_the_same_after_the_file():
    found = results("today", ["a", "b"])
    assert Results.loads(found.dumps()) == found


def test_what_follows_from_a_figure_stands_in_the_file_too():
    (figure,) = json.loads(results("today", ["a"]).dumps())["figures"]
    assert figure["ratio"] == pytest.approx(1.5 / 3.25)
    assert figure["command"] == "pyrovm bench a"


def test_bars_have_our_figure_first_and_each_peer():
    (bars,) = results("today", ["a"]).bars
    assert bars.values == {"pyrovm": (1.5, 1.5), "QEMU": (3.25, 3.25), "x": (1, 1)}


def test_a_later_run_replaces_what_it_was_asked_and_nothing_else():
    order = ["topic-b", "topic-a", "topic-c", "b", "a"]
    whole = results("monday", ["a", "b"]).merged(results("friday", ["b", "c"], 9.0), order)
    assert [topic.name for topic in whole.topics] == order[:3]
    assert [figure.question for figure in whole.in_order] == ["b", "a", "c"]
    assert {figure.question: figure.ours.median for figure in whole.figures} == {
        "a": 1.5,
        "b": 9.0,
        "c": 9.0,
    }
    assert [(run.about["date"], sorted(run.seconds)) for run in whole.runs] == [
        ("monday", ["a"]),
        ("friday", ["b", "c"]),
    ]
    assert sorted(each.question for each in [*whole.details, *whole.curves]) == [*"aabbcc"]
    assert Skipped("b", "that: 1.5") not in whole.skipped


def test_a_run_all_of_whose_answers_were_replaced_is_forgotten():
    whole = results("monday", ["a"]).merged(results("friday", ["a"]), ["topic-a"])
    assert [run.about["date"] for run in whole.runs] == ["friday"]


def test_a_question_asked_alone_stays_with_the_others_of_its_topic():
    both = results("monday", [])
    both.topics.append(Topic("t", "How?", "So.", ["a", "b"]))
    one = results("friday", ["b"])
    one.topics[:] = [Topic("t", "How then?", "So.", ["b"])]
    (topic,) = both.merged(one, ["t", "a", "b"]).topics
    assert (topic.heading, topic.questions) == ("How then?", ["a", "b"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_a_file_of_something_else_is_refused(text):
    with pytest.raises(ConfigError, match="pyrovm bench"):
        Results.loads(text)


def test_what_was_answered_is_kept_after_each_answer(monkeypatch):
    def breaks(terms):
        raise RuntimeError("as a test")

    asked = [
        Question("one", runner, lambda terms: answer("one", 1.0), 5, alone=True),
        Question("two", runner, breaks, 5, alone=False),
    ]
    monkeypatch.setattr(runner.machine, "about", dict)
    monkeypatch.setattr(runner.questions, "topics", lambda asked: [])
    kept = []
    found = Runner().measure(asked, kept.append)
    assert [[*results.runs[0].seconds] for results in kept] == [["one"], ["one", "two"]]
    assert found == kept[-1]
    assert Skipped("two", "all of it: the measurement failed") in found.skipped
