"""What is to be run: arguments as a user of the SDK gives them, as a request to the helper."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence

from pyrovm.config.size import size_mib
from pyrovm.errors import ConfigError
from pyrovm.image import index
from pyrovm.image.index import Entry
from pyrovm.libos import build
from pyrovm.programs import wire
from pyrovm.unikernel.program import check_cpus, environment

MIB = 1 << 20
Word = str | bytes | os.PathLike[str]


def words_of(args: Word | Sequence[Word]) -> list[str]:
    """A program and its arguments.

    Raises:
        TypeError: one is neither text nor a path.
    """
    if isinstance(args, str | bytes | os.PathLike):
        args = [args]
    return [os.fsdecode(word) for word in args]


def find_image(program: str) -> Entry:
    """The image of this name, or that of this program, made now where there is none.

    Raises:
        ConfigError: it is neither.
        HostError: the image cannot be built.
    """
    return index.named(program) or index.find_or_build([program])


def request(
    image: Entry,
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    memory: int | str = "512M",
    cpus: int = 1,
    hostname: str = "pyrovm",
    allow: Iterable[str] = (),
    publish: Iterable[str] = (),
    volumes: Iterable[str] = (),
    template: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The record for the helper; ``words`` are the arguments behind the program's name.

    ``template`` are more fields, for one that is to be a template.

    Raises:
        ConfigError: a value is not allowed; says which.
        TypeError: one is of the wrong type.
    """
    check_cpus(cpus)
    folder = os.fspath(cwd) if cwd is not None else image.cwd
    if not folder.startswith("/"):
        raise ConfigError(f"cwd: {folder!r} given; an absolute path in the image is needed")
    variables = environment(hostname) | dict(image.env) | dict(env or {})
    for name in variables:
        if not name or "=" in name:
            raise ConfigError(f"env: {name!r} cannot be the name of a variable")
    for name, values in (("allow", allow), ("publish", publish), ("volumes", volumes)):
        if isinstance(values, str):
            raise TypeError(f"{name}: {values!r} given; a list or tuple of such texts is needed")
    fields = [
        ("image", image.root),
        ("exe", image.exe),
        ("libos", library_os()),
        ("cwd", folder),
        ("hostname", hostname),
        ("memory", str(memory_bytes(memory))),
        ("cpus", str(cpus)),
        *(("argv", word) for word in (*image.argv, *words)),
        *(("env", f"{name}={value}") for name, value in variables.items()),
        *(("allow", rule) for rule in allow),
        *(("publish", rule) for rule in publish),
        *(("volume", _absolute(text)) for text in volumes),
        *template,
    ]
    return _encoded(fields)


def template_request(folder: str, pool: int) -> bytes:
    """The record for a template that was saved in ``folder``."""
    return _encoded([("saved", folder), ("spares", str(pool))])


def branch_request(arguments: Iterable[Word], publish: Iterable[str] = ()) -> bytes:
    """The record for a branch of a template.

    Raises:
        ConfigError: they are too long, or have a NUL byte.
        TypeError: one is of the wrong type.
    """
    for name, values in (("arguments", arguments), ("publish", publish)):
        if isinstance(values, str | bytes):
            raise TypeError(f"{name}: {values!r} given; a list or tuple of such texts is needed")
    return _encoded(
        [
            *(("argument", os.fsdecode(word)) for word in arguments),
            *(("publish", rule) for rule in publish),
        ]
    )


def _encoded(fields: list[tuple[str, str]]) -> bytes:
    try:
        return wire.encode(fields)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def library_os() -> str:
    """The library OS's file; looked for once, for that means a look at all its sources."""
    path = _library_os()
    if not os.path.exists(path):  # removed, as old ones are
        _library_os.cache_clear()
        path = _library_os()
    return path


_library_os = functools.cache(build.path)


def _absolute(volume: str) -> str:
    """``HOST:GUEST[:ro]`` for a process that is elsewhere."""
    host, colon, rest = volume.partition(":")
    return os.path.abspath(host) + colon + rest if host else volume


def memory_bytes(memory: int | str) -> int:
    """``512``, ``"512M"``, ``"1G"`` (numbers are MiB) in bytes, rounded up to 2 MiB.

    Raises:
        ConfigError: it is no size.
    """
    return -(-size_mib(memory) // 2) * 2 * MIB
