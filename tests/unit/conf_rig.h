/*
 * conf_rig.h - for the tests of the configuration. Each test runs in a directory of its own under
 * /tmp, with an environment of its own.
 */
#pragma once

#include "gateway/core/conf_private.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct room {
    char dir[64];
    int back; /* directory to return to */
    struct problems ps;
    struct conf *conf;
};

static inline int enter(void **state)
{
    struct room *r = calloc(1, sizeof(*r));

    if (!r)
        return -1;
    strcpy(r->dir, "/tmp/test_conf.XXXXXX");
    r->back = open(".", O_RDONLY | O_DIRECTORY);
    if (r->back < 0 || !mkdtemp(r->dir) || chdir(r->dir) != 0)
        return -1;
    clearenv();
    *state = r;
    return 0;
}

static inline void unload(struct room *r)
{
    conf_unref(r->conf);
    r->conf = NULL;
    problems_deinit(&r->ps);
}

static inline int leave(void **state)
{
    static const char *const names[] = {"conf/gateway.yaml",
                                        "conf/rate_limits.yaml",
                                        "conf/circuit_breaker.yaml",
                                        "conf/storage_config.yaml",
                                        "conf/cache.yaml",
                                        "conf/models_registry.yaml",
                                        "conf/other.yaml",
                                        "conf",
                                        ".env",
                                        "secret",
                                        "secret2",
                                        "file"};
    struct room *r = *state;
    size_t i;
    int rc;

    unload(r);
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        remove(names[i]);
    rc = fchdir(r->back);
    close(r->back);
    rc |= rmdir(r->dir);
    free(r);
    return rc;
}

static inline void put_bytes(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void put(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

/* conf/ with files that say nothing, and `gateway` in gateway.yaml. */
static inline void put_conf(const char *gateway)
{
    static const char *const names[] = {"gateway.yaml",         "rate_limits.yaml",
                                        "circuit_breaker.yaml", "storage_config.yaml",
                                        "cache.yaml",           "models_registry.yaml"};
    char path[64];
    size_t i;

    mkdir("conf", 0700);
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "conf/%s", names[i]);
        put(path, i == 0 ? gateway : "{}\n");
    }
}

static inline char *printed(const struct problems *ps)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    problems_print(ps, f);
    fclose(f);
    return text;
}

static inline const struct conf *load_from(struct room *r, const struct conf_source *src)
{
    unload(r);
    r->conf = conf_load(src, &r->ps);
    assert_non_null(r->conf);
    return r->conf;
}

static inline const struct conf *load(struct room *r)
{
    return load_from(r, &(struct conf_source){0});
}

static inline void expect_printed(const struct problems *ps, const char *expected)
{
    char *got = printed(ps);

    assert_string_equal(got, expected);
    free(got);
}

/* Loads and compares all that would be printed. */
static inline void expect_problems(struct room *r, const char *expected)
{
    load(r);
    expect_printed(&r->ps, expected);
}

static inline const struct conf *load_clean(struct room *r)
{
    expect_problems(r, "");
    return r->conf;
}

static inline void expect_production(struct room *r, const char *expected)
{
    load(r);
    conf_check_production(r->conf, &r->ps);
    expect_printed(&r->ps, expected);
}

#define GOOD_SECRET "kX0f3vQ9mZr7TbLw2YpEu5HsNcAj8DgR"
#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)
