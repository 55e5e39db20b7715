import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError
from pyrovm.image import archive, erofs, manifest
from pyrovm.image.manifest import File, Manifest, ManifestError

SUPERBLOCK = erofs._SUPERBLOCK.pack(
    erofs.MAGIC, 0, 0, 12, 0, 36, 1, 0, 0, 2, 0, 0, bytes(16), bytes(16), 0
)
ROOT = (bytes(1024) + SUPERBLOCK).ljust(8192, b"\0")


def described(root=ROOT, **fields):
    values = {"root_sha256": manifest.digest(root), "root_size_bytes": len(root), **fields}
    return Manifest("x", "/x", ("x",), {}, "/", files={"/x": File(1, "why")}, **values).encode()


def archived(data=None, root=ROOT):
    file = io.BytesIO()
    archive.write(file, data or described(root), io.BytesIO(root), len(root))
    return file.getvalue()


def take(data):
    taken = io.BytesIO()
    return archive.read(io.BytesIO(data), taken.write), taken.getvalue()


def tarred(*members, form=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member, data in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member(name, kind, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def test_what_is_written_is_read_back():
    assert take(archived()) == (described(), ROOT)


def test_it_is_a_tar_and_always_the_same():
    assert archived() == archived()
    with tarfile.open(fileobj=io.BytesIO(archived())) as tar:
        assert tar.getnames() == ["manifest.json", "root.erofs"]
    assert len(archived()) % tarfile.RECORDSIZE == 0


def test_another_tar_program_s_archive_of_the_two_files_will_do():
    assert take(tarred(("manifest.json", described()), ("root.erofs", ROOT)))[1] == ROOT


@given(st.integers(0, len(archived()) - 1))
def test_a_truncated_archive_is_refused_unless_only_padding_is_gone(size):
    try:
        found = take(archived()[:size])
    except ConfigError:
        return
    assert found == (described(), ROOT)


@given(st.integers(0, 1023), st.binary(min_size=1, max_size=30))
def test_a_damaged_archive_is_refused_or_the_same(at, noise):
    data = archived()
    try:
        found = take(data[:at] + noise + data[at + len(noise) :])
    except ConfigError:
        return
    assert found[1] == ROOT


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../../etc/passwd", b"x")], "etc/passwd"),
        ([("/manifest.json", b"x")], "/manifest.json"),
        ([("./manifest.json", b"x")], "regular file manifest.json belongs"),
        ([("root.erofs", ROOT), ("manifest.json", b"x")], "root.erofs"),
        ([(member("manifest.json", tarfile.SYMTYPE, "/etc/passwd"), b"")], "regular file"),
        ([(member("manifest.json", tarfile.LNKTYPE, "/etc/passwd"), b"")], "regular file"),
        ([(member("manifest.json", tarfile.FIFOTYPE), b"")], "regular file"),
        ([(member("manifest.json", tarfile.GNUTYPE_SPARSE), b"x")], "regular file"),
        ([("manifest.json", b"")], "manifest.json of 0 bytes"),
        ([("manifest.json", b"x")], "no JSON"),
        ([("manifest.json", described())], "root.erofs"),
        ([("manifest.json", described()), ("root.erofs", ROOT + ROOT)], "its manifest says 8192"),
        (
            [("manifest.json", described()), ("root.erofs", ROOT[:-1] + b"x")],
            "has digest",
        ),
        (
            [("manifest.json", described()), ("root.erofs", ROOT), ("more", b"x")],
            "more behind",
        ),
        (
            [("manifest.json", described(bytes(8192))), ("root.erofs", bytes(8192))],
            "no EROFS image",
        ),
    ],
)
def test_what_is_not_ours_is_refused(members, said):
    with pytest.raises(ConfigError, match=said):
        take(tarred(*members))


def test_extended_headers_are_refused():
    long = tarred(("x" * 150, b"x"), form=tarfile.PAX_FORMAT)
    with pytest.raises(ConfigError, match=r"regular file manifest.json belongs"):
        take(long)


def test_an_oversized_promise_is_refused_before_it_is_read():
    huge = tarfile.TarInfo("manifest.json")
    huge.size = manifest.MAX_BYTES + 1
    with pytest.raises(ConfigError, match="67108864 allowed"):
        take(huge.tobuf(tarfile.USTAR_FORMAT))


def test_endless_zeros_behind_an_archive_are_refused():
    class Endless(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) or bytes(size)

    with pytest.raises(ConfigError, match="more behind"):
        archive.read(Endless(archived()), lambda chunk: None)


@pytest.mark.parametrize("data", [b"", b"x", bytes(512), bytes(10240), b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_is_refused(data):
    with pytest.raises(ConfigError):
        take(data)


def test_a_manifest_of_another_schema_is_refused():
    with pytest.raises(ManifestError, match="schema"):
        take(archived(described().replace(b'"schema":1', b'"schema":9')))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0: 0}, "magic 0x0"),
        ({3: 9}, r"blocks of 2\^9"),
        ({14: 1}, "features 0x1"),
        ({9: 3}, "3 blocks in a file of 8192"),
    ],
)
def test_a_file_system_that_cannot_be_mapped_is_refused(change, said):
    fields = list(erofs._SUPERBLOCK.unpack(SUPERBLOCK))
    for at, value in change.items():
        fields[at] = value
    data = bytes(1024) + erofs._SUPERBLOCK.pack(*fields)
    with pytest.raises(ConfigError, match=said):
        erofs.check(data.ljust(8192, b"\0"), 8192)
