from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.lab.relay import Relay

TOKEN = b"0a0b0a0c\n"


def relayed(pieces, token=TOKEN):
    out = bytearray()
    relay = Relay(out.extend, token)
    for piece in pieces:
        relay.feed(piece)
    return bytes(out), relay


def split(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


# Text of the token's own letters: beginnings of it are everywhere.
nearly = st.text("0abc\n", max_size=60).map(str.encode).filter(lambda text: TOKEN not in text)


@given(nearly, st.binary(max_size=20), st.lists(st.integers(0, 200), max_size=8))
def test_everything_before_the_token_comes_through_however_it_is_cut(text, behind, cuts):
    data = text + TOKEN
    before = data.index(TOKEN)  # the text's end and the token's beginning may make one earlier
    out, relay = relayed(split(data + behind, cuts))
    assert out == data[:before]
    assert relay.ended


@given(nearly, st.lists(st.integers(0, 200), max_size=8))
def test_without_the_token_everything_comes_through_by_the_end(text, cuts):
    out = bytearray()
    relay = Relay(out.extend, TOKEN)
    for piece in split(text, cuts):
        relay.feed(piece)
        assert text.startswith(bytes(out))
    assert not relay.ended
    relay.flush()
    assert bytes(out) == text


def test_nothing_is_held_back_that_cannot_be_the_token():
    out, _ = relayed([b"line\n", b"0a0b0a0x", b"0a0"])
    assert out == b"line\n0a0b0a0x"


def test_what_comes_behind_the_token_is_dropped():
    out, _ = relayed([b"text" + TOKEN + b"late", b"later"])
    assert out == b"text"
