/*
 * fuzz_yaml.c - what reads configuration: the YAML tree with its readers, and the env file.
 *
 * The first byte says how the tree is read, the second whether the rest is YAML (even) or an env
 * file (odd). Inputs of up to YAML_MAX_BYTES + 1 make sense.
 */
#include "gateway/core/arena.h"
#include "gateway/core/envfile.h"
#include "gateway/core/yaml.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_every_way(const struct yaml *y, uint8_t how, struct problems *ps)
{
    struct slice s = SLICE_NONE;
    int64_t i = 0, nano = 0;
    bool b;

    if ((how & 1) && yaml_read_str(y, &s, ps))
        assert(s.p && s.p[s.n] == '\0' && strlen(s.p) == s.n);
    if ((how & 2) && yaml_read_int(y, -1000, 1000, &i, ps))
        assert(i >= -1000 && i <= 1000);
    if (how & 4)
        yaml_read_bool(y, &b, ps);
    if ((how & 8) && yaml_read_nano(y, &nano, ps))
        assert(nano >= 0);
}

/* Returns how many nodes there are below y, y included. */
static unsigned walk(const struct yaml *y, uint8_t how, unsigned depth, struct problems *ps)
{
    const struct yaml *child;
    unsigned n = 1;

    assert(depth <= YAML_MAX_DEPTH);
    assert(y->kind == YAML_MAP || y->kind == YAML_SEQ || !y->first);
    read_every_way(y, how, ps);
    child = yaml_items(y, how & 16 ? YAML_MAP : YAML_SEQ, how & 32, ps);
    for (child = y->first; child; child = child->next)
        n += walk(child, how, depth + 1, ps);
    return n;
}

static void run_yaml(struct slice text, uint8_t how)
{
    struct problems ps = {0};
    struct yaml *y = yaml_parse(text, "fuzz.yaml", &ps);

    assert(y || ps.errors);
    if (y) {
        assert(y->kind == YAML_MAP);
        if (how & 64)
            yaml_path(y, "server.port");
        if (how & 128)
            assert(walk(y, how, 0, &ps) <= YAML_MAX_NODES);
        yaml_report_unused(y, &ps);
    }
    yaml_destroy(y);
    problems_deinit(&ps);
}

static void run_envfile(struct slice text)
{
    struct problems ps = {0};
    struct arena *a = arena_create(ENVFILE_MAX_BYTES * 8);
    struct envfile env = {0};
    unsigned i;

    assert(a);
    envfile_parse(text, "fuzz.env", a, &env, &ps);
    for (i = 0; i < env.n; i++) {
        const struct envfile_entry *e = &env.items[i];

        assert(e->name.n && strlen(e->name.p) == e->name.n && strlen(e->value.p) == e->value.n);
        assert(envfile_get(&env, e->name.p) != NULL);
    }
    arena_destroy(a);
    problems_deinit(&ps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[1] & 1)
        run_envfile(slice_of((const char *)data + 2, size - 2));
    else
        run_yaml(slice_of((const char *)data + 2, size - 2), data[0]);
    return 0;
}
