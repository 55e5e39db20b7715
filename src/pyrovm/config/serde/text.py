"""Numbers and strings as Rust programs print them."""

from __future__ import annotations

_ESCAPES = {
    "\0": "\\0",
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def float_text(number: float) -> str:
    """A finite float in its shortest form: ``1.5``, ``1e16``, ``1.8446744073709552e19``.

    Python finds the same shortest digits; where the exponent starts and how it is written differ.
    """
    text = repr(number)
    if "e" in text:
        digits, _, exponent = text.partition("e")
        if exponent == "-05":  # the one exponent that Python writes and Rust spells out
            sign = "-" if digits.startswith("-") else ""
            return f"{sign}0.0000{digits.lstrip('-').replace('.', '')}"
        return f"{digits}e{int(exponent)}"
    return text


def quoted(text: str) -> str:
    """``text`` in double quotes, with whatever is not printable escaped (Rust's ``{:?}``)."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    parts = []
    for char in text:
        if char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif char.isprintable():
            parts.append(char)
        else:
            parts.append(f"\\u{{{ord(char):x}}}")
    return f'"{"".join(parts)}"'
