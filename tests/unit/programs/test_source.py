"""What goes along with a function, and what cannot."""

import functools
import json as j
import os.path
from collections import OrderedDict
from collections.abc import Sequence

import pytest

import pyrovm
from pyrovm.programs.function import _unwrapped
from pyrovm.programs.source import Shipment

annotations = __import__("__future__").annotations  # not switched on here
LIMIT = 3
OPEN = open(os.devnull)  # noqa: SIM115
OPEN.close()


def ship(function):
    return Shipment(_unwrapped(function), _unwrapped, pyrovm.function)


def define(shipment):
    """As the VM does."""
    scope = {"__name__": shipment.module}
    for name, module, attribute in shipment.imports:
        found = __import__(module, fromlist=["*"])
        scope[name] = getattr(found, attribute) if attribute else found
    scope.update(shipment.constants())
    for file, text in shipment.pieces:
        exec(compile(text, file, "exec", annotations.compiler_flag, dont_inherit=True), scope)
    return scope[shipment.name]


class Base:
    factor = LIMIT


class Thing(Base):
    def size(self):
        return self.factor * LIMIT


def helper(value):
    return Thing().size() + value


@functools.cache
def cached(value):
    return helper(value)


@pyrovm.function
def uses_much(text: Sequence[str], default=LIMIT) -> OrderedDict:
    """A doc string."""
    inner = [n + 0 for n in j.loads(text)]
    return OrderedDict(a=cached(sum(inner)), b=os.path.basename("/x/y"), c=default)


def test_a_function_comes_with_what_it_uses():
    shipment = ship(uses_much)
    assert sorted(shipment.imports) == [
        ["OrderedDict", "collections", "OrderedDict"],
        ["functools", "functools", ""],
        ["j", "json", ""],
        ["os", "os", ""],
    ]
    assert shipment.constants() == {"LIMIT": 3}
    assert define(shipment)("[1, 2]") == {"a": 12, "b": "y", "c": 3}


def test_lines_are_where_they_are_in_the_file():
    file, text = next(piece for piece in ship(uses_much).pieces if "A doc string" in piece[1])
    assert file == __file__
    with open(__file__) as source:
        lines = source.read().splitlines()
    at = next(n for n, line in enumerate(text.splitlines()) if "doc string" in line)
    assert lines[at] == text.splitlines()[at]
    assert "@pyrovm.function" not in text


def test_constants_are_those_of_the_call(monkeypatch):
    shipment = ship(uses_much)
    monkeypatch.setattr(__import__(__name__, fromlist=["*"]), "LIMIT", 5)
    assert shipment.constants() == {"LIMIT": 5}


def test_a_function_within_a_function():
    base = 10

    def add(value):
        return base + value

    def twice(value):
        return add(add(value)) if value else twice(1)

    assert define(ship(twice))(0) == 21


def test_what_another_function_wraps_is_itself_to_be_called():
    @pyrovm.function(memory="64M")
    def inner(value):
        return value + 1

    def outer(value):
        return inner(value) * 2

    assert define(ship(outer))(1) == 4


def uses_a_file():
    return OPEN.read()


def renamed(value):
    return other_name(value)


other_name = helper


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: 1, "lambda"),
        (uses_a_file, r"uses_a_file: 'OPEN', which it uses: .*TextIOWrapper cannot be passed"),
        (renamed, "'other_name'"),
    ],
)
def test_what_cannot_be_shipped_is_named(function, words):
    with pytest.raises(TypeError, match=words):
        ship(function)


def test_two_things_of_one_name_are_refused():
    def one():
        helper = 1

        def user():
            return helper

        return user

    user = one()

    def both():
        return user() + helper(1)

    with pytest.raises(TypeError, match="two different 'helper'"):
        ship(both)


def test_a_function_of_no_file_is_refused():
    scope = {"__name__": __name__}
    exec("def typed(): pass", scope)
    with pytest.raises(TypeError, match="typed: its source is in no file"):
        ship(scope["typed"])


@pytest.mark.parametrize("value", [3, print, len, "text", pyrovm.MicroVM])
def test_only_functions_are_decorated(value):
    with pytest.raises(TypeError, match="made with def"):
        pyrovm.function(value)


def test_the_decorator_keeps_name_and_text():
    assert uses_much.__name__ == "uses_much"
    assert uses_much.__doc__ == "A doc string."
    assert uses_much.__wrapped__("[1]") == {"a": 10, "b": "y", "c": 3}
