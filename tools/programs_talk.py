"""The files that programs of programs_table.py find, and how servers among them are talked to."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
from pathlib import Path

TIMEOUT = 30  # seconds, for each answer of a server
BIG = hashlib.sha256(b"big").digest() * 100_000  # 3.2 MB
WORDS = "".join(f"{hashlib.md5(b'%d' % n).hexdigest()}\n" for n in range(20_000))

FILES = Path(__file__).resolve().parent.parent / "tests" / "guests" / "real"
FOUR_FILES = "200 hello from a file; 200 big; 206 its end; 404"


def prepare(folder: Path, data: str, port: int) -> None:
    """Write all files; ``data`` is what the program sees the folder as."""
    for source in sorted(FILES.rglob("*")):
        target = folder / source.relative_to(FILES)
        if source.is_dir():
            target.mkdir()
            continue
        text = source.read_text().replace("{data}", data).replace("{port}", str(port))
        target.write_text(text)
    (folder / "words").write_text(WORDS)
    (folder / "www" / "big").write_bytes(BIG)


def get_files(port: int) -> str:
    """Over one connection: a small file, a large one, a part of it, and one that is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    said = []
    for path, header in (
        ("/index.html", {}),
        ("/big", {}),
        ("/big", {"Range": "bytes=3199000-"}),
        ("/none", {}),
    ):
        connection.request("GET", path, headers=header)
        answer = connection.getresponse()
        body = answer.read()
        whole = {BIG: "big", BIG[3199000:]: "its end"}.get(body, "")
        said.append(f"{answer.status} {whole or body.decode()[:18].strip()}")
    connection.close()
    return "; ".join([*said[:3], said[3][:3]])


def get_root(port: int) -> str:
    """GET / over a new connection, five times; the last answer."""
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        connection.request("GET", "/")
        said = connection.getresponse().read().decode()
        connection.close()
    return said.strip()


def _lines(port: int, *requests: bytes) -> str:
    """Send each request when the one before is answered; the answers."""
    said = []
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        for request in requests:
            connection.sendall(request)
            said.append(connection.recv(65536).decode().replace("\r\n", " ").strip())
    return "; ".join(said)


def redis(port: int) -> str:
    """Strings, lists, a script, expiry, many at once, and a database that is saved."""
    many = b"".join(b"INCR n\r\n" for _ in range(1000))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(many)
        answers = b""
        while not answers.endswith(b":1000\r\n"):
            answers += connection.recv(65536)
    _lines(port, b"BGSAVE\r\n")  # in a VM it is refused, and what comes then still works
    return _lines(
        port,
        b"SET k value\r\n",
        b"GET k\r\n",
        b"RPUSH list a b c\r\n",
        b"LRANGE list 1 2\r\n",
        b"EVAL \"return redis.call('incrby', KEYS[1], 5)\" 1 n\r\n",
        b"FLUSHALL\r\n",
    )


def memcached(port: int) -> str:
    """A value is set, got, and counted up."""
    return _lines(
        port,
        b"set k 0 0 5\r\nvalue\r\n",
        b"get k\r\n",
        b"set n 0 0 1\r\n1\r\n",
        b"incr n 41\r\n",
    )


def unpacked_by_zstd(folder: Path) -> bool:
    """Whether big.zst is the large file."""
    done = subprocess.run(
        ["zstd", "-dcq", str(folder / "big.zst")],
        stdout=subprocess.PIPE,
        check=True,
        timeout=TIMEOUT,
    )
    return done.stdout == BIG


def is_sorted(folder: Path) -> bool:
    """Whether the words are in the opposite order."""
    return (folder / "sorted").read_text().split() == sorted(WORDS.split(), reverse=True)


def returns_five(folder: Path) -> bool:
    """Whether the assembler text is of a function that returns 5."""
    return "$5, %eax" in (folder / "hello.s").read_text()
