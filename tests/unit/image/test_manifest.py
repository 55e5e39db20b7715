import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError
from pyrovm.image import manifest
from pyrovm.image.manifest import File, Manifest, ManifestError

PATHS = st.from_regex(r"/[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True)
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
MANIFESTS = st.builds(
    Manifest,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    exe=PATHS,
    argv=st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), WORDS, max_size=3),
    cwd=PATHS,
    root_sha256=st.just("ab" * 32),
    root_size_bytes=st.integers(1, manifest.MAX_ROOT_BYTES),
    files=st.dictionaries(PATHS, st.builds(File, st.integers(0, 1 << 40), WORDS), max_size=5),
    remarks=st.lists(WORDS, max_size=2).map(tuple),
)
ONE = Manifest("x", "/x", ("x",), {"A": "b"}, "/", "00" * 32, 4096, {"/x": File(1, "why")})


@given(MANIFESTS)
def test_what_is_written_is_read_back(made):
    assert manifest.parse(made.encode()) == made


@given(MANIFESTS, st.binary(max_size=20), st.integers(0, 200))
def test_a_changed_manifest_is_refused_or_another(made, noise, at):
    data = made.encode()
    changed = data[:at] + noise + data[at + len(noise) :]
    try:
        found = manifest.parse(changed)
    except ManifestError:
        return
    assert found.encode() == changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema 2, 1 expected"),
        ({"name": "../x"}, "image name"),
        ({"name": "ab" * 32}, "looks like a digest"),
        ({"exe": "bin/x"}, "exe has 'bin/x'"),
        ({"exe": "/bin/../x"}, "absolute path"),
        ({"cwd": "/a/./b"}, "absolute path"),
        ({"argv": []}, "argv is empty"),
        ({"argv": ["a\0b"]}, "without NUL"),
        ({"argv": ["\ud800"]}, "no text"),
        ({"argv": "x"}, "a list expected"),
        ({"env": {"A=": "x"}}, "contains '='"),
        ({"env": {"A": 1}}, "env has 1"),
        ({"root": {"sha256": "x", "size_bytes": 1}}, "root.sha256"),
        ({"root": {"sha256": "00" * 32, "size_bytes": 0}}, "root.size_bytes is 0"),
        ({"root": {"sha256": "00" * 32, "size_bytes": 1 << 40}}, "allowed"),
        ({"root": {"sha256": "00" * 32, "size_bytes": True}}, "a int expected"),
        ({"files": {"x": [1, "why"]}}, "absolute path"),
        ({"files": {"/x": [-1, "why"]}}, "files has"),
        ({"more": 1}, "canonical"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(change, said):
    data = json.dumps({**json.loads(ONE.encode()), **change}).encode()
    with pytest.raises(ManifestError, match=said):
        manifest.parse(data)


def test_another_form_of_the_same_is_refused():
    with pytest.raises(ManifestError, match="canonical"):
        manifest.parse(json.dumps(json.loads(ONE.encode()), indent=1).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b"1" * 10_000])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ManifestError):
        manifest.parse(data)


@pytest.mark.parametrize("name", ["", ".x", "-x", "A", "a/b", "a b", "x" * 129])
def test_names_are_plain(name):
    with pytest.raises(ConfigError, match="image name"):
        manifest.check_name(name)
