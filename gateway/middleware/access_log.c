/*
 * access_log.c - one line per request, when it has ended. The message is a fixed text
 * ("Request completed: POST /chat status=200 duration=1.234s"), the fields carry its parts.
 */
#include "gateway/core/conceal.h"
#include "gateway/core/decimal.h"
#include "gateway/core/loop.h"
#include "gateway/http/router.h"
#include "gateway/middleware/middleware.h"

#define TEXT_BYTES 256u
#define LOGGED_PATH 129u

static enum log_level level_of(const struct request *req)
{
    if (req->err)
        return err_info(req->err)->level;
    return req->route && req->route->quiet ? LVL_DEBUG : LVL_INFO;
}

/* "Request completed: POST /chat status=200 duration=1.234s" */
static void describe(const struct request *req, uint64_t took_us, char text[TEXT_BYTES])
{
    char *to = stpcpy(stpcpy(text, "Request completed: "), http_method_name(req->method));
    char path[LOGGED_PATH];

    conceal_keys(req->path, path, sizeof(path));
    to = stpcpy(stpcpy(to, " "), path);
    to = decimal_u64(stpcpy(to, " status="), (uint64_t)req->status);
    to = decimal_u64(stpcpy(to, " duration="), took_us / 1000000);
    *to++ = '.';
    strcpy(decimal_padded(to, took_us / 1000 % 1000, 3), "s");
}

void access_log_hook(struct request *req)
{
    uint64_t took = loop_clock_us() - req->started_us;
    enum log_level level = level_of(req);
    struct log_field f[16];
    char text[TEXT_BYTES];
    unsigned i, n = 0;

    if (!log_enabled(level, &req->log))
        return;
    describe(req, took, text);
    f[n++] = F_CSTR("method", http_method_name(req->method));
    f[n++] = F_CSTR("endpoint", req->route ? req->route->path : "unmatched");
    f[n++] = F_INT("status", req->status);
    f[n++] = F_MS("duration_ms", took);
    f[n++] = F_INT("bytes_in", req->body.n);
    f[n++] = F_INT("bytes_out", req->bytes_out);
    f[n++] = F_STR("client_ip", req->client_ip);
    if (req->who.subject.n)
        f[n++] = F_STR("subject", req->who.subject);
    if (req->err)
        f[n++] = F_CSTR("error", err_info(req->err)->slug);
    for (i = 0; i < req->n_notes; i++)
        f[n++] =
            (struct log_field){.key = req->note_key[i].p, .kind = LOG_STR, .str = req->note[i]};
    f[n] = (struct log_field){.kind = LOG_END};
    log_write(level, &req->log, text, f);
}
