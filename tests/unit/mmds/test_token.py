"""Session tokens: valid until they expire, and only as they were made."""

import string
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.mmds.token import TokenAuthority, TokenError
from tests.unit.mmds.guest import Clock, counting_bytes


def make(instance_id="vm-1", now_ms=5_000):
    clock = Clock(now_ms)
    return TokenAuthority(instance_id, counting_bytes(), clock), clock


def test_a_token_is_valid_until_its_time_has_come():
    tokens, clock = make()
    token = tokens.generate(60)
    assert tokens.is_valid(token)
    clock.now_ms += 59_999
    assert tokens.is_valid(token)
    clock.now_ms += 1
    assert not tokens.is_valid(token)


def test_a_token_looks_like_36_bytes_in_base64():
    tokens, _ = make()
    token = tokens.generate(21_600)
    assert len(token) == 48
    assert set(token) <= set(string.ascii_letters + string.digits + "+/")
    assert len(b64decode(token, validate=True)) == 12 + 8 + 16


def test_the_expiry_is_not_readable_and_no_two_tokens_are_equal():
    tokens, clock = make()
    made = {tokens.generate(60) for _ in range(50)}
    assert len(made) == 50
    expiry = (clock.now_ms + 60_000).to_bytes(8, "little")
    assert all(expiry not in b64decode(token) for token in made)


@pytest.mark.parametrize("ttl", [1, 2, 21_599, 21_600])
def test_any_time_to_live_within_bounds_will_do(ttl):
    tokens, clock = make()
    token = tokens.generate(ttl)
    clock.now_ms += ttl * 1000 - 1
    assert tokens.is_valid(token)


@pytest.mark.parametrize("ttl", [0, 21_601, 0xFFFF_FFFF])
def test_a_time_to_live_out_of_bounds_is_refused(ttl):
    tokens, _ = make()
    with pytest.raises(
        TokenError,
        match=rf"^Invalid time to live value provided for token: {ttl}\. "
        r"Please provide a value between 1 and 21600\.$",
    ):
        tokens.generate(ttl)


def test_a_token_of_another_vm_or_another_process_is_refused():
    here, _ = make("vm-1")
    token = here.generate(60)
    # The same keys, another id: the id is part of what is signed.
    same_keys, _ = make("vm-2")
    same_keys.generate(60)
    assert not same_keys.is_valid(token)
    # The same id, other keys: a restored VM, say.
    restored = TokenAuthority("vm-1", lambda size: b"\x5a" * size, Clock(5_000))
    assert not restored.is_valid(token)
    restored.generate(60)
    assert not restored.is_valid(token)


def test_every_changed_bit_is_noticed():
    tokens, _ = make()
    sealed = b64decode(tokens.generate(60))
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        assert not tokens.is_valid(b64encode(changed).decode())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + "=",
        lambda t: t + "AAAA",
        lambda t: t[:-4],
        lambda t: t[:-1],
        lambda t: " " + t,
        lambda t: t + "\n",
        lambda t: t[:10] + "\n" + t[10:],
        lambda t: t[:10] + "-" + t[11:],
        lambda t: t + "A" * 23,
        lambda t: t[:-1] + "\u00e9",
        lambda t: t[:-1] + "=",
        lambda t: t[:-2] + "==",
        lambda t: t[:20] + "=" + t[21:],
        lambda t: "",
    ],
)
def test_a_token_with_a_changed_text_is_refused(change):
    tokens, _ = make()
    assert not tokens.is_valid(change(tokens.generate(60)))


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda b: b64encode(b).decode()))
def test_no_text_is_taken_for_a_token(text):
    tokens, _ = make()
    tokens.generate(60)
    assert not tokens.is_valid(text)


def test_nothing_is_valid_before_the_first_token_is_made():
    tokens, _ = make()
    assert not tokens.is_valid(make()[0].generate(60))


def test_random_bytes_are_drawn_only_for_tokens():
    drawn = []

    def random_bytes(size):
        drawn.append(size)
        return bytes(size)

    tokens = TokenAuthority("vm-1", random_bytes, Clock())
    assert drawn == []
    tokens.generate(60)
    tokens.generate(60)
    assert drawn == [32, 32, 12, 12]
