/*
 * test_middleware.c - request ids, forwarded addresses, CORS, security headers, the access log and
 * the metrics of requests. Credentials are test_identify.c's, limits test_ratelimit.c's.
 */
#include "tests/unit/middleware_harness.h"

/* --- request_id.c ----------------------------------------------------------------------------- */

static void test_sane_request_ids_are_kept(void **state)
{
    static const char *const ids[] = {"a", "A-b_c.d:9", "0123456789abcdef0123456789abcdef"};

    for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct request *req = request_of(&public_route, "x-request-id", ids[i]);

        assert_int_equal(request_id_run(req), CHAIN_NEXT);
        assert_slice(req->id, ids[i]);
        assert_slice(req->log.request_id, ids[i]);
        request_id_hook(req);
        assert_string_equal(out_header(req, "X-Request-ID"), ids[i]);
        drop(req);
    }
}

static void test_other_request_ids_are_replaced(void **state)
{
    char most[129], more[130];
    const char *const ids[] = {"",
                               " ",
                               "a b",
                               "a\nb",
                               "a\"b",
                               "<b>",
                               "\xc3\xa9",
                               "a/b",
                               "a,b",
                               more,
                               "a%0ab",
                               "a\x7f"
                               "b",
                               "a\tb",
                               "{}",
                               "a;b"};
    struct request *req;

    memset(most, 'x', 128);
    memset(more, 'x', 129);
    most[128] = more[129] = '\0';
    for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        req = request_of(&public_route, "x-request-id", ids[i]);
        request_id_run(req);
        assert_int_equal(req->id.n, 32);
        for (unsigned k = 0; k < 32; k++)
            assert_non_null(memchr("0123456789abcdef", req->id.p[k], 16));
        drop(req);
    }
    req = request_of(&public_route, "X-REQUEST-ID", most);
    request_id_run(req);
    assert_slice(req->id, most);
    drop(req);
}

static void test_request_ids_of_our_own_differ(void **state)
{
    struct request *req = request_of(&public_route);
    char first[32];

    request_id_run(req);
    memcpy(first, req->id.p, 32);
    drop(req);
    req = request_of(&public_route);
    request_id_run(req);
    assert_memory_not_equal(req->id.p, first, 32);
    drop(req);
}

static void test_an_answer_without_the_chain_has_an_id_too(void **state)
{
    struct request *req = request_of(&public_route);

    request_fail(req, GW_EBADREQ, NULL);
    assert_int_equal(strlen(out_header(req, "X-Request-ID")), 32);
    assert_in(conn.sent, out_header(req, "X-Request-ID"));
    drop(req);
}

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static void test_a_valid_trace_goes_on_with_a_span_of_ours(void **state)
{
    struct request *req = request_of(&public_route, "traceparent", "00-" TRACE "-" SPAN "-01");

    request_id_run(req);
    assert_int_equal(req->traceparent.n, 55);
    assert_memory_equal(req->traceparent.p, "00-" TRACE "-", 36);
    assert_memory_not_equal(req->traceparent.p + 36, SPAN, 16);
    assert_memory_equal(req->traceparent.p + 52, "-01", 3);
    drop(req);
    req = request_of(&public_route, "traceparent", "00-" TRACE "-" SPAN "-00");
    request_id_run(req);
    assert_memory_equal(req->traceparent.p + 52, "-00", 3); /* not sampled stays so */
    drop(req);
}

static void test_no_other_trace_goes_on(void **state)
{
    static const char *const bad[] = {
        "",
        "00-" TRACE "-" SPAN,
        "01-" TRACE "-" SPAN "-01",
        "ff-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-01-extra",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "00-" TRACE "-" SPAN "-0A",
        "00-" TRACE "-" SPAN "-0g",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-0af7651916cd43dd8448eb211c80319\n-" SPAN "-01",
    };
    struct request *req;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        req = request_of(&public_route, "traceparent", bad[i]);
        request_id_run(req);
        assert_int_equal(req->traceparent.n, 0);
        drop(req);
    }
    req = request_of(&public_route, "traceparent", "00-" TRACE "-" SPAN "-01", "traceparent",
                     "00-" TRACE "-" SPAN "-01");
    request_id_run(req);
    assert_int_equal(req->traceparent.n, 0);
    drop(req);
}

