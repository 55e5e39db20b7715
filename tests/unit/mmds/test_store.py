"""The data store: put, patch, limits, and what a guest finds at a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.config.serde.value import parse_value
from pyrovm.config.serde.writer import dumps
from pyrovm.errors import ConfigError, StateError
from pyrovm.mmds.store import (
    DataStore,
    NotFound,
    NotInitializedError,
    StoreLimitError,
    UnsupportedType,
    canonical,
    lookup,
    merge,
)
from tests.unit.mmds.guest import STORE


def fresh(value=STORE, limit_bytes=51_200):
    store = DataStore(limit_bytes)
    store.put(value)
    return store


def test_before_the_first_put_the_host_reads_an_empty_object_and_the_guest_null():
    store = DataStore(100)
    assert store.get() == {}
    assert not store.is_initialized
    assert store.render("/", as_json=True) == "null"
    with pytest.raises(UnsupportedType):
        store.render("/", as_json=False)


def test_put_replaces_and_any_json_value_will_do():
    store = DataStore(100)
    for value in ({"a": 1}, [1, 2], "text", 1.5, True, None):
        store.put(value)
        assert store.get() == value
        assert store.is_initialized


def test_the_store_keeps_a_copy():
    value = {"a": {"b": 1}}
    store = DataStore(100)
    store.put(value)
    value["a"]["b"] = 2
    assert store.get() == {"a": {"b": 1}}


def test_keys_are_kept_in_the_order_of_their_bytes():
    store = DataStore(100)
    store.put({"b": 1, "\U0001f600": 3, "\uffff": 2, "a": {"z": 1, "y": 2}})
    assert store.render("/", as_json=True) == '{"a":{"y":2,"z":1},"b":1,"\uffff":2,"\U0001f600":3}'
    store.patch({"a": {"a": 0}, "B": 0})
    assert store.render("/", as_json=False) == "B\na/\nb\n\uffff\n\U0001f600"


def test_a_patch_before_a_put_is_refused():
    with pytest.raises(StateError, match=r"^The MMDS data store is not initialized\.$"):
        DataStore(100).patch({})


# The examples of RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_is_a_json_merge_patch(target, patch, result):
    store = fresh(target)
    store.patch(patch)
    assert store.get() == result


def test_the_limit_is_on_the_compact_json_in_utf8():
    value = {"k": "\u00e9", "f": 1e16}
    size = len('{"f":1e16,"k":"é"}'.encode())
    DataStore(size).put(value)
    with pytest.raises(StoreLimitError, match=r"^The MMDS patch request doesn't fit\.$"):
        DataStore(size - 1).put(value)


def test_what_does_not_fit_leaves_the_store_unchanged():
    store = fresh({"a": "x" * 10}, limit_bytes=40)
    for change in (store.put, store.patch):
        with pytest.raises(StoreLimitError):
            change({"b": "y" * 40})
    assert store.get() == {"a": "x" * 10}
    store.patch({"a": None, "b": "y" * 20})
    assert store.get() == {"b": "y" * 20}


def test_a_failed_first_put_does_not_initialize():
    store = DataStore(3)
    with pytest.raises(StoreLimitError):
        store.put("long")
    assert not store.is_initialized
    with pytest.raises(NotInitializedError):
        store.patch({})


def nested(depth):
    value = 0
    for _ in range(depth):
        value = {"a": value}
    return value


def test_nesting_is_bounded_as_the_parser_bounds_it():
    store = fresh(nested(127))
    assert parse_value(dumps(store.get()).encode()) == store.get()
    store.patch(nested(127))
    for value in (nested(128), nested(100_000)):
        with pytest.raises(ConfigError, match="128 levels"):
            store.put(value)
        with pytest.raises(ConfigError, match="128 levels"):
            store.patch(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, b"x", {"a": object()}, "\ud800", {"\udfff": 1}]
)
def test_what_is_no_json_is_refused(value):
    with pytest.raises(ConfigError, match="not JSON"):
        DataStore(1000).put(value)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", STORE),
        ("", STORE),
        ("////", STORE),
        ("/latest/Limits", {"CPU": 512}),
        ("/latest/Limits/", {"CPU": 512}),
        ("//latest///Limits//", {"CPU": 512}),
        ("/latest/Limits/CPU", 512),
        ("/latest/meta-data/dummy_array/0", "arr_val1"),
        ("/latest/meta-data/dummy_array/1/", "arr_val2"),
        ("/latest/a~1b/c~0d", "tricky"),
    ],
)
def test_a_path_is_a_json_pointer_with_slashes_to_spare(path, found):
    assert lookup(STORE, path) == found


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/latest/meta-data/dummy_array/2",
        "/latest/meta-data/dummy_array/-1",
        "/latest/meta-data/dummy_array/00",
        "/latest/meta-data/dummy_array/+1",
        "/latest/meta-data/dummy_array/\u0661",
        "/latest/meta-data/dummy_array/-",
        "/latest/meta-data/dummy_array/" + "9" * 2000,
        "/latest/meta-data/ami-id/deeper",
        "/latest/Limits/CPU/0",
        "/Latest",
        "/latest/a/b",
        "latest",
        "latest/Limits",
        "/latest?x=1",
        "/%6Catest",
    ],
)
def test_any_other_path_leads_nowhere(path):
    with pytest.raises(NotFound):
        lookup(STORE, path)


def test_imds_text_lists_an_object_and_shows_a_string():
    store = fresh()
    assert store.render("/latest/meta-data/", as_json=False) == (
        "ami-id\ndummy_array\ndummy_empty\ndummy_obj/\nlocal-hostname"
    )
    assert store.render("/latest/meta-data/ami-id", as_json=False) == "ami-12345678"
    assert store.render("/latest/meta-data/dummy_empty", as_json=False) == ""


@pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"]])
def test_imds_text_has_no_words_for_anything_else(value):
    with pytest.raises(
        UnsupportedType, match=r"^Cannot retrieve value\. The value has an unsupported type\.$"
    ):
        fresh(value).render("/", as_json=False)


def test_json_is_compact():
    assert fresh().render("/latest/meta-data/dummy_array", as_json=True) == (
        '["arr_val1","arr_val2"]'
    )
    assert fresh().render("/latest/meta-data/ami-id", as_json=True) == '"ami-12345678"'
    assert fresh().render("/latest/Usage/CPU", as_json=True) == "12.12"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 1) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=4)
    ),
    max_leaves=8,
)


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


@given(values, values)
def test_merging_is_canonical_idempotent_and_changes_neither_side(target, patch):
    target, patch = canonical(target), canonical(patch)
    before = dumps(target), dumps(patch)
    once = merge(target, patch)
    assert (dumps(target), dumps(patch)) == before
    assert dumps(canonical(once)) == dumps(once)
    assert merge(once, patch) == once
    assert merge(None, patch) == without_nulls(patch)


@given(values, st.text(alphabet="/ab01~", max_size=12))
def test_every_path_of_every_value_is_found_or_refused_by_name(value, path):
    store = fresh(value)
    for as_json in (True, False):
        try:
            text = store.render(path, as_json=as_json)
        except (NotFound, UnsupportedType):
            continue
        assert isinstance(text, str)
