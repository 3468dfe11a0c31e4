/*
 * test_transport_tls.c - the transport against TLS servers that are right and wrong in one way
 * each. Certificates are made here, with a CA of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/buf.h"
#include "gateway/core/loop.h"
#include "providers/transport.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define S 1000000u

/* --- certificates ----------------------------------------------------------------------------- */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static struct identity ca;
static char ca_path[] = "/tmp/postern-test-ca-XXXXXX";

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(ext);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* A certificate for `san`, signed by `signer` (NULL: by itself), ending `ends_s` from now. */
static struct identity issue(const char *cn, const char *san, const struct identity *signer,
                             long ends_s)
{
    struct identity id = {EVP_EC_gen("P-256"), X509_new()};
    X509_NAME *name = X509_get_subject_name(id.cert);

    assert_non_null(id.key);
    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), signer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), ends_s);
    X509_set_pubkey(id.cert, id.key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(id.cert, signer ? X509_get_subject_name(signer->cert) : name);
    if (san)
        extend(id.cert, NID_subject_alt_name, san);
    else
        extend(id.cert, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(id.cert, signer ? signer->key : id.key, EVP_sha256()) > 0);
    return id;
}

static void discard(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

/* --- the server ------------------------------------------------------------------------------- */

struct server {
    int listener;
    unsigned port;
    SSL_CTX *ctx; /* NULL: accepts and says nothing */
    pthread_t thread;
    bool once; /* one answer per connection */
    unsigned n_served, n_resumed;
};

static bool answer(SSL *ssl, bool once)
{
    const char *reply = once ? "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
                             : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    char head[8192];
    int n = SSL_read(ssl, head, sizeof(head));

    return n > 0 && SSL_write(ssl, reply, (int)strlen(reply)) > 0;
}

static void serve_tls(struct server *s, int fd)
{
    SSL *ssl = SSL_new(s->ctx);

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        s->n_resumed += SSL_session_reused(ssl);
        while (answer(ssl, s->once)) {
            s->n_served++;
            if (s->once)
                break;
        }
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

static void *server_main(void *arg)
{
    struct server *s = arg;
    char c;
    int fd;

    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        if (s->ctx)
            serve_tls(s, fd);
        else
            while (recv(fd, &c, 1, 0) > 0)
                ;
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *s, const struct identity *id)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    *s = (struct server){.listener = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &n), 0);
    s->port = ntohs(at.sin_port);
    if (id) {
        s->ctx = SSL_CTX_new(TLS_server_method());
        assert_int_equal(SSL_CTX_use_certificate(s->ctx, id->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(s->ctx, id->key), 1);
        SSL_CTX_set_session_id_context(s->ctx, (const unsigned char *)"t", 1);
    }
}

static void server_run(struct server *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_stop(struct server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    SSL_CTX_free(s->ctx);
}

/* --- calls ------------------------------------------------------------------------------------ */

static struct {
    bool done;
    enum gw_err err;
    bool sent, reused;
    char detail[256];
    size_t bytes;
} seen;

static void on_head(const struct transport_head *head, void *arg)
{
    assert_int_equal(head->status, 200);
}

static void on_data(struct slice bytes, void *arg)
{
    seen.bytes += bytes.n;
}

static void on_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    seen.done = true;
    seen.err = err;
    seen.sent = res->sent;
    seen.reused = res->reused;
    snprintf(seen.detail, sizeof(seen.detail), "%s", res->detail);
}

static const struct transport_callbacks callbacks = {on_head, on_data, on_done};

static enum gw_err fetch(const char *scheme, const struct server *s, uint64_t connect_us)
{
    char url[64];
    struct transport_request req = {.method = "POST",
                                    .body = SLICE("{}"),
                                    .connect_timeout_us = connect_us,
                                    .first_byte_timeout_us = 30 * S,
                                    .http2 = true};

    snprintf(url, sizeof(url), "%s://127.0.0.1:%u/x", scheme, s->port);
    req.url = slice_cstr(url);
    memset(&seen, 0, sizeof(seen));
    assert_non_null(transport_start(&req, &callbacks, NULL));
    while (!seen.done)
        loop_turn();
    return seen.err;
}

static void transport_up(const char *ca_file)
{
    struct transport_config cfg = {.ca_file = ca_file, .max_connections = 10};

    alarm(60);
    assert_int_equal(loop_init(), GW_OK);
    assert_int_equal(transport_init(&cfg), GW_OK);
}

static void transport_down(void)
{
    transport_deinit();
    loop_deinit();
    alarm(0);
}

static int set_up(void **state)
{
    FILE *f;
    int fd = mkstemp(ca_path);

    ca = issue("Test CA", NULL, NULL, 86400);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    assert_int_equal(PEM_write_X509(f, ca.cert), 1);
    return fclose(f);
}

static int tear_down(void **state)
{
    unlink(ca_path);
    discard(&ca);
    return 0;
}

static void test_check_069_a_good_certificate_is_accepted(void **state)
{
    struct identity id = issue("host", "IP:127.0.0.1", &ca, 3600);
    struct server s;

    server_start(&s, &id);
    server_run(&s);
    transport_up(ca_path);
    if (fetch("https", &s, 20 * S))
        fail_msg("%s", seen.detail);
    assert_int_equal(seen.bytes, 2);
    assert_int_equal(fetch("https", &s, 20 * S), GW_OK);
    assert_true(seen.reused);
    transport_down();
    server_stop(&s);
    assert_int_equal(s.n_served, 2);
    discard(&id);
}

/* Runs one refused call against a server with this identity. */
static void assert_refused(const struct identity *id, const char *ca_file, int max_version)
{
    struct server s;

    server_start(&s, id);
    if (max_version) {
        SSL_CTX_set_security_level(s.ctx, 0);
        SSL_CTX_set_min_proto_version(s.ctx, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(s.ctx, max_version);
    }
    server_run(&s);
    transport_up(ca_file);
    assert_int_equal(fetch("https", &s, 20 * S), GW_EUPCONNECT);
    assert_false(seen.sent);
    assert_int_equal(seen.bytes, 0);
    transport_down();
    server_stop(&s);
    assert_int_equal(s.n_served, 0);
}

static void test_check_069_certificates_that_are_wrong_are_refused(void **state)
{
    struct identity expired = issue("host", "IP:127.0.0.1", &ca, -3600);
    struct identity other_host = issue("host", "IP:127.0.0.2,DNS:localhost", &ca, 3600);
    struct identity self_signed = issue("host", "IP:127.0.0.1", NULL, 3600);
    struct identity good = issue("host", "IP:127.0.0.1", &ca, 3600);

    assert_refused(&expired, ca_path, 0);
    assert_refused(&other_host, ca_path, 0);
    assert_refused(&self_signed, ca_path, 0);
    assert_refused(&good, NULL, 0); /* the system's bundle does not know our CA */
    assert_refused(&good, ca_path, TLS1_VERSION);
    assert_refused(&good, ca_path, TLS1_1_VERSION);
    discard(&expired);
    discard(&other_host);
    discard(&self_signed);
    discard(&good);
}

static void test_new_connections_resume_the_session(void **state)
{
    struct identity id = issue("host", "IP:127.0.0.1", &ca, 3600);
    struct server s;

    server_start(&s, &id);
    s.once = true;
    server_run(&s);
    transport_up(ca_path);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fetch("https", &s, 20 * S), GW_OK);
        assert_false(seen.reused);
    }
    transport_down();
    server_stop(&s);
    assert_int_equal(s.n_served, 3);
    assert_int_equal(s.n_resumed, 2);
    discard(&id);
}