static void test_the_start_of_a_request_is_logged_for_debugging_only(void **state)
{
    struct request *req = request_of(&public_route, "x-request-id", "id-1");

    request_id_run(req);
    assert_string_equal(log_text, "debug Request started: GET /public/7 id=id-1\n");
    log_text[0] = '\0';
    log_least = LVL_INFO;
    request_id_run(req);
    assert_string_equal(log_text, "");
    drop(req);
}

/* --- trusted_proxy.c -------------------------------------------------------------------------- */

static const struct slice proxies[] = {SLICE("10.0.0.0/8"),      SLICE("192.0.2.5"),
                                       SLICE("2001:db8:1::/48"), SLICE("fe80::1"),
                                       SLICE("172.16.0.0/12"),   SLICE("::ffff:198.18.0.0/111")};

static void check_client(const char *peer, const char *forwarded, const char *want, bool trusted)
{
    struct request *req = forwarded ? request_of(&public_route, "x-forwarded-for", forwarded)
                                    : request_of(&public_route);

    conf->trusted_proxies = list_of(proxies, sizeof(proxies) / sizeof(proxies[0]));
    req->peer = req->client_ip = slice_cstr(peer);
    assert_int_equal(trusted_proxy_run(req), CHAIN_NEXT);
    assert_slice(req->client_ip, want);
    assert_int_equal(req->peer_trusted, trusted);
    drop(req);
}

static void test_the_client_is_the_rightmost_hop_that_is_no_proxy(void **state)
{
    check_client("10.1.2.3", "198.51.100.7", "198.51.100.7", true);
    check_client("10.1.2.3", "1.1.1.1, 198.51.100.7", "198.51.100.7", true);
    check_client("10.1.2.3", "1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7", true);
    check_client("10.1.2.3", "1.1.1.1,198.51.100.7\t,192.0.2.5 , 10.0.0.1", "198.51.100.7", true);
    check_client("10.1.2.3", "10.4.4.4, 10.5.5.5", "10.4.4.4", true); /* proxies all the way */
    check_client("2001:db8:1:2::9", "2001:db8:2::1", "2001:db8:2::1", true);
    check_client("fe80::1", "[2001:db8:2::1]", "2001:db8:2::1", true);
    check_client("10.1.2.3", "evil, 2001:db8:2::1, 2001:db8:1::77", "2001:db8:2::1", true);
    check_client("10.1.2.3", NULL, "10.1.2.3", true);
}

/* Whoever spells an address differently has no other bucket, and the audit record takes it. */
static void test_an_address_has_one_spelling(void **state)
{
    check_client("10.1.2.3", "2001:0DB8:2:0:0::0001", "2001:db8:2::1", true);
    check_client("10.1.2.3", "::ffff:198.51.100.7", "198.51.100.7", true);
    check_client("10.1.2.3", "::FFFF:c633:6407", "198.51.100.7", true);
    check_client("10.1.2.3", "198.51.100.7, [::ffff:10.0.0.1]", "198.51.100.7", true);
    check_client("::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7", true);
}

static void test_ranges_end_at_their_last_bit(void **state)
{
    check_client("172.31.255.255", "1.1.1.1", "1.1.1.1", true);
    check_client("172.32.0.0", "1.1.1.1", "172.32.0.0", false);
    check_client("172.15.255.255", "1.1.1.1", "172.15.255.255", false);
    check_client("192.0.2.5", "1.1.1.1", "1.1.1.1", true);
    check_client("192.0.2.4", "1.1.1.1", "192.0.2.4", false);
    check_client("2001:db8:1:ffff::", "1.1.1.1", "1.1.1.1", true);
    check_client("2001:db8:2::", "1.1.1.1", "2001:db8:2::", false);
    check_client("fe80::2", "1.1.1.1", "fe80::2", false);
    check_client("11.0.0.0", "1.1.1.1", "11.0.0.0", false);
    check_client("198.18.255.255", "1.1.1.1", "1.1.1.1", true);
    check_client("198.20.0.0", "1.1.1.1", "198.20.0.0", false);
}

