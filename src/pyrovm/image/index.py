"""What was built before, found again without reading a manifest.

Light: this is all that a start from an image imports, so it knows neither json nor pathlib.  Two
kinds of small files, both derived and made again when missing:

* ``SHA256/entry`` in an image's folder: what to run, fields ``name=value`` ended by NUL.
* ``index/KEY``: which image was made for a program, with size, mtime and inode of the files that
  decided over its contents.  If one of them differs, the image is stale and is not found.
"""

from __future__ import annotations

import os

from pyrovm.errors import ConfigError
from pyrovm.guest.cache_root import cache_root
from pyrovm.image.which import find_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrovm.guest.progress import Progress

MANIFEST = "manifest.json"
ROOT = "root.erofs"
ENTRY = "entry"
LOCKS = "locks"  # in the index

# In every key: images made by an older builder are made anew.
BUILDER = "4"
_MAGIC = b"pyrovm image index 1"
DIGEST_DIGITS = 64
SHORTEST_DIGEST = 6  # digits by which an image may be called


class Entry:
    """What a VM needs to know of its image."""

    __slots__ = ("argv", "cwd", "digest", "env", "exe", "folder")

    def __init__(
        self,
        digest: str,
        folder: str,
        exe: str,
        argv: tuple[str, ...],
        env: tuple[tuple[str, str], ...],
        cwd: str,
    ) -> None:
        self.digest = digest  # 64 hexadecimal digits
        self.folder = folder  # of the cache
        self.exe = exe  # absolute path in the image, no links in it
        self.argv = argv  # begins with the program's name; arguments of a run are appended
        self.env = env
        self.cwd = cwd

    @property
    def root(self) -> str:
        """The EROFS image on the host."""
        return f"{self.folder}/{ROOT}"


def home() -> str:
    """The folder of all images; it need not exist."""
    return os.path.join(cache_root(), "images")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a whole digest."""
    return len(text) == DIGEST_DIGITS and not text.strip("0123456789abcdef")


def folder_of(digest: str) -> str:
    """Where the image with this digest is, if it is here."""
    return os.path.join(home(), digest)


def encode_entry(entry: Entry) -> bytes:
    """The contents of an image's ``entry`` file."""
    fields = [("exe", entry.exe), ("cwd", entry.cwd)]
    fields += [("argv", word) for word in entry.argv]
    fields += [("env", f"{name}={value}") for name, value in entry.env]
    return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in fields)


def entry(digest: str) -> Entry | None:
    """The image with this digest, or None where it is not in the cache."""
    folder = folder_of(digest)
    try:
        with open(f"{folder}/{ENTRY}", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    fields: dict[str, list[str]] = {"exe": [], "cwd": [], "argv": [], "env": []}
    for record in data.split(b"\0")[:-1]:
        name, _, value = os.fsdecode(record).partition("=")
        fields[name].append(value)
    env = tuple((name, value) for name, _, value in (pair.partition("=") for pair in fields["env"]))
    return Entry(digest, folder, fields["exe"][0], tuple(fields["argv"]), env, fields["cwd"][0])


def named(word: str) -> Entry | None:
    """The image that a name, a digest or the beginning of one stands for, or None.

    Raises:
        ConfigError: several images begin with these digits.
    """
    if not word or "/" in word or "\0" in word:
        return None
    try:
        target = os.readlink(os.path.join(home(), "names", word))
    except OSError:
        target = ""
    if target:
        return entry(os.path.basename(target))
    digits = word.removeprefix("sha256:")
    if len(digits) < SHORTEST_DIGEST or digits.strip("0123456789abcdef"):
        return None
    if len(digits) == DIGEST_DIGITS:
        return entry(digits)
    try:
        names = os.listdir(home())
    except FileNotFoundError:
        return None
    matching = [name for name in names if is_digest(name) and name.startswith(digits)]
    if len(matching) > 1:
        raise ConfigError(f"{word}: {len(matching)} images begin with it")
    return entry(matching[0]) if matching else None


def find(source: str) -> Entry | None:
    """The image made earlier for this file (an absolute path), if nothing has changed since."""
    key = _key(source)
    records = _records(index_path(source))
    if records is None or records[1] != key or not _is_current(records):
        return None
    return entry(records[2].decode("ascii"))


def current() -> list[str]:
    """The digests of the images that :func:`find` would find now."""
    folder = os.path.join(home(), "index")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [_records(os.path.join(folder, name)) for name in names if name != LOCKS]
    return [records[2].decode("ascii") for records in found if records and _is_current(records)]


def forget_stale() -> None:
    """Remove the notes by which nothing is found any more."""
    folder = os.path.join(home(), "index")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        records = None if name == LOCKS else _records(path)
        if records is not None and not _is_current(records):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass  # another process did


def remember(source: str, digest: str, inputs: Iterable[str]) -> None:
    """Note which image was made for ``source``, and the files and folders that decided over it."""
    key = _key(source)
    records = [_MAGIC, key, digest.encode()]
    paths = sorted({os.fsencode(path) for path in inputs})
    records += [_signature(path) + b" " + path for path in paths]
    target = index_path(source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = f"{target}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(b"\0".join(records) + b"\0")
    os.replace(temporary, target)


def find_program(word: str) -> Entry | None:
    """The image made earlier for this program, found as a shell would find it; or None."""
    source = find_source(word)
    return None if source is None else find(source)


def find_or_build(argv: Sequence[str], progress: Progress | None = None) -> Entry:
    """The image for the program ``argv[0]``; built now where there is none or it is stale.

    The program is an ELF file, a script, a Python or C source, found as a shell would find it; the
    words after it play no part.

    Raises:
        ConfigError: there is no such program, or it cannot become an image.
        HostError: a tool failed or is missing.
    """
    source = find_source(argv[0]) if argv else None
    if source is None:
        raise ConfigError(f"{argv[0] if argv else ''!r}: no such program")
    found = find(source)
    if found is None:
        from pyrovm.image.build import build_for_run

        found = build_for_run(source, progress)
    return found


def _key(source: str) -> bytes:
    return os.fsencode(f"{BUILDER} {source}")


def index_path(source: str) -> str:
    """Where it is noted which image was made for ``source``."""
    value = 0xCBF29CE484222325  # FNV-1a costs no import; the key itself is compared
    for byte in _key(source):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return os.path.join(home(), "index", f"{value:016x}")


def _records(path: str) -> list[bytes] | None:
    """Magic, key, digest, then one for each input; None for what is no such file."""
    try:
        with open(path, "rb") as file:
            records = file.read().split(b"\0")
    except FileNotFoundError:
        return None
    return records[:-1] if len(records) > 3 and records[0] == _MAGIC else None


def _is_current(records: list[bytes]) -> bool:
    for record in records[3:]:
        known, _, path = record.partition(b" ")
        if _signature(path) != known:
            return False
    return True


def _signature(path: bytes) -> bytes:
    try:
        info = os.stat(path)
    except OSError:
        return b"-"
    return b"%d:%d:%d:%d" % (info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev)
