"""gzip, Vary, ETag and If-None-Match of whole answers, through the real program."""
import gzip

import pytest
from gateway import AUTH
from rawhttp import Raw, head

MODELS = "/api/v1/models"
ORIGIN = "https://app.example"


def get(gw, path, **fields):
    return gw.get(path, headers={**AUTH, **{k.replace("_", "-"): v for k, v in fields.items()}})


def vary(answer):
    assert sum(k.lower() == "vary" for k, _ in answer.header_list) <= 1
    return {v.strip() for v in answer.headers.get("vary", "").split(",") if v.strip()}


def test_json_is_compressed_for_those_who_accept_it(gateway):
    plain = get(gateway, MODELS, Accept_Encoding="identity")
    packed = get(gateway, MODELS, Accept_Encoding="br, gzip")
    assert plain.status == packed.status == 200 and len(plain.body) > 1024
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body
    assert vary(plain) == vary(packed) == {"Accept-Encoding"}


@pytest.mark.parametrize("accept", ["gzip;q=0", "identity, gzip;q=0", "*;q=0", "", "deflate",
                                    "gzip;q=0.1, identity;q=0.9"])
def test_json_stays_plain_for_those_who_refuse(gateway, accept):
    answer = get(gateway, MODELS, Accept_Encoding=accept)
    assert "content-encoding" not in answer.headers and answer.json


def test_small_answers_and_what_is_no_json_stay_plain(gateway):
    small = get(gateway, "/api/v1/health/live", Accept_Encoding="gzip")
    assert "content-encoding" not in small.headers and "vary" not in small.headers
    metrics = get(gateway, "/metrics", Accept_Encoding="gzip")
    assert len(metrics.body) > 1024 and "content-encoding" not in metrics.headers


def test_vary_names_the_origin_too(make_gateway):
    gw = make_gateway(env={"CORS_ORIGINS": ORIGIN})
    answer = get(gw, MODELS, Accept_Encoding="gzip", Origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert vary(answer) == {"Accept-Encoding", "Origin"}
    assert vary(get(gw, "/api/v1/health/live", Origin=ORIGIN)) == {"Origin"}


def test_answers_of_models_are_compressed_and_streams_are_not(gateway):
    headers = {**AUTH, "Accept-Encoding": "gzip"}
    text = "the quick brown fox " * 200
    whole = gateway.chat(text=text, headers=headers)
    assert whole.headers["content-encoding"] == "gzip"
    assert b"quick brown fox" in gzip.decompress(whole.body)
    stream = gateway.chat(text=text, headers=headers, stream=True)
    assert "content-encoding" not in stream.headers and stream.events()[-1][1] == "[DONE]"


def test_errors_are_compressed_when_they_are_long(gateway):
    answer = get(gateway, "/api/v1/" + "x" * 2000, Accept_Encoding="gzip")
    assert answer.status == 404 and answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-encoding"] == "gzip"
    assert b"x" * 2000 in gzip.decompress(answer.body)


def test_very_large_answers_stay_plain(gateway):
    model = "openai/gpt-4o-mini~chunks=400,size=1000"
    answer = gateway.chat(model, headers={**AUTH, "Accept-Encoding": "gzip"})
    assert len(answer.body) > 400000 and "content-encoding" not in answer.headers


def test_gzip_can_be_switched_off_and_its_least_size_set(make_gateway):
    off = make_gateway(conf={"gateway.yaml": {"http.gzip": "false"}})
    answer = get(off, MODELS, Accept_Encoding="gzip")
    assert "content-encoding" not in answer.headers and "vary" not in answer.headers
    high = make_gateway(conf={"gateway.yaml": {"http.gzip_min_bytes": 1048576}})
    assert "content-encoding" not in get(high, MODELS, Accept_Encoding="gzip").headers


def heads(gw, *fields):
    """The head of GET and of HEAD, without what changes from one request to the next."""
    out = []
    for method in ("GET", "HEAD"):
        with Raw(gw.port) as raw:
            raw.send(head(method, MODELS, "Authorization: " + AUTH["Authorization"], *fields))
            answer = raw.answer(method)
            assert answer.status in (200, 304)
            if method == "HEAD":
                assert not answer.body
            out.append({k: v for k, v in answer.headers.items()
                        if k in ("content-length", "content-type", "content-encoding", "etag", "vary")})
    return out


def test_head_has_the_headers_of_get(gateway):
    for fields in ((), ("Accept-Encoding: gzip",)):
        a, b = heads(gateway, *fields)
        assert a == b and a["content-length"]
    assert "content-encoding" in b
    a, b = heads(gateway, "If-None-Match: " + a["etag"])
    assert a == b and "content-type" not in a


def test_a_known_tag_is_answered_304_without_a_body(gateway):
    first = get(gateway, MODELS)
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for value in (tag, tag[2:], '"x", ' + tag, "*"):
        again = get(gateway, MODELS, If_None_Match=value, Accept_Encoding="gzip")
        assert again.status == 304, value
        assert again.body == b"" and again.headers["etag"] == tag
        assert vary(again) == {"Accept-Encoding"}
        assert "content-type" not in again.headers and "content-encoding" not in again.headers
    for value in ('"x"', "x", tag[:-2] + '"'):
        again = get(gateway, MODELS, If_None_Match=value)
        assert again.status == 200 and again.body == first.body, value


def test_the_tag_does_not_depend_on_the_coding(gateway):
    plain, packed = get(gateway, MODELS), get(gateway, MODELS, Accept_Encoding="gzip")
    assert plain.headers["etag"] == packed.headers["etag"]


def test_a_304_leaves_the_connection_in_order(gateway):
    request = head("GET", MODELS, "Authorization: " + AUTH["Authorization"], "If-None-Match: *")
    with Raw(gateway.port) as raw:
        raw.send(request + request + head("GET", "/api/v1/health/live"))
        assert [raw.answer("GET").status for _ in range(2)] == [304, 304]
        assert raw.answer("GET").json == {"status": "alive"}


@pytest.mark.parametrize("path", ["/api/v1/health", "/api/v1/health/live", "/metrics", "/v1/models"])
def test_probes_and_vendors_surfaces_have_no_tag(gateway, path):
    answer = get(gateway, path, If_None_Match="*")
    assert answer.status == 200 and "etag" not in answer.headers


def test_errors_have_no_tag(gateway):
    answer = get(gateway, "/api/v1/none", If_None_Match="*")
    assert answer.status == 404 and "etag" not in answer.headers
