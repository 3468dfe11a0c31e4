"""Deprecated paths answer like their successors and say that they end; permanent ones do not."""
import pytest
from gateway import AUTH

SUCCESSOR = 'rel="successor-version"'
MODELS = {"/api/models": "/api/v1/models", "/api/providers": "/api/v1/providers",
          "/api/admin/circuits": "/api/v1/admin/circuits"}


def counted(gw, endpoint):
    """legacy_requests_total of a successor's template."""
    line = 'legacy_requests_total{endpoint="%s"} ' % endpoint
    for text in gw.get("/metrics").text.split("\n"):
        if text.startswith(line):
            return int(text[len(line):])
    return 0


def assert_deprecated(answer, successor):
    assert answer.headers["deprecation"] == "@1764115200"
    assert answer.headers["sunset"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert "<%s>; %s" % (successor, SUCCESSOR) in answer.headers["link"]


@pytest.mark.parametrize("path", MODELS)
def test_an_alias_answers_like_its_successor_and_is_counted(gateway, path):
    before = counted(gateway, MODELS[path])
    old, new = gateway.get(path), gateway.get(MODELS[path])
    assert old.status == new.status == 200
    assert old.body == new.body
    assert_deprecated(old, MODELS[path])
    assert "deprecation" not in new.headers and "sunset" not in new.headers
    assert counted(gateway, MODELS[path]) == before + 1


def test_an_alias_is_measured_as_its_successor(gateway):
    assert gateway.get("/api/providers").status == 200
    text = gateway.get("/metrics").text
    assert 'endpoint="/api/providers"' not in text
    assert 'http_requests_total{method="GET",endpoint="/api/v1/providers",status="200"}' in text


@pytest.mark.parametrize("path", ["/chat", "/api/chat"])
def test_chat_answers_at_its_old_paths(gateway, path):
    answer = gateway.post(path, {"message": "hi", "model": "openai/gpt-4o-mini"})
    assert answer.status == 200 and answer.json["reply"]
    assert_deprecated(answer, "/api/v1/chat")


def test_a_path_parameter_is_part_of_the_successor(gateway):
    answer = gateway.post("/api/admin/circuits/openai/reset", "")
    assert answer.status == 200 and answer.json["name"] == "openai"
    assert_deprecated(answer, "/api/v1/admin/circuits/openai/reset")


def test_refusals_on_an_alias_say_it_too(gateway):
    answer = gateway.request("GET", "/api/models", headers={"Authorization": "Bearer wrong"})
    assert answer.status == 401
    assert_deprecated(answer, "/api/v1/models")
    answer = gateway.post("/chat", {"message": 7})
    assert answer.status == 422
    assert_deprecated(answer, "/api/v1/chat")


@pytest.mark.parametrize("path", ["/health", "/api/health", "/api", "/api/v1", "/v1/models"])
def test_permanent_paths_say_nothing(gateway, path):
    answer = gateway.get(path)
    assert answer.status == 200
    assert not {"deprecation", "sunset"} & set(answer.headers)
    assert SUCCESSOR not in answer.headers.get("link", "")


def test_what_has_no_successor_is_no_alias(gateway):
    for path in ("/api/nothing", "/api/messages", "/auth/nothing", "/api/v1/api/chat"):
        answer = gateway.get(path)
        assert answer.status == 404 and "deprecation" not in answer.headers, path
    assert gateway.get("/chat").status == 405


def test_the_index_names_every_resource(gateway):
    for path in ("/api", "/api/v1"):
        index = gateway.request("GET", path, headers={}).json
        assert index["name"] == "postern" and index["version"]
        for name in ("chat", "embeddings", "models", "providers", "health"):
            assert index["links"][name] == "/api/v1/" + name


def test_gone_answers_410_with_the_successor(make_gateway):
    gw = make_gateway(conf={"gateway.yaml": {"legacy.after_sunset": "gone"}})
    answer = gw.get("/api/models")
    assert answer.status == 410 and answer.json["code"] == "legacy-endpoint-gone"
    assert "/api/v1/models" in answer.json["detail"]
    assert_deprecated(answer, "/api/v1/models")
    assert gw.get("/api/v1/models").status == 200
    assert gw.get("/api/health").status == 200


def test_gone_waits_for_the_day(make_gateway):
    gw = make_gateway(conf={"gateway.yaml": {"legacy.after_sunset": "gone", "legacy.sunset": "9999-12-31"}})
    answer = gw.get("/api/models")
    assert answer.status == 200
    assert answer.headers["sunset"] == "Fri, 31 Dec 9999 00:00:00 GMT"


def test_links_are_absolute_behind_a_trusted_proxy(make_gateway):
    gw = make_gateway(conf={"gateway.yaml": {"server.trusted_proxies": "[127.0.0.1]"}})
    answer = gw.request("GET", "/api/models", headers={
        "X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example.org", **AUTH})
    assert_deprecated(answer, "https://ai.example.org/api/v1/models")
