/*
 * test_detect_seek.c - 32 bytes at a time are found the same attempts as byte by byte
 * (gateway/core/detect_seek.h): in the fuzzer's corpus, at every place within a block, cut
 * anywhere, and in texts that were changed at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/detect.h"
#include "gateway/core/detect_seek.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_TEXT 20000u

static const char *const attempts[] = {
    "' OR '1'='1",
    "x') aNd ('a' LIKE 'a",
    "1 or(1)=(1)",
    "1 or`a`=`a",
    "admin' or true#",
    "admin' or/**/not false",
    "1 UNION ALL SELECT NULL",
    "select*from t",
    "SELECT a, b FROM c",
    "insert into a values",
    "update a set b=c",
    "delete from a;",
    "drop table x",
    "CREATE user y",
    "alter/**/role z",
    "truncate+table t",
    "exec sp_x",
    "execute @x",
    "sleep(5)",
    "pg_sleep (1)",
    "benchmark(1,2)",
    "load_file('x')",
    "information_schema",
    "xp_cmdshell",
    "waitfor delay '1'",
    "javascript:x",
    "vbscript :x",
    "data:text/html,x",
    "<script>",
    "< / iframe",
    "%3Cscript%3e",
    "onload=x",
    "x/onError =y",
    "\"onmouseover=\"x",
    "; rm -rf /",
    "a|/bin/sh",
    "a && curl x",
    "a;ls",
    "$(id)",
    "${IFS}",
    "`id`",
    "admin'--",
    "a\" #",
    "x'/*",
    "UN/**/ION",
    "1'; shutdown",
    "; drop x",
};
#define N_ATTEMPTS (sizeof(attempts) / sizeof(attempts[0]))

/* The text in memory of exactly its size: what is read beyond it is seen. */
static void same(const char *p, size_t n)
{
    char *text = malloc(n ? n : 1);
    unsigned fast, plain;

    assert_non_null(text);
    memcpy(text, p, n);
    fast = detect_scan(slice_of(text, n));
    plain = detect_scan_plain(slice_of(text, n));
    free(text);
    if (fast != plain)
        fail_msg("%x, byte by byte %x: %.*s", fast, plain, (int)n, p);
}

static void test_attempts_are_found_at_every_place(void **state)
{
    static const char before[] = " x_'\x80,"; /* what may stand before one */
    char text[2 * DETECT_SEEK_BLOCK + 128];

    for (size_t i = 0; i < N_ATTEMPTS; i++)
        for (size_t at = 0; at < 2 * DETECT_SEEK_BLOCK; at++)
            for (size_t b = 0; b < sizeof(before) - 1; b++) {
                size_t n = strlen(attempts[i]);

                memset(text, before[b], at);
                memcpy(text + at, attempts[i], n);
                same(text, at + n);
                memset(text + at + n, ' ', 40);
                same(text, at + n + 40);
                same(text, at + n / 2);
            }
}

static void test_attempts_are_found_in_either_case(void **state)
{
    char text[64];

    for (size_t i = 0; i < N_ATTEMPTS; i++) {
        size_t n = strlen(attempts[i]);

        for (size_t k = 0; k < n; k++) {
            char c = attempts[i][k];

            memcpy(text, attempts[i], n);
            text[k] = (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (char)(c ^ 0x20) : c;
            same(text, n);
        }
    }
}

static uint32_t next(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    *x ^= *x << 5;
    return *x;
}

/* Pieces of attempts after each other, with bytes put in, taken out and changed. */
static size_t some_text(char *to, uint32_t *x)
{
    static const char odd[] = "'\"`;|&<%$/*()=+- \n\0_aon\xff";
    size_t n = 0;

    while (n < 150) {
        const char *a = attempts[next(x) % N_ATTEMPTS];
        size_t m = strlen(a), from = next(x) % 4 ? 0 : next(x) % m;

        memcpy(to + n, a + from, m - from);
        n += m - from;
        to[n++] = next(x) % 2 ? ' ' : odd[next(x) % (sizeof(odd) - 1)];
    }
    for (unsigned i = next(x) % 8; i; i--)
        to[next(x) % n] = next(x) % 2 ? odd[next(x) % (sizeof(odd) - 1)] : (char)next(x);
    return n - next(x) % 100;
}

static void test_changed_texts_give_the_same(void **state)
{
    uint32_t x = 2463534242u;
    char text[512];

    for (unsigned i = 0; i < 100000; i++)
        same(text, some_text(text, &x));
}

static void each_prefix(const char *text, size_t n)
{
    same(text, n);
    for (size_t i = 0; i < n && i < 300; i++)
        same(text, i);
}

static void test_the_corpus_gives_the_same(void **state)
{
    static char text[MAX_TEXT];
    char path[4096];
    const struct dirent *e;
    unsigned files = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/text", getenv("POSTERN_SRC"));
    d = opendir(path);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char name[4608];
        FILE *f;

        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        f = e->d_name[0] == '.' ? NULL : fopen(name, "rb");
        if (!f)
            continue;
        each_prefix(text, fread(text, 1, sizeof(text), f));
        fclose(f);
        files++;
    }
    closedir(d);
    assert_true(files > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempts_are_found_at_every_place),
        cmocka_unit_test(test_attempts_are_found_in_either_case),
        cmocka_unit_test(test_changed_texts_give_the_same),
        cmocka_unit_test(test_the_corpus_gives_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
