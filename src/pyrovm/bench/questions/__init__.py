"""The questions, by the names that ``pyrovm bench`` knows them by, and the topics they belong to.

Each is a function that takes :class:`~pyrovm.bench.terms.Terms` and returns an
:class:`~pyrovm.bench.figures.Answer`.  Those that measure time on the wall have the machine for
themselves (``alone``); two of those that count may be answered at once.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType

from pyrovm.bench.figures import Answer
from pyrovm.bench.questions import (
    boot,
    branch,
    classic,
    density,
    exits,
    launcher,
    memory,
    process_start,
    programs,
    restore,
    snapshots,
    solo5,
    start,
    templates,
    traffic,
)
from pyrovm.bench.questions.programs import cores, server, speed
from pyrovm.bench.questions.programs import memory as program_memory
from pyrovm.bench.questions.programs import start as program_start
from pyrovm.bench.results import Topic
from pyrovm.bench.terms import Terms


@dataclasses.dataclass(frozen=True)
class Question:
    """What can be asked; ``budget_s`` is the time in which it wants to be answered."""

    name: str
    topic: ModuleType  # whose docstring is the heading, and how it is measured
    answer: Callable[[Terms], Answer]
    budget_s: float
    alone: bool = True
    on_demand: bool = False  # only where it is named


QUESTIONS = [
    Question("start", start, start.answer, 15),
    Question("launcher", launcher, launcher.answer, 40),
    Question("process-start", process_start, process_start.answer, 30),
    Question("programs-start", programs, program_start.answer, 40),
    Question("programs-speed", programs, speed.answer, 40),
    Question("programs-cpus", programs, cores.answer, 20),
    Question("programs-server", programs, server.answer, 50),
    Question("programs-memory", programs, program_memory.answer, 30),
    Question("solo5", solo5, solo5.answer, 10),
    Question("snapshots", snapshots, snapshots.answer, 30),
    Question("templates", templates, templates.answer, 45),
    Question("branch", branch, branch.answer, 40),
    Question("density", density, density.answer, 60),
    Question("boot-lean", boot, partial(boot.answer, "lean", counted=False), 120, on_demand=True),
    Question("boot-cloud", boot, partial(boot.answer, "cloud", counted=False), 240, on_demand=True),
    Question("boot-lean-counted", boot, partial(boot.answer, "lean", counted=True), 60, False),
    Question("boot-cloud-counted", boot, partial(boot.answer, "cloud", counted=True), 60, False),
    Question("branch-linux", branch, branch.linux, 30, False),
    Question("restore", restore, restore.answer, 120, False),
    Question("classic", classic, classic.answer, 60, False),
    Question("exits", exits, exits.answer, 60, False),
    Question("memory", memory, memory.answer, 30, False),
    Question("disk", traffic, traffic.disk, 60, False),
    Question("net", traffic, traffic.net, 60, False),
    Question("vsock", traffic, traffic.vsock, 60, False),
]
ALL = {question.name: question for question in QUESTIONS}


def _topic_of(question: Question) -> str:
    return question.topic.__name__.rpartition(".")[2].replace("_", "-")


TOPICS = [*dict.fromkeys(map(_topic_of, QUESTIONS))]
NAMES = sorted({*TOPICS, *ALL})


def chosen(words: Collection[str]) -> list[Question]:
    """The questions that ``words`` name, one by one or by their topics; all if there are none.

    By topic, or as one of all, those are left out that are answered on demand.
    """
    return [
        question
        for question in QUESTIONS
        if question.name in words
        or ((not words or _topic_of(question) in words) and not question.on_demand)
    ]


def topics(asked: Collection[Question]) -> list[Topic]:
    """How the questions are answered, as the modules' docstrings tell."""
    found: dict[str, Topic] = {}
    for question in asked:
        heading, _, method = inspect.cleandoc(question.topic.__doc__ or "").partition("\n")
        name = _topic_of(question)
        topic = found.setdefault(name, Topic(name, heading, method.strip(), []))
        topic.questions.append(question.name)
    return sorted(found.values(), key=lambda topic: TOPICS.index(topic.name))
