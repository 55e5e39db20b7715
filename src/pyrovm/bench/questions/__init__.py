"""The questions, by the names that ``pyrovm bench`` knows them by.

Each is a function that takes a :data:`~bench.progress.Show` and returns an
:class:`~bench.figures.Answer`.  ``ALONE`` are those that measure time on the wall: nothing else
runs beside them.  The others count, so two of them may.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType

from pyrovm.bench.figures import Answer
from pyrovm.bench.progress import Show
from pyrovm.bench.questions import boot, exits, memory, programs, start, traffic
from pyrovm.bench.questions.programs import memory as program_memory
from pyrovm.bench.questions.programs import server, speed
from pyrovm.bench.questions.programs import start as program_start
from pyrovm.bench.results import Topic

Question = Callable[[Show], Answer]

ALONE: dict[str, Question] = {
    "start": start.answer,
    "programs-start": program_start.answer,
    "programs-speed": speed.answer,
    "programs-server": server.answer,
    "programs-memory": program_memory.answer,
    "boot-lean": partial(boot.answer, "lean", counted=False),
    "boot-cloud": partial(boot.answer, "cloud", counted=False),
}
SHARED: dict[str, Question] = {
    "boot-lean-counted": partial(boot.answer, "lean", counted=True),
    "boot-cloud-counted": partial(boot.answer, "cloud", counted=True),
    "net": traffic.net,
    "disk": traffic.disk,
    "vsock": traffic.vsock,
    "exits": exits.answer,
    "memory": memory.answer,
}
ALL = ALONE | SHARED

_TOPICS: dict[str, tuple[ModuleType, list[str]]] = {
    "start": (start, ["start"]),
    "programs": (
        programs,
        ["programs-start", "programs-speed", "programs-server", "programs-memory"],
    ),
    "boot": (boot, ["boot-lean", "boot-cloud", "boot-lean-counted", "boot-cloud-counted"]),
    "exits": (exits, ["exits"]),
    "memory": (memory, ["memory"]),
    "traffic": (traffic, ["disk", "net", "vsock"]),
}
NAMES = sorted({*_TOPICS, *ALL})


def chosen(words: Collection[str]) -> list[str]:
    """The questions that ``words`` name, one by one or by their topics, in the order of ``ALL``."""
    wanted = {*words}
    for name, (_, members) in _TOPICS.items():
        if name in words:
            wanted.update(members)
    return [name for name in ALL if name in wanted]


def topics(names: Collection[str]) -> list[Topic]:
    """How the questions ``names`` are answered, as the modules' docstrings tell."""
    found = []
    for topic, (module, members) in _TOPICS.items():
        asked = [name for name in members if name in names]
        heading, _, method = inspect.cleandoc(module.__doc__ or "").partition("\n")
        if asked:
            found.append(Topic(topic, heading, method.strip(), asked))
    return found