static void test_check_040_strangers_cannot_say_who_they_are(void **state)
{
    check_client("203.0.113.9", "10.0.0.1", "203.0.113.9", false);
    check_client("203.0.113.9", "1.1.1.1", "203.0.113.9", false);
    check_client("", "1.1.1.1", "", false);
    check_client("not an address", "1.1.1.1", "not an address", false);
}

static void test_garbage_in_the_list_ends_the_search(void **state)
{
    check_client("10.1.2.3", "1.1.1.1, garbage", "10.1.2.3", true);
    check_client("10.1.2.3", "1.1.1.1, garbage, 10.7.7.7", "10.7.7.7", true);
    check_client("10.1.2.3", "", "10.1.2.3", true);
    check_client("10.1.2.3", ",,,", "10.1.2.3", true);
    check_client("10.1.2.3", "1.1.1.1,", "10.1.2.3", true);
    check_client("10.1.2.3", "1.1.1.1:443", "10.1.2.3", true);
    check_client("10.1.2.3", "[::1", "10.1.2.3", true);
    check_client("10.1.2.3", "[]", "10.1.2.3", true);
    check_client("10.1.2.3", "01.2.3.4", "10.1.2.3", true);
    check_client("10.1.2.3",
                 "1.1.1.1, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                 "10.1.2.3", true);
}

static void test_several_forwarded_headers_are_not_read(void **state)
{
    struct request *req =
        request_of(&public_route, "x-forwarded-for", "1.1.1.1", "X-Forwarded-For", "2.2.2.2");

    conf->trusted_proxies = list_of(proxies, 1);
    req->peer = req->client_ip = SLICE("10.0.0.1");
    trusted_proxy_run(req);
    assert_slice(req->client_ip, "10.0.0.1");
    assert_true(req->peer_trusted);
    drop(req);
}

static void test_nobody_is_trusted_by_default(void **state)
{
    struct request *req = request_of(&public_route, "x-forwarded-for", "1.1.1.1");

    req->peer = req->client_ip = SLICE("127.0.0.1");
    trusted_proxy_run(req);
    assert_slice(req->client_ip, "127.0.0.1");
    assert_false(req->peer_trusted);
    drop(req);
}

/* --- cors.c ----------------------------------------------------------------------------------- */

static const struct slice origins[] = {SLICE("https://app.example"),
                                       SLICE("http://localhost:5173")};
static const struct slice any_origin[] = {SLICE("https://app.example"), SLICE("*")};

static void check_origin(const char *origin, const char *allow, const char *credentials)
{
    struct request *req = request_of(&public_route, "origin", origin);

    cors_hook(req);
    assert_string_equal(out_header(req, "Access-Control-Allow-Origin"), allow);
    assert_string_equal(out_header(req, "Access-Control-Allow-Credentials"), credentials);
    assert_string_equal(out_header(req, "Vary"), "Origin");
    assert_int_equal(out_header(req, "Access-Control-Expose-Headers")[0] != '\0', *allow != '\0');
    drop(req);
}

static void test_only_listed_origins_are_allowed(void **state)
{
    conf->cors_origins = list_of(origins, 2);
    check_origin("https://app.example", "https://app.example", "true");
    check_origin("http://localhost:5173", "http://localhost:5173", "true");
    check_origin("https://app.example.evil", "", "");
    check_origin("https://APP.example", "", "");
    check_origin("http://app.example", "", "");
    check_origin("null", "", "");
    check_origin("", "", "");
    check_origin("*", "", "");
    conf->cors_origins = list_of(NULL, 0);
    check_origin("https://app.example", "", "");
}

static void test_a_star_allows_any_origin_without_credentials(void **state)
{
    conf->cors_origins = list_of(any_origin, 2);
    check_origin("https://evil.example", "*", "");
    check_origin("https://app.example", "https://app.example", "true");
    check_origin("null", "", "");
}

static void test_requests_of_no_browser_get_no_cors_headers(void **state)
{
    struct request *req = request_of(&public_route);

    cors_hook(req);
    assert_int_equal(req->n_out, 0);
    drop(req);
    conf->cors_origins = list_of(origins, 2);
    req = request_of(&public_route, "origin", "https://app.example", "origin", "https://evil");
    cors_hook(req);
    assert_string_equal(out_header(req, "Access-Control-Allow-Origin"), "");
    drop(req);
}

static struct request *preflight(const char *origin, const char *wanted)
{
    struct request *req =
        request_of(NULL, "origin", origin, "access-control-request-method", "POST",
                   wanted ? "access-control-request-headers" : "x", wanted ? wanted : "y");

    conf->cors_origins = list_of(origins, 2);
    req->method = HTTP_OPTIONS;
    return req;
}

static void test_a_preflight_is_answered_here(void **state)
{
    struct request *req = preflight("https://app.example", "authorization, x-api-key");

    assert_int_equal(cors_run(req), CHAIN_DONE);
    assert_int_equal(req->status, 204);
    assert_int_equal(conn.answers, 1);
    assert_string_equal(out_header(req, "Access-Control-Allow-Origin"), "https://app.example");
    assert_string_equal(out_header(req, "Access-Control-Allow-Headers"),
                        "authorization, x-api-key");
    assert_in(out_header(req, "Access-Control-Allow-Methods"), "DELETE");
    assert_string_equal(out_header(req, "Access-Control-Max-Age"), "600");
    assert_not_in(conn.sent, "Content-Length");
    drop(req);
}

static void test_a_preflight_of_a_stranger_allows_nothing(void **state)
{
    struct request *req = preflight("https://evil.example", "authorization");

    assert_int_equal(cors_run(req), CHAIN_DONE);
    assert_int_equal(req->status, 204);
    assert_not_in(conn.sent, "Access-Control-Allow");
    drop(req);
}

static void test_headers_asked_for_cannot_split_the_answer(void **state)
{
    struct request *req = preflight("https://app.example", "a\r\nSet-Cookie: x");

    assert_int_equal(cors_run(req), CHAIN_DONE);
    assert_string_equal(out_header(req, "Access-Control-Allow-Headers"), "");
    assert_not_in(conn.sent, "Set-Cookie");
    drop(req);
}

static void test_other_options_requests_pass(void **state)
{
    struct request *req = request_of(NULL, "origin", "https://app.example");

    req->method = HTTP_OPTIONS;
    assert_int_equal(cors_run(req), CHAIN_NEXT);
    drop(req);
    req = request_of(NULL, "access-control-request-method", "POST");
    req->method = HTTP_OPTIONS;
    assert_int_equal(cors_run(req), CHAIN_NEXT);
    drop(req);
    req = preflight("https://app.example", NULL);
    req->method = HTTP_POST;
    assert_int_equal(cors_run(req), CHAIN_NEXT);
    drop(req);
}

static void test_a_browser_can_read_a_refusal(void **state)
{
    struct request *req = request_of(&public_route, "origin", "http://localhost:5173");

    conf->cors_origins = list_of(origins, 2);
    request_fail(req, GW_EUNAUTH, NULL);
    assert_in(conn.sent, "HTTP/1.1 401 ");
    assert_in(conn.sent, "Access-Control-Allow-Origin: http://localhost:5173\r\n");
    drop(req);
}

/* --- security_headers.c ----------------------------------------------------------------------- */

static bool has_hsts(const char *proto, bool trusted)
{
    struct request *req = request_of(&public_route, "x-forwarded-proto", proto);
    bool has;

    req->peer_trusted = trusted;
    security_headers_hook(req);
    assert_string_equal(out_header(req, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(out_header(req, "X-Frame-Options"), "DENY");
    assert_string_equal(out_header(req, "Referrer-Policy"), "no-referrer");
    has = out_header(req, "Strict-Transport-Security")[0] != '\0';
    drop(req);
    return has;
}

static void test_hsts_is_for_tls_only(void **state)
{
    assert_false(has_hsts("http", true));
    assert_true(has_hsts("https", true));
    assert_false(has_hsts("https", false)); /* a stranger's word */
    conf->tls_certificate = SLICE("/etc/cert.pem");
    assert_true(has_hsts("http", false));
}

/* --- access_log.c ----------------------------------------------------------------------------- */

static const struct route quiet_route = {
    .method = HTTP_GET, .path = "/health", .access = ACCESS_PUBLIC, .quiet = true};

static void test_a_request_is_one_line(void **state)
{
    struct request *req = request_of(&public_route, "x-request-id", "id-1", "authorization",
                                     "Bearer sk-secret", "cookie", "sid=secret");

    log_least = LVL_INFO;
    request_id_run(req);
    req->query = SLICE("key=sk-secret");
    req->target = SLICE("/public/7?key=sk-secret");
    req->who = (struct identity){.known = true, .subject = SLICE("master")};
    req->body = SLICE("{\"secret\":1}");
    request_note(req, "provider", SLICE("openai"));
    request_note(req, "model", SLICE("gpt"));
    now_us += 1234567;
    request_reply(req, 200, SLICE("text/plain"), SLICE("hello"));
    request_conclude(req);
    assert_string_equal(log_text,
                        "info Request completed: GET /public/7 status=200 duration=1.234s id=id-1"
                        " method=GET endpoint=/public/{id} status=200 duration_ms=1234567"
                        " bytes_in=12 bytes_out=5 client_ip=203.0.113.9 subject=master"
                        " provider=openai model=gpt\n");
    assert_not_in(log_text, "secret");
    request_conclude(req);
    assert_ptr_equal(strchr(log_text, '\n') + 1, log_text + strlen(log_text));
    drop(req);
}

static void check_level(const struct route *route, enum gw_err err, const char *level,
                        const char *also)
{
    struct request *req = request_of(route);

    log_text[0] = '\0';
    if (err)
        request_fail(req, err, NULL);
    else
        request_reply(req, 200, SLICE_NONE, SLICE_NONE);
    log_text[0] = '\0';
    request_conclude(req);
    assert_int_equal(strncmp(log_text, level, strlen(level)), 0);
    assert_in(log_text, also);
    drop(req);
}

static void test_the_level_tells_how_bad_it_was(void **state)
{
    check_level(&public_route, GW_OK, "info ", "endpoint=/public/{id}");
    check_level(&quiet_route, GW_OK, "debug ", "status=200");
    check_level(&quiet_route, GW_EINTERNAL, "error ", "error=internal-error");
    check_level(&public_route, GW_EUNAUTH, "info ", "error=unauthorized");
    check_level(&public_route, GW_EUPSTREAM, "warn ", "error=provider-failed");
    check_level(NULL, GW_ENOTFOUND, "info ", "endpoint=unmatched");
}

static void test_quiet_routes_are_quiet(void **state)
{
    struct request *req = request_of(&quiet_route);

    log_least = LVL_INFO;
    request_reply(req, 200, SLICE_NONE, SLICE_NONE);
    drop(req);
    assert_string_equal(log_text, "");
}

static void test_a_full_line_has_room_for_every_note(void **state)
{
    struct request *req = request_of(&public_route, "x-request-id", "id-1");
    char path[400];

    memset(path, 'p', sizeof(path));
    request_id_run(req);
    req->path = slice_of(path, sizeof(path));
    req->who.subject = SLICE("s");
    for (unsigned i = 0; i < 6; i++) { /* two more than there is room for */
        static const char *const keys[] = {"k0", "k1", "k2", "k3", "k4", "k5"};

        request_note(req, keys[i], SLICE("v"));
    }
    log_text[0] = '\0';
    request_fail(req, GW_EUPSTREAM, NULL);
    request_conclude(req);
    assert_in(log_text, " subject=s error=provider-failed k0=v k1=v k2=v k3=v\n");
    assert_not_in(log_text, "k4");
    assert_in(log_text, "ppp status=502 duration=0.000s");
    drop(req);
}

/* --- http_metrics.c --------------------------------------------------------------------------- */

static int64_t requests(const char *method, const char *endpoint, const char *status)
{
    return metrics_value(metrics_get(M_HTTP_REQUESTS, method, endpoint, status));
}

static const struct route counted_route = {
    .method = HTTP_POST, .path = "/counted", .access = ACCESS_PUBLIC};

static void answer(const struct route *route, enum http_method method, enum gw_err err)
{
    struct request *req = request_of(route);

    req->method = method;
    if (err)
        request_fail(req, err, NULL);
    else
        request_reply(req, 200, SLICE_NONE, SLICE_NONE);
    drop(req);
}

static void test_requests_are_counted_by_their_template(void **state)
{
    struct metric_series *seconds = metrics_get(M_HTTP_SECONDS, "POST", "/counted", NULL);
    struct metric_series *errors = metrics_get(M_HTTP_ERRORS, "/counted", "provider-failed", NULL);

    for (unsigned i = 0; i < 3; i++)
        answer(&counted_route, HTTP_POST, GW_OK);
    answer(&counted_route, HTTP_HEAD, GW_OK);
    answer(&counted_route, HTTP_POST, GW_EUPSTREAM);
    assert_int_equal(requests("POST", "/counted", "200"), 3);
    assert_int_equal(requests("HEAD", "/counted", "200"), 1);
    assert_int_equal(requests("POST", "/counted", "502"), 1);
    assert_int_equal(metrics_value(seconds), 4);
    assert_int_equal(metrics_value(errors), 1);
}

static void test_what_has_no_route_is_counted_as_one_endpoint(void **state)
{
    int64_t had = requests("GET", "unmatched", "404");

    answer(NULL, HTTP_GET, GW_ENOTFOUND);
    answer(NULL, HTTP_GET, GW_ENOTFOUND);
    assert_int_equal(requests("GET", "unmatched", "404"), had + 2);
}

static void test_a_request_is_counted_once_and_by_the_right_route(void **state)
{
    /* More routes and methods than http_metrics.c keeps series of. */
    static struct route many[40];
    static char paths[40][16];
    struct request *req;

    for (unsigned i = 0; i < 40; i++) {
        snprintf(paths[i], sizeof(paths[i]), "/many/%u", i);
        many[i] = (struct route){.path = paths[i], .access = ACCESS_PUBLIC};
    }
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 40; i++)
            answer(&many[i], i % 2 ? HTTP_GET : HTTP_DELETE, GW_OK);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(requests(i % 2 ? "GET" : "DELETE", paths[i], "200"), 3);
    req = request_of(&many[0]);
    request_reply(req, 200, SLICE_NONE, SLICE_NONE);
    request_conclude(req);
    request_conclude(req);
    drop(req);
    assert_int_equal(requests("GET", paths[0], "200"), 1);
}

static void test_the_providers_time_is_no_overhead(void **state)
{
    struct metric_series *overhead = metrics_get(M_OVERHEAD, NULL, NULL, NULL);
    int64_t had = metrics_value(overhead);
    struct request *req = request_of(&public_route);

    req->upstream_us = 900;
    now_us += 1000;
    request_reply(req, 200, SLICE_NONE, SLICE_NONE);
    drop(req);
    assert_int_equal(metrics_value(overhead), had + 1);
    answer(&public_route, HTTP_GET, GW_OK); /* no provider was asked */
    assert_int_equal(metrics_value(overhead), had + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_sane_request_ids_are_kept),
        T(test_other_request_ids_are_replaced),
        T(test_request_ids_of_our_own_differ),
        T(test_an_answer_without_the_chain_has_an_id_too),
        T(test_a_valid_trace_goes_on_with_a_span_of_ours),
        T(test_no_other_trace_goes_on),
        T(test_the_start_of_a_request_is_logged_for_debugging_only),
        T(test_the_client_is_the_rightmost_hop_that_is_no_proxy),
        T(test_an_address_has_one_spelling),
        T(test_ranges_end_at_their_last_bit),
        T(test_check_040_strangers_cannot_say_who_they_are),
        T(test_garbage_in_the_list_ends_the_search),
        T(test_several_forwarded_headers_are_not_read),
        T(test_nobody_is_trusted_by_default),
        T(test_only_listed_origins_are_allowed),
        T(test_a_star_allows_any_origin_without_credentials),
        T(test_requests_of_no_browser_get_no_cors_headers),
        T(test_a_preflight_is_answered_here),
        T(test_a_preflight_of_a_stranger_allows_nothing),
        T(test_headers_asked_for_cannot_split_the_answer),
        T(test_other_options_requests_pass),
        T(test_a_browser_can_read_a_refusal),
        T(test_hsts_is_for_tls_only),
        T(test_a_request_is_one_line),
        T(test_the_level_tells_how_bad_it_was),
        T(test_quiet_routes_are_quiet),
        T(test_a_full_line_has_room_for_every_note),
        T(test_requests_are_counted_by_their_template),
        T(test_what_has_no_route_is_counted_as_one_endpoint),
        T(test_a_request_is_counted_once_and_by_the_right_route),
        T(test_the_providers_time_is_no_overhead),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
