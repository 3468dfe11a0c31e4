/*
 * middleware_harness.h - requests made by hand for the tests of gateway/middleware: a connection
 * that only records, a clock that stands still, log lines kept as text. The test is linked with
 * --wrap for loop_now_us, loop_clock_us, log_write and log_enabled.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/loop.h"
#include "gateway/core/metrics.h"
#include "gateway/http/conn.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"

#include <stdio.h>
#include <stdlib.h>

#define MAYBE __attribute__((unused))

/* --- the connection --------------------------------------------------------------------------- */

struct http_conn {
    char sent[65536];
    size_t n;
    unsigned answers;
    bool doomed;
};

static struct http_conn conn;

void conn_write(struct http_conn *c, const struct iovec *iov, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(iov[i].iov_len < sizeof(c->sent) - c->n);
        memcpy(c->sent + c->n, iov[i].iov_base, iov[i].iov_len);
        c->n += iov[i].iov_len;
    }
    c->sent[c->n] = '\0';
}

size_t conn_unsent(const struct http_conn *c)
{
    return 0;
}

bool conn_must_close(struct http_conn *c)
{
    return false;
}

void conn_answered(struct http_conn *c)
{
    c->answers++;
}

void conn_doom(struct http_conn *c)
{
    c->doomed = true;
}

void conn_flush_later(struct http_conn *c)
{
}

void conn_set_low_mark(struct http_conn *c, size_t low)
{
}

void conn_rearm(struct http_conn *c)
{
}

/* --- the clock and the log -------------------------------------------------------------------- */

static uint64_t now_us = 1000000000;
static enum log_level log_least = LVL_DEBUG;
static char log_text[8192]; /* lines: "level message key=value ...\n" */

uint64_t __wrap_loop_now_us(void);
uint64_t __wrap_loop_clock_us(void);
bool __wrap_log_enabled(enum log_level level, const struct log_ctx *ctx);
void __wrap_log_write(enum log_level level, const struct log_ctx *ctx, const char *message,
                      const struct log_field *f);

uint64_t __wrap_loop_now_us(void)
{
    return now_us;
}

uint64_t __wrap_loop_clock_us(void)
{
    return now_us;
}

bool __wrap_log_enabled(enum log_level level, const struct log_ctx *ctx)
{
    return level >= log_least;
}

static void log_add(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void log_add(const char *fmt, ...)
{
    size_t n = strlen(log_text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(log_text + n, sizeof(log_text) - n, fmt, ap);
    va_end(ap);
}

void __wrap_log_write(enum log_level level, const struct log_ctx *ctx, const char *message,
                      const struct log_field *f)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};

    log_add("%s %s", levels[level], message);
    log_add(" id=%.*s", SLICE_ARG(ctx->request_id));
    for (; f->kind != LOG_END; f++) {
        if (f->kind == LOG_STR)
            log_add(" %s=%.*s", f->key, SLICE_ARG(f->str));
        else
            log_add(" %s=%lld", f->key, (long long)f->i);
    }
    log_add("\n");
}

/* --- requests --------------------------------------------------------------------------------- */

static struct conf *conf;

static const struct route public_route = {.method = HTTP_GET,
                                          .path = "/public/{id}",
                                          .surface = SURFACE_NATIVE,
                                          .access = ACCESS_PUBLIC,
                                          .rate = RATE_DEFAULT};

/* A GET from 203.0.113.9; headers are name, value, ..., NULL. */
static MAYBE struct request *request_with(const struct route *route, const char *const *headers)
{
    struct arena *a = arena_create(1u << 20);
    struct request *req;
    struct http_header *h;
    unsigned n = 0;

    assert_non_null(a);
    memset(&conn, 0, sizeof(conn));
    req = request_create(a, &conn);
    assert_non_null(req);
    while (headers && headers[2 * n])
        n++;
    h = arena_array(a, struct http_header, n + 1);
    assert_non_null(h);
    for (unsigned i = 0; i < n; i++)
        h[i] = (struct http_header){slice_cstr(headers[2 * i]), slice_cstr(headers[2 * i + 1])};
    req->headers = h;
    req->n_headers = n;
    req->minor = 1;
    req->route = route;
    req->path = SLICE("/public/7");
    req->target = req->path;
    req->peer = req->client_ip = SLICE("203.0.113.9");
    return req;
}

/* request_of(route, "name", "value", ...) */
#define request_of(route, ...)                                                                     \
    request_with((route), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL, NULL})

/* Ends a request and frees it. */
static MAYBE void drop(struct request *req)
{
    request_conclude(req);
    req->conn = NULL;
    request_unref(req);
    loop_turn();
}

/* A header of the answer, or "". */
static MAYBE const char *out_header(const struct request *req, const char *name)
{
    for (unsigned i = 0; i < req->n_out; i++)
        if (slice_is_nocase(req->out[i].name, name))
            return req->out[i].value.p;
    return "";
}

static MAYBE void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(got), want);
}

static MAYBE void assert_in(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("no \"%s\" in: %s", what, text);
}

static MAYBE void assert_not_in(const char *text, const char *what)
{
    if (strstr(text, what))
        fail_msg("\"%s\" is in: %s", what, text);
}

static MAYBE struct conf_list list_of(const struct slice *items, unsigned n)
{
    return (struct conf_list){items, n};
}

/* --- life ------------------------------------------------------------------------------------- */

static MAYBE int enter_group(void **state)
{
    middleware_init();
    return loop_init() || metrics_init(1) ? -1 : 0;
}

static MAYBE int leave_group(void **state)
{
    metrics_deinit();
    loop_deinit();
    return 0;
}

/* Defaults alone, whatever the environment says. */
static MAYBE int enter(void **state)
{
    const struct conf_source src = {.dir = "/nonexistent", .env_file = "/dev/null"};
    struct problems ps = {0};

    clearenv();
    conf = conf_load(&src, &ps);
    problems_deinit(&ps);
    if (!conf)
        return -1;
    conf_publish(conf);
    log_text[0] = '\0';
    log_least = LVL_DEBUG;
    return 0;
}

static MAYBE int leave(void **state)
{
    ratelimit_deinit();
    conf_publish(NULL);
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)
