/* cli.c - see cli.h. */
#include "gateway/cli.h"

#include "gateway/core/base64url.h"
#include "gateway/core/buf.h"
#include "gateway/core/loop.h"
#include "gateway/core/rng.h"
#include "providers/dialect/fields.h"
#include "providers/transport.h"

#include <stdio.h>
#include <stdlib.h>

#define PROBE_TIMEOUT_US 5000000u
#define PROBE_MAX_BYTES (1u << 20)

struct probe {
    struct buf body;
    int status;
    enum gw_err err;
    char why[256];
};

static void on_data(struct slice bytes, void *arg)
{
    struct probe *p = arg;

    buf_add_slice(&p->body, bytes);
}

static void on_done(enum gw_err err, const struct transport_result *res, void *arg)
{
    struct probe *p = arg;

    p->err = err;
    p->status = res->status;
    snprintf(p->why, sizeof(p->why), "%s", res->detail ? res->detail : "");
    loop_stop();
}

static enum gw_err probe_url(const char *url, struct probe *p)
{
    static const struct transport_callbacks cb = {.on_data = on_data, .on_done = on_done};
    struct transport_config cfg = {.max_connections = 1};
    struct transport_request req = {
        .method = "GET",
        .url = slice_cstr(url),
        .connect_timeout_us = PROBE_TIMEOUT_US,
        .first_byte_timeout_us = PROBE_TIMEOUT_US,
        .max_body_bytes = PROBE_MAX_BYTES,
    };
    enum gw_err err = loop_init();

    if (err)
        return err;
    req.deadline_us = loop_now_us() + PROBE_TIMEOUT_US;
    err = transport_init(&cfg);
    if (err)
        return err;
    if (transport_start(&req, &cb, p))
        loop_run();
    else
        p->err = GW_ENOMEM;
    transport_deinit();
    loop_deinit();
    return p->err;
}

/* The ready probe of the instance this environment describes. */
static const char *default_url(char *to, size_t size)
{
    const char *host = getenv("API_HOST"), *port = getenv("API_PORT");

    if (!host || !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        host = "127.0.0.1";
    snprintf(to, size, "http://%s:%s/api/v1/health/ready", host, port && *port ? port : "8765");
    return to;
}

int cli_health(int argc, char **argv)
{
    struct probe p = {0};
    char url[512];
    enum gw_err err;

    buf_init(&p.body, PROBE_MAX_BYTES);
    err = probe_url(argc > 1 ? argv[1] : default_url(url, sizeof(url)), &p);
    if (err)
        fprintf(stderr, "postern: %s%s%s\n", err_info(err)->title, p.why[0] ? ": " : "", p.why);
    else
        printf("%.*s\n", SLICE_ARG(buf_slice(&p.body)));
    buf_deinit(&p.body);
    return !err && p.status == 200 ? 0 : 1;
}

int cli_keygen(int argc, char **argv)
{
    unsigned char raw[32];
    char text[BASE64URL_CHARS(sizeof(raw)) + 1];

    (void)argc;
    (void)argv;
    rng_fill(raw, sizeof(raw));
    text[base64url_encode(text, raw, sizeof(raw))] = '\0';
    puts(text);
    return 0;
}

int cli_fields(int argc, char **argv)
{
    struct buf out;
    bool ok;

    (void)argc;
    (void)argv;
    buf_init(&out, 1u << 20);
    fields_markdown(&out);
    ok = !buf_err(&out) && fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0;
    buf_deinit(&out);
    return ok ? 0 : 1;
}
