"""JSON values, and texts that are nearly JSON, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from pyrovm.config.serde.reader import JsonError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


ALPHABET = st.sampled_from(
    b'{ } [ ] , : " \\ a "a" 0 - 1.5 e9 null true \x01 \xff \\u12 \\ud800 \\udc00 u'.split(b" ")
)
TEXTS = st.lists(ALPHABET | st.binary(max_size=3), max_size=20).map(b"".join)


def outcome(read):
    """What ``read`` returns, or the error that it raises: of any other kind it fails the test."""
    try:
        return read(), None
    except JsonError as error:
        return None, error
