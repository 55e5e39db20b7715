"""The table of requests and answers: versions 1 and 2, formats, tokens."""

import pytest

from pyrovm.mmds.counters import MmdsCounters
from pyrovm.mmds.service import NO_TOKEN, NO_TTL, MetadataService
from pyrovm.mmds.store import DataStore
from pyrovm.mmds.token import TokenAuthority
from tests.unit.mmds.guest import (
    STORE,
    Clock,
    counting_bytes,
    get,
    mmds_config,
    put,
    split_response,
)

VERSIONS = pytest.mark.parametrize("version", ["V1", "V2"])


class Service:
    """A service, its clock and what it counts."""

    def __init__(self, version="V1", imds_compat=False, value=STORE):
        self.clock = Clock()
        self.store = DataStore(51_200)
        if value is not None:
            self.store.put(value)
        self.counters = MmdsCounters()
        tokens = TokenAuthority("vm-1", counting_bytes(), self.clock)
        self.service = MetadataService(
            self.store, mmds_config(version, imds_compat=imds_compat), tokens, self.counters
        )

    def ask(self, data):
        return split_response(self.service.respond(data))

    def token(self, ttl=60):
        status, _, body = self.ask(put("/latest/api/token", f"X-metadata-token-ttl-seconds: {ttl}"))
        assert status == 200
        return body

    def get(self, path, *headers):
        return self.ask(get(path, f"X-metadata-token: {self.token()}", *headers))

    @property
    def token_counts(self):
        return self.counters.rx_no_token, self.counters.rx_invalid_token


@VERSIONS
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_other_methods_are_not_allowed(version, method):
    status, headers, body = Service(version).ask(f"{method} / HTTP/1.1\r\n\r\n".encode())
    assert (status, body) == (405, "Not allowed HTTP method.")
    assert headers["allow"] == "GET, PUT"
    assert headers["content-type"] == "text/plain"


@VERSIONS
@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_methods_the_server_does_not_know_are_not_implemented(version, method):
    status, _, body = Service(version).ask(f"{method} / HTTP/1.1\r\n\r\n".encode())
    assert (status, body) == (501, "Unsupported HTTP method.")


@VERSIONS
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
@pytest.mark.parametrize("uri", ["http://169.254.169.254", "nothing"])
def test_a_uri_without_a_path_is_invalid(version, method, uri):
    status, _, body = Service(version).ask(f"{method} {uri} HTTP/1.1\r\n\r\n".encode())
    assert (status, body) == (400, "Invalid URI.")


@VERSIONS
def test_a_malformed_request_is_answered(version):
    status, headers, body = Service(version).ask(get("/", "Content-Length: 100"))
    assert (status, body) == (400, "Invalid request.")
    assert headers["content-type"] == "text/plain"


def test_version_1_never_refuses_but_counts():
    service = Service("V1")
    assert service.ask(get("/latest/meta-data/ami-id"))[::2] == (200, "ami-12345678")
    assert service.token_counts == (1, 0)
    answer = service.ask(get("/latest/meta-data/ami-id", "X-metadata-token: INVALID"))
    assert answer[::2] == (200, "ami-12345678")
    assert service.token_counts == (1, 1)
    assert service.get("/latest/meta-data/ami-id")[::2] == (200, "ami-12345678")
    assert service.token_counts == (1, 1)


def test_version_2_refuses_without_a_token():
    service = Service("V2")
    status, headers, body = service.ask(get("/latest/meta-data/ami-id"))
    assert (status, body) == (401, NO_TOKEN)
    assert body == (
        "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to "
        "specify the session token."
    )
    assert headers["content-type"] == "text/plain"
    assert service.token_counts == (1, 0)


@pytest.mark.parametrize("token", ["foo", "", "A" * 48, "A" * 71])
def test_version_2_refuses_a_wrong_token(token):
    service = Service("V2")
    service.token()
    status, _, body = service.ask(get("/", f"X-metadata-token: {token}"))
    assert (status, body) == (401, "MMDS token not valid.")
    assert service.token_counts == (0, 1)


def test_version_2_refuses_an_expired_token():
    service = Service("V2")
    header = f"X-metadata-token: {service.token(1)}"
    assert service.ask(get("/", header))[0] == 200
    service.clock.now_ms += 1000
    assert service.ask(get("/", header))[::2] == (401, "MMDS token not valid.")


@pytest.mark.parametrize(
    "name",
    [
        "X-metadata-token",
        "x-METADATA-token",
        "X-aws-ec2-metadata-token",
        "x-aws-ec2-metadata-token",
    ],
)
def test_a_token_is_taken_under_either_name_in_any_case(name):
    service = Service("V2")
    token = service.token()
    assert service.ask(get("/latest/meta-data/ami-id", f"{name}: {token}"))[0] == 200
    assert service.token_counts == (0, 0)


@VERSIONS
@pytest.mark.parametrize("accept", [(), ("Accept: application/json",)])
def test_a_path_that_leads_nowhere_is_not_found(version, accept):
    status, headers, body = Service(version).get("/a//b", *accept)
    assert (status, body) == (404, "Resource not found: /a//b.")
    assert headers["content-type"] == "text/plain"


