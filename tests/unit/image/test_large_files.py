"""Large programs lie at multiples of 2 MiB of an image, and nothing else changes."""

import os
import random

import pytest

from pyrovm.guest import programs
from pyrovm.image import erofs, large_files

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path, mkfs):
    """Files of all kinds, made anew by each call: folder() -> (path, contents by path)."""

    def make(name="root"):
        noise = random.Random(1)
        contents = {
            "lib/large.so": b"\x7fELF" + noise.randbytes(5 * MIB + 77),
            "lib/deep/er/program": b"\x7fELF" + noise.randbytes(4 * MIB),
            "lib/small.so": b"\x7fELF" + noise.randbytes(9000),
            "share/data": noise.randbytes(5 * MIB),
            "empty": b"",
            # More names than a block has room for.
            **{f"many/a-file-with-a-long-name-{n:040}": b"%d" % n for n in range(300)},
            "many/large\udcff.so": b"\x7fELF" + noise.randbytes(4 * MIB + 4096),
        }
        for path, data in contents.items():
            at = tmp_path / name / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(data)
            at.chmod(0o755 if path.endswith((".so", "program")) else 0o644)
        os.symlink("large.so", tmp_path / name / "lib" / "link.so")
        return tmp_path / name, contents

    return make


def test_all_files_are_what_they_were(folder, tmp_path):
    if programs.find("fsck.erofs") is None:
        pytest.skip("no fsck.erofs: apt-get install erofs-utils")
    root, contents = folder()
    image, out = tmp_path / "image", tmp_path / "out"
    erofs.make(image, root)
    programs.run("fsck.erofs", f"--extract={out}", image)
    for path, data in contents.items():
        assert (out / path).read_bytes() == data, path
        mode = 0o755 if path.endswith((".so", "program")) else 0o644
        assert (out / path).stat().st_mode & 0o777 == mode, path
    assert os.readlink(out / "lib" / "link.so") == "large.so"
    assert not list(tmp_path.glob("large-*"))


def test_large_programs_lie_at_multiples_of_2_mib(folder, tmp_path):
    root, contents = folder()
    image = tmp_path / "image"
    erofs.make(image, root)
    raw = image.read_bytes()
    for path, data in contents.items():
        if data[:4] == b"\x7fELF" and len(data) >= large_files.SMALLEST:
            assert raw.index(data) % large_files.ALIGNMENT == 0, path
    assert len(raw) < sum(map(len, contents.values())) + 7 * MIB
    erofs.check(raw[:8192], len(raw))


def test_the_same_files_make_the_same_image(folder, tmp_path):
    for name in ("one", "two"):
        root, _ = folder(name)
        erofs.make(tmp_path / f"image-{name}", root)
    assert (tmp_path / "image-one").read_bytes() == (tmp_path / "image-two").read_bytes()
