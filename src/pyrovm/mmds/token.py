"""Session tokens of MMDS version 2: an expiry that only we could have written.

A token is the base64 text of ``nonce (12) | encrypted expiry (8) | tag (16)``, bound to the
microVM's id as associated data.  Firecracker seals it with AES-256-GCM.  Python's standard
library has no AES, and pyrovm has no dependencies, so the same 36 bytes are made by
encrypt-then-MAC from a keyed hash:

* the keystream that hides the expiry is BLAKE2s(key=K1, nonce), cut to 8 bytes;
* the tag is BLAKE2s(key=K2, nonce | encrypted expiry | associated data), 16 bytes long.

Keyed BLAKE2s is a pseudo-random function and a MAC by design (RFC 7693, 2.9), K1 and K2 are
independent random keys of this process, so the construction is secure as generic
encrypt-then-MAC is (Bellare and Namprempre, 2000): forging a token means guessing a 128-bit tag.
All parts but the last have a fixed length, so no two inputs of the MAC spell the same bytes.  A
nonce that ever repeats would reveal the XOR of two expiries, and nothing about the keys.

A guest cannot tell the difference: length and alphabet are the same, and a token made elsewhere,
in another process, or before a restore is refused by either.
"""

from __future__ import annotations

from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MIN_TTL_SECONDS = 1
MAX_TTL_SECONDS = 21_600

KEY_SIZE = 32
NONCE_SIZE = 12
EXPIRY_SIZE = 8
TAG_SIZE = 16
TEXT_SIZE = (NONCE_SIZE + EXPIRY_SIZE + TAG_SIZE) // 3 * 4  # 48 characters, no padding


class TokenError(GuestError):
    """The guest asked for a token that cannot be."""


def _keyed_hash(key: bytes, data: bytes, size: int) -> bytes:
    # Not at the top: most VMs never see a token.  Not by hashlib: that loads OpenSSL, for 1.5 ms
    # and 3.5 MiB of every VM; it is the fallback for a Python built without its own BLAKE2.
    try:
        from _blake2 import blake2s
    except ImportError:
        from hashlib import blake2s
    return blake2s(data, key=key, digest_size=size).digest()


class TokenAuthority:
    """Makes and checks the tokens of one microVM.

    ``random_bytes(n)`` returns n unpredictable bytes; ``now_ms()`` is a monotonic clock.
    """

    def __init__(
        self, instance_id: str, random_bytes: Callable[[int], bytes], now_ms: Callable[[], int]
    ) -> None:
        self._associated = f"microvmid={instance_id}".encode()
        self._random_bytes = random_bytes
        self._now_ms = now_ms
        self._keys: tuple[bytes, bytes] | None = None

    def generate(self, ttl_seconds: int) -> str:
        """A token that is valid for ``ttl_seconds`` from now on.

        Raises:
            TokenError: the time to live is out of bounds.
        """
        if not MIN_TTL_SECONDS <= ttl_seconds <= MAX_TTL_SECONDS:
            raise TokenError(
                f"Invalid time to live value provided for token: {ttl_seconds}. "
                f"Please provide a value between {MIN_TTL_SECONDS} and {MAX_TTL_SECONDS}."
            )
        if self._keys is None:
            self._keys = self._random_bytes(KEY_SIZE), self._random_bytes(KEY_SIZE)
        nonce = self._random_bytes(NONCE_SIZE)
        expiry_ms = self._now_ms() + ttl_seconds * 1000
        hidden = self._hide(expiry_ms.to_bytes(EXPIRY_SIZE, "little"), nonce)
        from binascii import b2a_base64

        sealed = nonce + hidden + self._tag(nonce + hidden)
        return b2a_base64(sealed, newline=False).decode()

    def is_valid(self, token: str) -> bool:
        """Whether this object made ``token`` and its time has not come.  Never raises."""
        if self._keys is None or len(token) != TEXT_SIZE:
            return False
        from binascii import Error, a2b_base64

        try:
            sealed = a2b_base64(token.encode("ascii"), strict_mode=True)
        except (Error, UnicodeEncodeError):
            return False
        if len(sealed) != NONCE_SIZE + EXPIRY_SIZE + TAG_SIZE:
            return False
        from _operator import _compare_digest  # what hmac.compare_digest is, without hmac

        if not _compare_digest(sealed[-TAG_SIZE:], self._tag(sealed[:-TAG_SIZE])):
            return False
        nonce = sealed[:NONCE_SIZE]
        expiry = self._hide(sealed[NONCE_SIZE:-TAG_SIZE], nonce)
        return self._now_ms() < int.from_bytes(expiry, "little")

    def _hide(self, expiry: bytes, nonce: bytes) -> bytes:
        """Encrypt or decrypt: XOR with the keystream of ``nonce``."""
        assert self._keys is not None
        stream = _keyed_hash(self._keys[0], nonce, EXPIRY_SIZE)
        return bytes(a ^ b for a, b in zip(expiry, stream, strict=True))

    def _tag(self, sealed: bytes) -> bytes:
        assert self._keys is not None
        return _keyed_hash(self._keys[1], sealed + self._associated, TAG_SIZE)
