"""Programs of others, what each is to do in a VM of its own, and what it has to say then.

``{data}`` is the folder of ``programs_talk.prepare``, ``{port}`` the port that a server listens at.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac

import programs_talk as talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """A program, what it does, and what it says: its output, or what talking to it gave."""

    name: str
    package: str  # Debian's
    command: tuple[str, ...]
    does: str  # for people
    says: str
    options: tuple[str, ...] = ()  # of pyrovm
    talk: Callable[[int], str] | None = None  # of a server: talk(port)
    compiler: tuple[str, ...] = ()  # what makes it, here, as {built}
    source: str = ""  # the folder with what is compiled
    stdin: str = ""  # the file that is its standard input
    then: Callable[[Path], bool] | None = None  # looks at what it left in the folder
    note: str = ""


CASES = (
    Case(
        "nginx",
        "nginx",
        ("/usr/sbin/nginx", "-c", "{data}/nginx.conf"),
        "serves files and parts of them, without worker processes",
        talk.FOUR_FILES,
        talk=talk.get_files,
    ),
    Case(
        "lighttpd",
        "lighttpd",
        ("/usr/sbin/lighttpd", "-D", "-f", "{data}/lighttpd.conf"),
        "serves files and parts of them",
        talk.FOUR_FILES,
        talk=talk.get_files,
    ),
    Case(
        "HAProxy",
        "haproxy",
        ("/usr/sbin/haproxy", "-db", "-f", "{data}/haproxy.cfg"),
        "answers requests, with two threads",
        "hello from haproxy",
        talk=talk.get_root,
    ),
    Case(
        "Redis",
        "redis-server",
        (
            *("/usr/bin/redis-server", "--port", "{port}", "--protected-mode", "no"),
            *("--save", "", "--dir", "/tmp"),
        ),
        "a thousand commands at once, strings, lists, Lua",
        "+OK; $5 value; :3; *2 $1 b $1 c; :1005; +OK",
        talk=talk.redis,
        note="BGSAVE makes a process: it is refused, and Redis goes on",
    ),
    Case(
        "memcached",
        "memcached",
        ("/usr/bin/memcached", "-u", "root", "-p", "{port}", "-U", "0"),
        "sets, gets and counts, with its four threads",
        "STORED; VALUE k 0 5 value END; STORED; 42",
        talk=talk.memcached,
    ),
    Case(
        "SQLite",
        "sqlite3",
        (
            *(
                "/usr/bin/sqlite3",
                "{data}/db",
                "pragma journal_mode=wal",
                "create table t(w unique)",
            ),
            *(".import {data}/words t", "select count(*), max(w) from t"),
        ),
        "makes a database of 20000 rows in a folder of the host, with a write-ahead log",
        f"wal 20000|{max(talk.WORDS.split())}",
    ),
    Case(
        "perl",
        "perl",
        (
            *("/usr/bin/perl", "-MJSON::PP", "-MDigest::SHA=sha1_hex", "-e"),
            "local $/; open F, '{data}/items.json'; $d = decode_json(<F>); $n += $_->{n} for "
            "@{$d->{items}}; print $n, ' ', sha1_hex('perl'), qq(\\n)",
        ),
        "reads JSON, makes a digest",
        f"42 {hashlib.sha1(b'perl').hexdigest()}",
    ),
    Case(
        "Ruby",
        "ruby",
        (
            *("/usr/bin/ruby", "-rjson", "-e"),
            "q = Queue.new; 8.times.map { |i| Thread.new { q << i * i } }.each(&:join); s = 0; "
            "s += q.pop until q.empty?; d = JSON.parse(File.read('{data}/items.json')); "
            "puts s + d['items'].sum { |i| i['n'] }",
        ),
        "reads JSON, runs threads",
        "182",
    ),
    Case(
        "Lua",
        "lua5.4",
        (
            *("/usr/bin/lua5.4", "-e"),
            "n = 0 for line in io.lines('{data}/words') do if line:find('^ff') then n = n + 1 end "
            "end co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) "
            "print(n, co() + co() + co())",
        ),
        "reads lines, matches patterns, runs coroutines",
        f"{sum(word.startswith('ff') for word in talk.WORDS.split())}\t6",
    ),
    Case(
        "Tcl",
        "tcl",
        ("/usr/bin/tclsh", "{data}/a.tcl"),
        "formats times, waits for events",
        "1970-01-02 00:00 42",
    ),
    Case(
        "Guile",
        "guile-3.0",
        (
            "/usr/bin/guile",
            "-c",
            "(use-modules (ice-9 threads)) "
            "(display (apply + (par-map (lambda (x) (* x x)) (iota 10))))",
        ),
        "maps in parallel threads",
        "285",
    ),
    Case(
        "Node.js",
        "nodejs",
        (
            "/usr/bin/node",
            "-e",
            "const {Worker} = require('worker_threads'), fs = require('fs'), c = require('crypto');"
            "new Worker('require(\"worker_threads\").parentPort.postMessage(6 * 7)', {eval: true})"
            ".on('message', m => fs.promises.readFile('{data}/words').then(b => console.log(m, "
            "c.createHash('md5').update(b).digest('hex'))))",
        ),
        "runs a worker thread, reads a file, makes a digest",
        f"42 {hashlib.md5(talk.WORDS.encode()).hexdigest()}",
        ("--memory", "1G"),
    ),
    Case(
        "OpenJDK",
        "openjdk-17-jre-headless",
        ("/usr/bin/java", "{data}/Hello.java"),
        "compiles a class in memory and runs it: parallel streams, threads, garbage collection",
        "499999500000 8",
        ("--memory", "1G"),
        note="one image of 230 MB, mapped and not copied",
    ),
    Case(
        "Go program",
        "golang-go",
        ("{built}", "{port}"),
        "a thousand goroutines, garbage collection, then net/http",
        "sum 499500",
        talk=talk.get_root,
        compiler=("go", "build", "-o", "{built}", "main.go"),
        source="go",
    ),
    Case(
        "Rust program",
        "rustc",
        ("{built}",),
        "threads and channels, a panic that is caught, datagrams",
        "13986000 true datagram",
        compiler=("rustc", "-O", "-o", "{built}", "main.rs"),
        source="rust",
    ),
    Case(
        "ripgrep",
        "ripgrep",
        ("/usr/bin/rg", "--count", "--no-filename", "^ff.*0$", "{data}/words"),
        "searches a file, in Rust",
        str(sum(w.startswith("ff") and w.endswith("0") for w in talk.WORDS.split())),
    ),
    Case(
        "hexyl",
        "hexyl",
        ("/usr/bin/hexyl", "--color=never", "--border=none", "--length=8", "{data}/items.json"),
        "shows bytes, in Rust",
        '00000000 7b 22 69 74 65 6d 73 22 {"items"',
    ),
    Case(
        "fzf",
        "fzf",
        ("/usr/bin/fzf", "--filter=ffab", "--no-sort", "--exact"),
        "searches its standard input, in Go",
        " ".join(w for w in talk.WORDS.split() if "ffab" in w),
        stdin="words",
    ),
    Case(
        "gron",
        "gron",
        ("/usr/bin/gron", "{data}/items.json"),
        "flattens JSON, in Go",
        "json = {}; json.items = []; json.items[0] = {}; json.items[0].n = 1; "
        'json.items[0].name = "a"; json.items[1] = {}; json.items[1].n = 41; '
        'json.items[1].name = "b";',
    ),
    Case(
        "git",
        "git",
        ("/usr/bin/git", "-C", "{data}", "hash-object", "--no-filters", "words"),
        "makes an object's name",
        hashlib.sha1(b"blob %d\0" % len(talk.WORDS) + talk.WORDS.encode()).hexdigest(),
        note="what starts other programs is refused: hooks, pagers, gc, transports",
    ),
    Case(
        "jq",
        "jq",
        ("/usr/bin/jq", "[.items[].n] | add", "{data}/items.json"),
        "adds numbers of JSON",
        "42",
    ),
    Case(
        "gawk",
        "gawk",
        (
            "/usr/bin/gawk",
            '{ n[substr($0, 1, 1)]++ } END { print length(n), n["f"] }',
            "{data}/words",
        ),
        "counts in a file",
        f"16 {sum(w[0] == 'f' for w in talk.WORDS.split())}",
    ),
    Case(
        "BusyBox",
        "busybox-static",
        (
            "/usr/bin/busybox",
            "sh",
            "-c",
            "cd {data}; n=0; while read w; do case $w in ff*) n=$((n+1));; esac; "
            "done < words; echo $n",
        ),
        "its shell, as far as that needs no other process",
        str(sum(w.startswith("ff") for w in talk.WORDS.split())),
        note="pipes and substitutions of the shell need processes",
    ),
    Case(
        "OpenSSL",
        "openssl",
        ("/usr/bin/openssl", "dgst", "-sha256", "-hmac", "key", "-r", "{data}/words"),
        "makes a keyed digest",
        f"{hmac.new(b'key', talk.WORDS.encode(), 'sha256').hexdigest()} */data/words",
    ),
    Case(
        "zstd",
        "zstd",
        ("/usr/bin/zstd", "-q", "-T4", "-19", "-f", "{data}/www/big", "-o", "{data}/big.zst"),
        "compresses with threads; what it wrote is unpacked again",
        "",
        then=talk.unpacked_by_zstd,
    ),
    Case(
        "sort",
        "coreutils",
        (
            "/usr/bin/sort",
            "--parallel=4",
            "-r",
            "-S",
            "1M",
            "-T",
            "/tmp",
            "{data}/words",
            "-o",
            "{data}/sorted",
        ),
        "sorts with threads and temporary files",
        "",
        then=talk.is_sorted,
    ),
    Case(
        "GCC's compiler",
        "gcc",
        ("{cc1}", "-quiet", "-O2", "-nostdinc", "{data}/hello.c", "-o", "{data}/hello.s"),
        "compiles C to assembler",
        "",
        then=talk.returns_five,
        note="the driver gcc starts other programs; cc1, as and ld run",
    ),
)