@VERSIONS
@pytest.mark.parametrize("imds_compat", [False, True])
@pytest.mark.parametrize("accept", [None, "text/plain", "*/*", "application/json"])
@pytest.mark.parametrize(
    ("path", "text", "json"),
    [
        ("/latest/meta-data/ami-id/", "ami-12345678", '"ami-12345678"'),
        ("//latest///meta-data/dummy_obj/", "res_key", '{"res_key":"res_value"}'),
        ("/latest/meta-data/dummy_array/0", "arr_val1", '"arr_val1"'),
        ("/latest/meta-data/dummy_empty", "", '""'),
        ("/latest/Limits/CPU", None, "512"),
        ("/latest/Usage/CPU", None, "12.12"),
        ("/latest/meta-data/dummy_array", None, '["arr_val1","arr_val2"]'),
        ("/latest", "Limits/\nUsage/\na/b/\nmeta-data/", None),
    ],
)
def test_what_accept_asks_for_is_what_comes(version, imds_compat, accept, path, text, json):
    headers = () if accept is None else (f"Accept: {accept}",)
    status, answered, body = Service(version, imds_compat).get(path, *headers)
    if accept == "application/json" and not imds_compat:
        assert status == 200
        assert answered["content-type"] == "application/json"
        assert json is None or body == json
        return
    assert answered["content-type"] == "text/plain"
    if text is None:
        assert status == 501
        assert body == "Cannot retrieve value. The value has an unsupported type."
    else:
        assert (status, body) == (200, text)


@VERSIONS
def test_an_empty_store_is_null_to_a_guest(version):
    service = Service(version, value=None)
    assert service.get("/", "Accept: application/json")[::2] == (200, "null")
    assert service.get("/")[0] == 501
    assert service.get("/x")[0] == 404


@VERSIONS
@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
def test_a_forwarded_put_is_refused_whatever_its_path(version, name):
    for path in ("/", "/latest/api/token"):
        status, _, body = Service(version).ask(
            put(path, f"{name}: foo", "X-metadata-token-ttl-seconds: 60")
        )
        assert status == 400
        assert body == f"Invalid header. Reason: Unsupported header name. Key: {name}"


@VERSIONS
@pytest.mark.parametrize("path", ["/", "/latest/api/toke", "/latest/api/token/", "/latest"])
def test_only_a_token_can_be_put(version, path):
    status, _, body = Service(version).ask(put(path, "X-metadata-token-ttl-seconds: 60"))
    assert (status, body) == (404, f"Resource not found: {path}.")


@VERSIONS
def test_a_token_needs_a_time_to_live(version):
    status, _, body = Service(version).ask(put("/latest/api/token"))
    assert (status, body) == (400, NO_TTL)
    assert body == (
        "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
        "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."
    )


@VERSIONS
@pytest.mark.parametrize("value", ["application/json", "-1", "", "4294967296", "1.5"])
def test_a_time_to_live_is_a_32_bit_number(version, value):
    status, _, body = Service(version).ask(
        put("/latest/api/token", f"X-Metadata-token-ttl-seconds: {value}")
    )
    assert status == 400
    assert body == (
        f"Invalid header. Reason: Invalid value. Key:X-Metadata-token-ttl-seconds; Value:{value}"
    )


@VERSIONS
@pytest.mark.parametrize("ttl", [0, 21_601, 4_294_967_295])
def test_a_time_to_live_has_bounds(version, ttl):
    status, _, body = Service(version).ask(
        put("/latest/api/token", f"X-metadata-token-ttl-seconds: {ttl}")
    )
    assert status == 400
    assert body == (
        f"Invalid time to live value provided for token: {ttl}. "
        "Please provide a value between 1 and 21600."
    )


@VERSIONS
@pytest.mark.parametrize(
    "name", ["X-metadata-token-ttl-seconds", "X-AWS-EC2-Metadata-Token-TTL-Seconds"]
)
def test_a_token_comes_as_text_and_its_time_is_echoed_under_the_guests_name(version, name):
    service = Service(version)
    raw = service.service.respond(put("//latest/api//token", f"{name}: 60"))
    assert f"\r\n{name}: 60\r\n".encode() in raw
    status, headers, token = split_response(raw)
    assert status == 200
    assert headers["content-type"] == "text/plain"
    assert service.ask(get("/", f"X-metadata-token: {token}"))[0] == 200


def test_the_answer_has_the_version_of_the_request():
    service = Service().service
    assert service.respond(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 \r\n")
    assert service.respond(b"GET /x HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404 \r\n")
    assert service.respond(b"GET / HTTP/9\r\n\r\n\r\n").startswith(b"HTTP/1.1 400 \r\n")


def test_the_whole_response_byte_for_byte():
    assert Service().service.respond(get("/latest/meta-data/ami-id")) == (
        b"HTTP/1.1 200 \r\n"
        b"Server: Firecracker API\r\n"
        b"Connection: keep-alive\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Length: 12\r\n"
        b"\r\n"
        b"ami-12345678"
    )
