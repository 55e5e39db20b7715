"""The API's contract as a table, asked of the real server over a real Unix socket."""

from __future__ import annotations

import json

import pytest

from tests.fakes.api import Api
from tests.unit.api.contract_rows import BLOCKS


@pytest.fixture
def api(tmp_path):
    for name in ("kernel", "disk", "other"):
        (tmp_path / name).write_bytes(b"\0" * 512)
    with Api(tmp_path, mmds_size_limit=200) as api:
        yield api


def matches(expected, body):
    """``…`` in the expected text stands for anything."""
    parts = expected.split("…")
    if len(parts) == 1:
        return body == expected
    at = 0
    for index, part in enumerate(parts):
        found = body.find(part, at)
        if found < 0 or (index == 0 and found):
            return False
        at = found + len(part)
    return not parts[-1] or body.endswith(parts[-1])


def test_the_table_has_at_least_200_rows():
    assert sum(len(row) == 5 for rows in BLOCKS.values() for row in rows) >= 200


@pytest.mark.parametrize("block", BLOCKS)
def test_every_row_is_answered_as_the_contract_says(block, api, tmp_path):
    client = api.connect()
    for row in BLOCKS[block]:
        method, path, body, *expected = row
        sent = None if body is None else body.replace("{dir}", str(tmp_path))
        reply = client.request(method, path, sent)
        if not expected:
            assert reply.status == 204, f"{row}: {reply.body}"
            continue
        status, text = expected
        where = f"{method} {path} {body}: got {reply.status} {reply.body}"
        assert reply.status == status, where
        if text is None:
            assert reply.raw.endswith(b"\r\n\r\n"), where
            assert "Content-Length" not in reply.headers
            continue
        assert reply.headers["Content-Type"] == "application/json"
        found = reply.body
        if status != 200:
            fields = json.loads(reply.body)
            assert list(fields) == ["fault_message"], where
            found = fields["fault_message"]
        assert matches(text.replace("{dir}", str(tmp_path)), found), where
