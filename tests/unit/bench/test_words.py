import pytest

from pyrovm.bench import words
from pyrovm.bench.figures import Figure, Sample


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (0.01234, "0.0123"),
        (1.5, "1.50"),
        (12.345, "12.3"),
        (34886.4, "34886"),
    ],
)
def test_numbers_have_three_digits_that_count(value, text):
    assert words.number(value) == text


def test_a_sample_shows_its_tail_where_it_has_one():
    assert words.sample(Sample.of([1, 2, 4])) == "2 (4)"
    assert words.sample(Sample.of([1, 2, 4]), higher_is_better=True) == "2 (1)"
    assert words.sample(Sample.of([2, 2])) == "2"
    assert words.sample(Sample.of([3])) == "3"


def test_a_target_may_bound_the_tail_too():
    figure = Figure("q", "pause", "ms", Sample.of([1, 9]), target=2, absolute=True, target_p99=5)
    assert words.target(figure) == "at most 2 ms, p99 at most 5 ms"


def test_the_terminal_has_a_line_for_each_figure_with_its_columns_aligned():
    figures = [
        Figure("q", "boot", "ms", Sample.of([9, 10, 12]), Sample.of([8]), "QEMU", target=1.1),
        Figure("q", "reads", "reads/s", Sample.of([900, 1000, 1200]), higher_is_better=True),
    ]
    assert words.terminal(figures).splitlines() == [
        "           p50  tail     unit  ratio             target  met",
        "boot        10    12       ms   1.25  at most 1.1 times   NO",
        "    QEMU     8",
        "reads     1000   900  reads/s",
    ]
