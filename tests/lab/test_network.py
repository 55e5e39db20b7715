"""Network interfaces and the metadata service as Linux uses them."""

NO_TOKEN = (
    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to "
    "specify the session token."
)
BAD_TTL = (
    "Invalid time to live value provided for token: 0. Please provide a value between 1 and 21600."
)


def test_network_of_a_linux_guest(scenario, guest_assets):
    found = scenario("network", assets=guest_assets)
    assert found["mac"] == "06:00:ac:14:00:02"
    assert found["mtu"] == ["4000", "1500"]
    assert found["link"] == "1"
    assert found["get"] == found["body sum"]
    assert found["served"] == found["served sum"]
    assert found["metrics"] == {
        "eth0 sent more than it served": True,
        "eth0 got more than it fetched": True,
        "sum of both": True,
        "faults": 0,
    }

    # limits on a live interface
    assert found["rx throttled"] > 0
    assert found["served slowly"]
    assert found["then"] == [0, True]

    # metadata without and with a token
    assert found["v1 keys"] == ["ami-id", "tags"]
    assert found["v1 value"] == "ami-12345678"
    assert found["v1 json"] == {
        "meta-data": {"ami-id": "ami-12345678", "tags": ["a", "b"]},
        "n": 7,
    }
    assert found["v1 missing"] == ["HTTP/1.0 404", "Resource not found: /none."]
    assert found["v1 patched"] == "ami-new"
    assert found["answered by"] == "06:01:23:45:67:01"  # not by the host
    assert found["v2 no token"] == ["HTTP/1.0 401", NO_TOKEN]
    assert found["v2 token"] == ["HTTP/1.0 200", 48]
    assert found["v2 value"] == "ami-12345678"
    assert found["v2 bad token"] == ["HTTP/1.0 401", "MMDS token not valid."]
    assert found["v2 bad ttl"] == ["HTTP/1.0 400", BAD_TTL]
    assert found["mmds metrics"] == {
        "rx_no_token": 1,
        "rx_invalid_token": 1,
        "connections_created": 5,
    }
    assert found["complaints"] == []
    assert (found["status"], found["status 2"]) == (0, 0)
    assert found["taps left to us"] == ["tap0", "tap1"]
