import pytest

from pyrovm.bench import halting, questions
from pyrovm.bench.figures import Answer, Sample
from pyrovm.bench.guests import RESETS, STAYS, TICKS, elf, init_code
from pyrovm.bench.peers import PROCESS
from pyrovm.bench.questions import process_start, restore
from pyrovm.bench.questions.classic import COLUMNS, table
from pyrovm.bench.questions.exits import purpose, side_by_side
from pyrovm.bench.questions.start import imports_table, parse_imports
from pyrovm.boot.elf import parse

IMPORTTIME = """\
import time: self [us] | cumulative | imported package
import time:       250 |        250 |   _collections_abc
import time:       750 |       1000 | os
something else
"""


def test_imports_are_read_with_what_each_module_took_itself():
    assert parse_imports(IMPORTTIME) == {"_collections_abc": 250, "os": 750}


def test_imports_are_listed_dearest_first_with_their_share():
    runs = [{"os": 700, "abc": 100}, {"os": 800, "abc": 300}, {"os": 900, "abc": 200}]
    assert imports_table(runs) == [
        ["os", "800", "80 %"],
        ["abc", "200", "20 %"],
        ["all", "1000", "100 %"],
    ]


@pytest.mark.parametrize(
    ("reason", "access", "words"),
    [
        ("IO", "write 0x70", "RTC: time of day"),
        ("IO", "read 0x3fd", "serial port"),
        ("IO", "read 0x2f9", "second serial port: probe"),
        ("IO", "read 0x999", "unknown (read)"),
        ("MMIO", "write 0xc0001070", "virtio device registers"),
        ("SHUTDOWN", "", "the guest's reset"),
        ("HYPERV", "", ""),
    ],
)
def test_an_exit_has_a_purpose(reason, access, words):
    assert purpose(reason, access) == words


def test_exits_of_both_stand_side_by_side_with_ours_in_order():
    ours = [("IO", "read 0x64", 11), ("IO", "write 0x70", 12)]
    theirs = [("IO", "read 0x511", 56), ("IO", "read 0x64", 17)]
    assert [[row[1], *row[3:]] for row in side_by_side(ours, theirs)] == [
        ["write 0x70", "12", "0"],
        ["read 0x64", "11", "17"],
        ["read 0x511", "0", "56"],
    ]


def test_every_question_belongs_to_one_topic_that_says_how_it_is_answered():
    topics = questions.topics(questions.QUESTIONS)
    assert sorted(name for topic in topics for name in topic.questions) == sorted(questions.ALL)
    assert all(topic.heading.endswith("?") and topic.method for topic in topics)
    some = questions.topics(questions.chosen(["net", "start"]))
    assert [topic.questions for topic in some] == [["start"], ["net"]]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["vsock", "disk"], ["disk", "vsock"]),
        (["memory", "traffic"], ["memory", "disk", "net", "vsock"]),
        (["boot"], ["boot-lean-counted", "boot-cloud-counted"]),
        (["boot-lean"], ["boot-lean"]),
    ],
)
def test_questions_are_chosen_by_name_or_by_topic(words, names):
    assert [question.name for question in questions.chosen(words)] == names


def test_everything_is_asked_where_nothing_is_named_and_fits_a_quarter_of_an_hour():
    everything = questions.chosen([])
    assert everything == [each for each in questions.QUESTIONS if not each.on_demand]
    alone = sum(question.budget_s for question in everything if question.alone)
    shared = sum(question.budget_s for question in everything if not question.alone)
    assert alone + shared / 2 <= 15 * 60


def test_the_classic_table_has_a_row_for_each_kind_that_was_measured():
    memory = {"private": [20, 30, 40], "proportional": [50], "kernel": [6]}
    seen = {"vm": {"start": [1621.4], **memory}, "process": {"start": [0.297], **memory}}
    images = {"vm": 13855.0, "crun": 36.8, "process": 36.8}
    rows = table(seen, {"process": [0.91], "crun": [23.1]}, images)
    assert rows == [
        ["virtual machine (QEMU PC)", "1621", "", "13855", "30", "50", "6"],
        ["container (crun)", "", "23.1", "36.8", "", "", ""],
        ["process", "0.297", "0.91", "36.8", "30", "50", "6"],
    ]
    assert all(len(row) == len(COLUMNS) for row in rows)


@pytest.mark.parametrize("then", [RESETS, STAYS, TICKS])
def test_init_is_a_program_whose_code_begins_at_its_entry(then):
    code = init_code(then)
    program = elf(code)
    image = parse(lambda offset, size: program[offset : offset + size], len(program))
    (segment,) = image.segments
    assert (segment.file_offset, segment.file_size) == (0, len(program))
    assert program[image.entry - segment.gpa :] == code


@pytest.mark.parametrize("code", [halting.kernel(), halting.busy_kernel(128)])
def test_guests_of_a_few_bytes_are_kernels_with_a_pvh_entry(code):
    image = parse(lambda offset, size: code[offset : offset + size], len(code))
    (segment,) = image.segments
    assert image.pvh_entry == segment.gpa
    assert code[segment.file_offset :].startswith(b"\x66\xba\xf8\x03")


def test_the_busy_guest_goes_round_its_memory():
    code = halting.busy_kernel(64)
    begin = code.index(b"\xbf\x00\x00\x20\x00")  # mov edi, 2 MiB
    page = code.index(b"\xfe\x07")
    compare = code.index(b"\x81\xff\x00\x00\x00\x04")  # cmp edi, 64 MiB
    back = compare + 6
    assert code[back] == 0x72  # jb
    assert back + 2 + code[back + 1] - 256 == page
    again = back + 2 + 3  # behind the new line
    assert code[again] == 0xEB  # jmp
    assert again + 2 + code[again + 1] - 256 == begin


def test_a_restore_is_compared_at_one_size_and_its_growth_with_itself():
    found = Answer()
    ours = {128: 33.0, 512: 33.2, 2048: 34.1}
    times = {
        "pyrovm": {mib: {"entry": [ms], "hypercall": [ms + 3]} for mib, ms in ours.items()},
        "QEMU microvm": {512: {"entry": [125.0], "hypercall": [360.0]}},
    }
    restore._figures(found, times, "lean")
    entry, hypercall, growth = found.figures
    assert (entry.ratio, entry.is_met) == (pytest.approx(33.2 / 125), True)
    assert hypercall.is_met is None
    assert (growth.ratio, growth.is_met) == (pytest.approx(34.1 / 33.0), True)
    (curve,) = found.curves
    assert curve.lines["pyrovm"] == [(128, 33.0), (512, 33.2), (2048, 34.1)]
    assert curve.lines["QEMU microvm"] == [(512, 125.0)]


def test_a_restore_without_a_peer_has_no_ratio():
    found = Answer()
    times = {"pyrovm": {mib: {"entry": [1.0], "hypercall": [2.0]} for mib in (512, 1024)}}
    restore._figures(found, times, "lean")
    assert found.figures[0].is_met is None


def test_the_speed_of_starts_is_shown_for_each_way_ours_first():
    found = Answer()
    ways = [process_start.OURS, process_start.BY_LAUNCHER, process_start.OURS_FROM_PYTHON]
    theirs = [PROCESS, f"{PROCESS}, from Python", "crun"]
    samples = {name: Sample.of([float(at)]) for at, name in enumerate([*ways, *theirs], 1)}
    process_start._compare(found, samples, theirs)
    cold, launched, _ = found.figures
    assert (cold.peer_name, [*cold.others]) == (PROCESS, ["crun"])
    assert launched.ratio == 2.0
    (bars,) = found.bars
    assert [*bars.values] == [*ways, *theirs]
