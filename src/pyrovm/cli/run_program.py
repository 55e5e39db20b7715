"""``pyrovm run PROGRAM``: one Linux program in a VM of its own, as if it were a process.

``pyrovm run --kernel`` boots a Linux guest instead: :mod:`pyrovm.cli.run`.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter_ns, process_time_ns

from pyrovm.cli.run_kind import is_kernel_run
from pyrovm.cli.run_program_options import Options, parse
from pyrovm.errors import ConfigError, PyrovmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.image.index import Entry
    from pyrovm.programs.named import Named
    from pyrovm.unikernel.run import Outcome

EXIT_USAGE, EXIT_FAILED = 2, 125  # 125: pyrovm itself failed, as with docker run


def main(argv: Sequence[str]) -> int:
    """Run the program, or with ``--kernel`` the Linux guest; the exit status."""
    if is_kernel_run(argv):
        from pyrovm.cli import run

        return run.main(argv)
    try:
        options = parse(argv)
    except ConfigError as error:
        print(f"pyrovm run: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options is None:  # the help has been printed
        return 0
    try:
        return _run(options)
    except PyrovmError as error:
        print(f"pyrovm run: {error}", file=sys.stderr)
        return EXIT_FAILED


def _run(options: Options) -> int:
    if not options.id:
        return _perform(options)
    from pyrovm.programs.named import Named

    facts = {"program": options.command, "memory_bytes": options.memory}
    with Named(options.id, facts) as named:
        return _perform(options, named)


def _perform(options: Options, named: Named | None = None) -> int:
    """Run the program; a copy of one that is named returns, too, when it has ended."""
    from pyrovm.abi.libos import PV_FLAG_TRACE
    from pyrovm.libos import build
    from pyrovm.unikernel.outside import Outside
    from pyrovm.unikernel.program import Program, environment
    from pyrovm.unikernel.run import run

    # Until here the process has done nothing but compute: its CPU time is the time it is there.
    begun_ns = perf_counter_ns() - process_time_ns()
    outside = Outside(options.allow, options.publish, options.volumes, options.hostname)
    if named:
        named.serve(outside)
    image = find_image(options.command)
    found_ns = perf_counter_ns()
    env = environment(options.hostname) | dict(image.env)
    if os.isatty(1) and "TERM" in os.environ:
        env["TERM"] = os.environ["TERM"]
    env.update(options.env)
    program = Program(
        image.root,
        image.exe,
        [*image.argv, *options.command[1:]],
        env,
        memory=options.memory,
        cpus=options.cpus,
        cwd=options.workdir or image.cwd,
        hostname=options.hostname,
        flags=PV_FLAG_TRACE if options.trace else 0,
        folders=[(share.guest, share.read_only) for share in outside.shares],
    )
    memory: dict[str, int] = {}
    try:
        outcome = run(
            program,
            build.path(),
            engine=options.engine,
            timeout=options.timeout,
            prepare=named.attach if named else outside.attach,
            paused=named.paused if named else None,
            ended=(lambda _: memory.update(_measure())) if options.json else None,
        )
    finally:
        outside.close()
    if outcome.panic:
        print(f"pyrovm run: the library OS has failed: {outcome.panic}", file=sys.stderr)
    if outcome.timed_out:
        print(f"pyrovm run: ended after --timeout {options.timeout:g} s", file=sys.stderr)
    if options.json:
        moments = {
            "image found": found_ns,
            "VM built": outcome.built_ns,
            "program ended": outcome.ended_ns,
        }
        timeline = {name: round((at - begun_ns) / 1e6, 3) for name, at in moments.items()}
        print(_json(outcome, image, timeline, memory), file=sys.stderr)
    return outcome.status


def find_image(command: Sequence[str]) -> Entry:
    """The image that the first word names, or the one made of the program that it names.

    Raises:
        ConfigError: it names neither.
        HostError: the image cannot be built.
    """
    from pyrovm.image import index

    image = index.named(command[0]) or index.find_program(command[0])
    if image is not None:
        return image
    if not os.isatty(2):  # standard error is the program's
        return index.find_or_build(command)
    from pyrovm.guest.progress import Progress

    progress = Progress("image")
    try:
        return index.find_or_build(command, progress)
    finally:
        progress.done()


def _measure() -> dict[str, int]:
    """What this process takes, guest and all, in KiB."""
    sizes = {"private": 0, "proportional": 0}
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Private_Clean", "Private_Dirty"):
                sizes["private"] += int(rest.split()[0])
            elif name == "Pss":
                sizes["proportional"] = int(rest.split()[0])
    return sizes


def _json(
    outcome: Outcome, image: Entry, timeline: dict[str, float], memory: dict[str, int]
) -> str:
    import json

    return json.dumps(
        {
            "status": outcome.status,
            "timed_out": outcome.timed_out,
            "engine": outcome.engine,
            "cpus": outcome.cpus,
            "image": image.digest,
            "exits": outcome.exits,
            "build_ms": round(timeline["VM built"] - timeline["image found"], 3),
            "run_ms": round((outcome.ended_ns - outcome.built_ns) / 1e6, 3),
            "timeline_ms": timeline,  # since the process started
            "memory_kib": memory,
        }
    )
