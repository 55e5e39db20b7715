"""The server on its socket: many clients, slow clients, rude clients."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from pyrovm.api.http import TOO_MANY_CONNECTIONS
from pyrovm.api.server import MAX_CONNECTIONS, ApiSocket
from pyrovm.errors import HostError
from tests.fakes.api import Api, Client

GET = b"GET /version HTTP/1.1\r\n\r\n"
BAD = b"POST / HTTP/1.1\r\n\r\n"


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path) as api:
        yield api


def put_mmds(body):
    return f"PUT /mmds HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_connection_is_kept_alive(api):
    client = api.connect()
    for _ in range(3):
        assert client.request("GET", "/version").status == 200


def test_pipelined_requests_are_answered_in_order(api):
    client = api.connect()
    client.send(GET + put_mmds(b'{"a":1}') + b"GET /mmds HTTP/1.1\r\n\r\n" + GET)
    assert [client.reply().body for _ in range(4)] == [
        '{"firecracker_version":"1.17.0-dev"}',
        "",
        '{"a":1}',
        '{"firecracker_version":"1.17.0-dev"}',
    ]


def test_more_pipelined_requests_than_one_turn_are_all_answered(api):
    client = api.connect()
    client.send(GET * 200)
    assert [client.reply().status for _ in range(200)] == [200] * 200


def test_a_malformed_request_takes_unanswered_ones_with_it(api):
    client = api.connect()
    client.send(put_mmds(b'{"lost":1}') + BAD)
    reply = client.reply()
    assert reply.status == 400
    assert reply.body == (
        '{ "error": "Invalid HTTP Method: Unsupported HTTP method.\n'
        'All previous unanswered requests will be dropped." }'
    )
    assert client.request("GET", "/mmds").body == "{}"


def test_the_body_is_asked_for_when_the_client_waits(api):
    client = api.connect()
    client.send(b"PUT /mmds HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.reply().status == 100
    client.send(b"{}")
    assert client.reply().status == 204


def test_a_body_over_the_limit_is_refused_and_the_connection_lives(api):
    client = api.connect()
    client.send(put_mmds(b"x" * 51201))
    reply = client.reply()
    assert (reply.status, reply.headers["Content-Length"]) == (400, "149")
    assert client.request("GET", "/version").status == 200


def test_the_eleventh_connection_is_turned_away(api):
    clients = [api.connect() for _ in range(MAX_CONNECTIONS)]
    assert all(client.request("GET", "/version").status == 200 for client in clients)
    late = api.connect()
    for _ in range(10):
        late.receive()
    assert late.data == TOO_MANY_CONNECTIONS
    assert late.at_end
    clients[0].close()
    api.turn()
    assert api.connect().request("GET", "/version").status == 200


def test_a_thousand_connections_one_after_the_other_leave_nothing_behind(api):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        client = Client(api)
        client.send(GET)
        assert client.reply().status == 200
        client.close()
        api.turn()
    assert len(os.listdir("/proc/self/fd")) == before
    assert api.server._connections == {}


def test_a_crowd_that_never_speaks_does_not_hurt_those_inside(api):
    client = api.connect()
    crowd = []
    for _ in range(100):
        crowd.append(Client(api))
        api.turn()
    assert client.request("GET", "/version").status == 200
    for other in crowd:
        other.close()
    for _ in range(20):
        api.turn()
    assert api.connect().request("GET", "/version").status == 200


def test_a_client_that_does_not_read_is_not_read_from_and_blocks_nobody(api):
    value = b'"' + b"v" * 50000 + b'"'
    slow = api.connect()
    assert slow.request("PUT", "/mmds", value).status == 204
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sent = 0
    for _ in range(400):
        try:
            sent += slow.socket.send(b"GET /mmds HTTP/1.1\r\n\r\n" * 100)
        except BlockingIOError:
            break
        api.turn()
    connection = next(iter(api.server._connections.values()))
    assert connection.out  # a response waits for the client
    assert len(connection.out) < 60000  # and only one
    quick = api.connect()
    for _ in range(3):
        assert quick.request("GET", "/version").status == 200
    slow.data = b""
    assert slow.reply(500).status == 200  # once it reads, it is served again


def test_answers_reach_a_client_that_has_shut_down_its_side(api):
    client = api.connect()
    client.socket.send(GET * 3)
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.reply().status for _ in range(3)] == [200] * 3
    assert client.reply(5) is None
    assert client.at_end


def test_a_client_that_hangs_up_in_the_middle_is_forgotten(api):
    for part in (b"GET", b"PUT /mmds HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf", GET * 100):
        client = Client(api)
        api.turn()
        client.socket.send(part)
        client.close()
        for _ in range(20):
            api.turn()
        assert api.server._connections == {}


def test_running_out_of_descriptors_only_delays_new_connections(api, monkeypatch):
    client = api.connect()

    def fail():
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(api.server._listener, "accept", fail)
    late = Client(api)
    api.turn()
    assert "No file descriptors available (os error 24)" in api.log_text()
    assert client.request("GET", "/version").status == 200
    monkeypatch.undo()
    late.send(GET)
    assert late.reply().status == 200
    late.close()


def test_closing_the_server_ends_every_stream(api):
    client = api.connect()
    api.server.close()
    client.receive()
    assert client.at_end


def test_the_socket_file_is_not_removed_and_not_reused(api, tmp_path):
    assert (tmp_path / "api.sock").exists()
    with pytest.raises(HostError, match=r"Address in use \(os error 98\)") as caught:
        ApiSocket(api.path)
    assert caught.value.errno == 98


def test_a_path_that_no_socket_can_have_is_an_error_of_the_host(tmp_path):
    with pytest.raises(HostError, match="os error 36"):
        ApiSocket(str(tmp_path / ("x" * 200)))


def test_the_log_tells_of_requests_and_answers(api):
    client = api.connect()
    client.request("PUT", "/machine-config", '{"vcpu_count":2}\n')
    client.request("PUT", "/mmds", '{"secret":1}')
    client.request("GET", "/version")
    client.request("PUT", "/vsock", '{"guest_cid":3,"uds_path":"' + api.path + '","vsock_id":"a"}')
    lines = api.log_text()
    assert (
        'The API server received a Put request on "/machine-config" with body '
        '"{\\"vcpu_count\\":2}\\n".'
    ) in lines
    assert "Received Error. Status code: 400 Bad Request. Message: An error occurred" in lines
    assert 'The API server received a Put request on "/mmds".' in lines
    assert "secret" not in lines
    assert "The request was executed successfully. Status code: 204 No Content." in lines
    assert "The request was executed successfully. Status code: 200 OK." in lines
    assert "Total previous API call duration: " in lines
    assert "PUT /vsock: vsock_id field is deprecated." in lines


@pytest.mark.parametrize(
    ("method", "path", "body", "is_deprecated"),
    [
        ("PUT", "/vsock", '{"guest_cid":3,"uds_path":"{dir}/a","vsock_id":"a"}', True),
        ("PUT", "/vsock", '{"guest_cid":3,"uds_path":"{dir}/a"}', False),
        ("PUT", "/machine-config", '{"vcpu_count":1,"mem_size_mib":1,"cpu_template":"None"}', True),
        ("PUT", "/machine-config", '{"vcpu_count":1,"mem_size_mib":1}', False),
        ("PATCH", "/machine-config", '{"cpu_template":"T2"}', True),
        ("PUT", "/mmds/config", '{"network_interfaces":[]}', True),
        ("PUT", "/mmds/config", '{"network_interfaces":[],"version":"V2"}', False),
        ("PUT", "/snapshot/load", '{"snapshot_path":"a","mem_file_path":"b"}', True),
        (
            "PUT",
            "/snapshot/load",
            '{"snapshot_path":"a","enable_diff_snapshots":false,'
            '"mem_backend":{"backend_type":"File","backend_path":"b"}}',
            True,
        ),
        (
            "PUT",
            "/snapshot/load",
            '{"snapshot_path":"a","mem_backend":{"backend_type":"File","backend_path":"b"}}',
            False,
        ),
    ],
)
def test_old_fields_are_marked_in_the_response_and_counted(
    api, tmp_path, method, path, body, is_deprecated
):
    reply = api.connect().request(method, path, body.replace("{dir}", str(tmp_path)))
    assert reply.headers.get("Deprecation") == ("true" if is_deprecated else None)
    calls = api.metrics.collect()["deprecated_api"]["deprecated_http_api_calls"]
    assert calls == int(is_deprecated)


def test_calls_and_failures_are_counted_by_resource(api):
    client = api.connect()
    client.request("PUT", "/drives/a-b", "{}")
    client.request("PUT", "/drives/a", "{")
    client.request("PUT", "/drives/a", '{"drive_id":"a","is_root_device":false}')
    client.request("GET", "/version")
    client.request("PATCH", "/mmds", '{"a":1}')
    line = api.metrics.collect()
    assert line["put_api_requests"]["drive_count"] == 3
    assert line["put_api_requests"]["drive_fails"] == 2
    assert line["get_api_requests"]["vmm_version_count"] == 1
    assert line["patch_api_requests"] | {"mmds_count": 0} == dict.fromkeys(
        line["patch_api_requests"], 0
    )
    assert line["patch_api_requests"]["mmds_count"] == 1


def test_slow_actions_are_timed(api, tmp_path):
    (tmp_path / "kernel").touch()
    client = api.connect()
    client.request("PUT", "/boot-source", f'{{"kernel_image_path":"{tmp_path}/kernel"}}')
    client.request("PUT", "/actions", '{"action_type":"InstanceStart"}')
    client.request("PATCH", "/vm", '{"state":"Paused"}')
    client.request("PATCH", "/vm", '{"state":"Resumed"}')
    assert "'pause vm' API request took " in api.log_text()
    assert "'resume vm' API request took " in api.log_text()
    latencies = api.metrics.collect()["latencies_us"]
    assert latencies["pause_vm"] >= latencies["vmm_pause_vm"]


def test_a_failed_load_ends_the_process_after_its_answer(api):
    reply = api.connect().request(
        "PUT", "/snapshot/load", '{"snapshot_path":"a","mem_file_path":"b"}'
    )
    assert reply.status == 400
    assert api.exit_codes == [1]


def test_a_load_that_is_not_allowed_is_no_reason_to_end(api):
    client = api.connect()
    client.request("PUT", "/entropy", "{}")
    client.request("PUT", "/snapshot/load", '{"snapshot_path":"a","mem_file_path":"b"}')
    assert api.exit_codes == []