static void test_tls_1_2_is_enough(void **state)
{
    struct identity id = issue("host", "IP:127.0.0.1", &ca, 3600);
    struct server s;

    server_start(&s, &id);
    SSL_CTX_set_max_proto_version(s.ctx, TLS1_2_VERSION);
    server_run(&s);
    transport_up(ca_path);
    assert_int_equal(fetch("https", &s, 20 * S), GW_OK);
    transport_down();
    server_stop(&s);
    discard(&id);
}

static void test_check_069_a_handshake_that_stalls_ends_with_the_connect_timeout(void **state)
{
    struct server s;

    server_start(&s, NULL);
    server_run(&s);
    transport_up(ca_path);
    assert_int_equal(fetch("https", &s, 50000), GW_EUPCONNECT);
    assert_false(seen.sent);
    transport_down();
    server_stop(&s);
}

static void test_check_069_plain_text_and_tls_are_never_mixed_up(void **state)
{
    struct identity id = issue("host", "IP:127.0.0.1", &ca, 3600);
    struct server s;

    server_start(&s, &id);
    server_run(&s);
    transport_up(ca_path);
    assert_int_not_equal(fetch("http", &s, 20 * S), GW_OK);
    assert_int_equal(seen.bytes, 0);
    transport_down();
    server_stop(&s);
    assert_int_equal(s.n_served, 0);
    discard(&id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_069_a_good_certificate_is_accepted),
        cmocka_unit_test(test_check_069_certificates_that_are_wrong_are_refused),
        cmocka_unit_test(test_new_connections_resume_the_session),
        cmocka_unit_test(test_tls_1_2_is_enough),
        cmocka_unit_test(test_check_069_a_handshake_that_stalls_ends_with_the_connect_timeout),
        cmocka_unit_test(test_check_069_plain_text_and_tls_are_never_mixed_up),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
