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


def test_a_sample_shows_its_range_where_it_has_one():
    assert words.sample(Sample.of([1, 2, 4]), with_range=True) == "2 (1 to 4)"
    assert words.sample(Sample.of([2, 2]), with_range=True) == "2"
    assert words.sample(Sample.of([1, 2, 4])) == "2"
    assert words.sample(None) == ""


def test_the_terminal_has_a_line_for_each_figure_with_its_columns_aligned():
    figures = [
        Figure("q", "boot", "ms", Sample.of([10]), Sample.of([8]), "QEMU", target=1.1),
        Figure("q", "reads", "reads/s", Sample.of([1000]), higher_is_better=True),
    ]
    assert words.terminal(figures).splitlines() == [
        "       pyrovm     unit  peer  ratio             target  met",
        "boot       10       ms     8   1.25  at most 1.1 times   NO",
        "reads    1000  reads/s",
    ]
