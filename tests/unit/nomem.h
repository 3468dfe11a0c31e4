/*
 * nomem.h - fails allocations one by one, for test_nomem.c and test_nomem_chain.c.
 *
 * The test is linked with --wrap for malloc, calloc, realloc and the arena's functions. An
 * operation is run with its n-th allocation failing, for n = 1, 2, ... until a run does not get
 * that far. Each run must end like the one without a fault, or say GW_ENOMEM. Two sources of
 * failure: the heap (malloc and friends), and the arena, whose blocks would otherwise hide nearly
 * all of its own callers. Each source fails once, or for good from the n-th call on.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/core/arena.h"
#include "gateway/core/buf.h"
#include "gateway/core/err.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the fault -------------------------------------------------------------------------------- */

enum fault_source { FAULT_HEAP, FAULT_ARENA, FAULT_SOURCES };

static struct {
    bool armed, sticky;
    enum fault_source source;
    unsigned long at, seen; /* the allocation that fails, counted from 1; how many there were */
} fault;

static bool fault_due(enum fault_source source)
{
    if (!fault.armed || fault.source != source)
        return false;
    fault.seen++;
    return fault.sticky ? fault.seen >= fault.at : fault.seen == fault.at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t size, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_arena_alloc(struct arena *a, size_t n);
char *__real_arena_bytes(struct arena *a, size_t n);
void *__real_arena_alloc_array(struct arena *a, size_t size, size_t n);
struct slice __real_arena_dup(struct arena *a, struct slice s);
char *__real_arena_cstr(struct arena *a, struct slice s);
bool __real_arena_defer(struct arena *a, void (*fn)(void *), void *obj);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t size, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_arena_alloc(struct arena *a, size_t n);
char *__wrap_arena_bytes(struct arena *a, size_t n);
void *__wrap_arena_alloc_array(struct arena *a, size_t size, size_t n);
struct slice __wrap_arena_dup(struct arena *a, struct slice s);
char *__wrap_arena_cstr(struct arena *a, struct slice s);
struct slice __wrap_arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool __wrap_arena_defer(struct arena *a, void (*fn)(void *), void *obj);

void *__wrap_malloc(size_t n)
{
    return fault_due(FAULT_HEAP) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t size, size_t n)
{
    return fault_due(FAULT_HEAP) ? NULL : __real_calloc(size, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fault_due(FAULT_HEAP) ? NULL : __real_realloc(p, n);
}

/* More than any arena gives: it fails in its own way. */
#define TOO_MUCH (SIZE_MAX / 2)

void *__wrap_arena_alloc(struct arena *a, size_t n)
{
    return __real_arena_alloc(a, fault_due(FAULT_ARENA) ? TOO_MUCH : n);
}

char *__wrap_arena_bytes(struct arena *a, size_t n)
{
    return __real_arena_bytes(a, fault_due(FAULT_ARENA) ? TOO_MUCH : n);
}

void *__wrap_arena_alloc_array(struct arena *a, size_t size, size_t n)
{
    return fault_due(FAULT_ARENA) ? __real_arena_alloc(a, TOO_MUCH)
                                  : __real_arena_alloc_array(a, size, n);
}

struct slice __wrap_arena_dup(struct arena *a, struct slice s)
{
    if (!fault_due(FAULT_ARENA))
        return __real_arena_dup(a, s);
    return slice_of(__real_arena_bytes(a, TOO_MUCH), 0);
}

char *__wrap_arena_cstr(struct arena *a, struct slice s)
{
    return fault_due(FAULT_ARENA) ? __real_arena_bytes(a, TOO_MUCH) : __real_arena_cstr(a, s);
}

struct slice __wrap_arena_printf(struct arena *a, const char *fmt, ...)
{
    bool due = fault_due(FAULT_ARENA);
    va_list ap, again;
    char *to;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    to = __real_arena_bytes(a, due || n < 0 ? TOO_MUCH : (size_t)n + 1);
    if (to)
        vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return to ? slice_of(to, (size_t)n) : SLICE_NONE;
}

bool __wrap_arena_defer(struct arena *a, void (*fn)(void *), void *obj)
{
    if (!fault_due(FAULT_ARENA))
        return __real_arena_defer(a, fn, obj);
    (void)__real_arena_bytes(a, TOO_MUCH);
    fn(obj);
    return false;
}

/* --- runs ------------------------------------------------------------------------------------- */

#define NOMEM_ARENA_BYTES (64u << 20)

/* One run of an operation. */
struct run {
    struct arena *arena; /* fresh, made before faults begin; the operation's own arena */
    const void *input;
    struct buf out; /* what the operation made, to be compared; filled with show() */
};

/* Leaves what it made in run->out. GW_ENOMEM, or what it says without a fault. */
typedef enum gw_err (*nomem_fn)(struct run *run);

/* Adds to what is compared; does not count as an allocation of the operation. */
static __attribute__((unused)) void show(struct run *run, struct slice text)
{
    bool was = fault.armed;

    fault.armed = false;
    buf_add_slice(&run->out, text);
    buf_add_char(&run->out, '\n');
    fault.armed = was;
}

static __attribute__((unused)) void show_int(struct run *run, int64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    show(run, slice_cstr(text));
}

/* Call ids that a dialect makes up differ from run to run. */
static void mask_made_up_ids(struct buf *b)
{
    static const char hex[] = "0123456789abcdef";
    char *p = b->p, *end = b->p + b->n;

    while (p && p < end && (p = memmem(p, (size_t)(end - p), "call_", 5)) != NULL) {
        for (p += 5; p < end && memchr(hex, *p, 16); p++)
            *p = '#';
    }
}

/* True when the run got to the fault. */
static bool run_once(nomem_fn fn, const void *input, unsigned long at, struct run *ret,
                     enum gw_err *ret_err)
{
    *ret = (struct run){.arena = arena_create(NOMEM_ARENA_BYTES), .input = input};
    assert_non_null(ret->arena);
    buf_init(&ret->out, 16u << 20);
    fault.at = at;
    fault.seen = 0;
    fault.armed = at > 0;
    *ret_err = fn(ret);
    fault.armed = false;
    mask_made_up_ids(&ret->out);
    ret->arena = arena_destroy(ret->arena);
    return at > 0 && fault.seen >= at;
}

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define LEAKS() __lsan_do_recoverable_leak_check()
#else
#define LEAKS() 0
#endif

/* A test's teardown: nothing it allocated may be out of reach (it shows where that came from). */
static __attribute__((unused)) int check_leaks(void **state)
{
    return LEAKS() ? -1 : 0;
}

static void compare(const char *what, const struct run *want, enum gw_err want_err,
                    const struct run *got, enum gw_err err)
{
    if (err == GW_ENOMEM)
        return;
    if (err == want_err && slice_eq(buf_slice(&got->out), buf_slice(&want->out)))
        return;
    fail_msg("%s, %s allocation %lu%s: %s instead of %s or GW_ENOMEM\ngot:  %.400s\nwant: %.400s",
             what, fault.source == FAULT_HEAP ? "heap" : "arena", fault.at,
             fault.sticky ? " and all after it" : "", err_info(err)->name, err_info(want_err)->name,
             got->out.p ? got->out.p : "", want->out.p ? want->out.p : "");
}

/* Fails each allocation of the operation. `step` > 1 leaves some out, past the first 200. Returns
 * how many faults were tried. */
static unsigned long torture_by(const char *what, nomem_fn fn, const void *input,
                                unsigned long step)
{
    struct run want, got;
    enum gw_err want_err, err;
    unsigned long tried = 0;
    bool reached = true;

    fault.armed = false;
    run_once(fn, input, 0, &want, &want_err);
    buf_add_char(&want.out, '\0');
    want.out.n--;
    for (unsigned mode = 0; mode < 2 * FAULT_SOURCES; mode++) {
        fault.source = mode % FAULT_SOURCES;
        fault.sticky = mode >= FAULT_SOURCES;
        reached = true;
        for (unsigned long at = 1; reached; at += at < 200 ? 1 : step) {
            reached = run_once(fn, input, at, &got, &err);
            buf_add_char(&got.out, '\0');
            got.out.n--;
            compare(what, &want, want_err, &got, err);
            if (!reached && err == GW_ENOMEM && want_err != GW_ENOMEM)
                fail_msg("%s: out of memory without a fault", what);
            buf_deinit(&got.out);
            tried += reached;
        }
    }
    buf_deinit(&want.out);
    return tried;
}

static __attribute__((unused)) void torture(const char *what, nomem_fn fn, const void *input)
{
    assert_true(torture_by(what, fn, input, 1) > 0);
}

/* --- files ------------------------------------------------------------------------------------ */

/* A file of the source tree, in the arena, terminated. */
static __attribute__((unused)) struct slice source_file(struct arena *a, const char *path)
{
    const char *root = getenv("POSTERN_SRC");
    char name[1024], *text;
    size_t n;
    FILE *f;

    snprintf(name, sizeof(name), "%s/%s", root ? root : ".", path);
    f = fopen(name, "rb");
    if (!f)
        fail_msg("no file %s", name);
    text = arena_bytes(a, 1u << 20);
    assert_non_null(text);
    n = fread(text, 1, (1u << 20) - 1, f);
    text[n] = '\0';
    fclose(f);
    return slice_of(text, n);
}
