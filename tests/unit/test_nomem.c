/*
 * test_nomem.c - CHECK 94: every allocation of the parsers and the configuration
 * fails once, and for good. Each operation then says GW_ENOMEM or does what it should; it never
 * crashes, leaks, or takes what did not fit for what was not there.
 */
#include "tests/unit/nomem.h"

#include "gateway/core/conf.h"
#include "gateway/core/json.h"
#include "gateway/core/yaml.h"
#include "gateway/http/gate.h"
#include "gateway/http/problem.h"
#include "providers/registry.h"
#include "providers/sse.h"

static struct arena *inputs; /* what the operations work on */

/* --- JSON ------------------------------------------------------------------------------------- */

static const char json_text[] =
    "{\"model\":\"m\\u00e9\",\"n\":42,\"t\":0.5,\"list\":[1,[2,{\"a\\\"b\":true}],null,\"x\\ty\"],"
    "\"deep\":{\"a\":{\"b\":{\"c\":[[[[\"\\n\"]]]]}}},\"z\":false}";

/* Reads all of it; false when a text that is there cannot be had. */
static bool read_all(struct run *run, struct json v)
{
    struct slice text;

    if (json_is(v, JSON_STRING)) {
        text = json_str(v);
        show(run, text);
        return text.p != NULL;
    }
    if (!json_count(v))
        show(run, json_raw(v));
    for (struct json it = json_first(v); json_exists(it); it = json_next(v, it)) {
        if (json_is(v, JSON_OBJECT)) {
            text = json_key(it);
            if (!text.p)
                return false;
            show(run, text);
        }
        if (!read_all(run, it))
            return false;
    }
    return true;
}

static enum gw_err op_json(struct run *run)
{
    struct slice text = *(const struct slice *)run->input;
    struct json root;
    enum gw_err err = json_parse(run->arena, text, NULL, &root, NULL);

    if (err)
        return err;
    return read_all(run, root) ? GW_OK : GW_ENOMEM;
}

static void test_check_094_json_is_read_or_memory_is_short(void **state)
{
    struct slice small = slice_cstr(json_text), bad = SLICE("{\"a\":[1,2}"), big;
    char *p = arena_bytes(inputs, 8000);

    torture("json", op_json, &small);
    assert_non_null(p);
    memset(p, '[', 60);
    for (unsigned i = 60; i < 7940; i += 2)
        memcpy(p + i, "7,", 2);
    p[7939] = '7';
    memset(p + 7940, ']', 60);
    big = slice_of(p, 8000);
    torture("json with more tokens than the stack holds", op_json, &big);
    torture_by("no json", op_json, &bad, 1); /* found out before any memory is needed */
}

static enum gw_err op_json_write(struct run *run)
{
    struct json_writer w;
    enum gw_err err;
    struct buf b;

    buf_init(&b, 1u << 20);
    json_writer_init(&w, &b);
    json_obj(&w);
    for (unsigned i = 0; i < 100; i++) {
        json_put_key_slice(&w, SLICE("a \"name\""));
        json_put_str(&w, SLICE("text with \x01 and \"quotes\" and \xc3\xa9"));
    }
    json_kv_int(&w, "int", INT64_MIN);
    json_kv_double(&w, "double", 1e300);
    json_kv_bool(&w, "bool", true);
    json_kv_null(&w, "null");
    json_kv_cstr(&w, "cstr", NULL);
    json_kv_raw(&w, "raw", SLICE("[1]"));
    json_put_key(&w, "list");
    json_arr(&w);
    json_arr_end(&w);
    json_obj_end(&w);
    err = buf_err(&b);
    if (!err)
        show(run, buf_slice(&b));
    buf_deinit(&b);
    return err;
}

static void test_check_094_json_is_written_or_memory_is_short(void **state)
{
    torture("json writer", op_json_write, NULL);
}

/* --- HTTP ------------------------------------------------------------------------------------- */

static enum gw_err op_head(struct run *run)
{
    struct gate_head h;
    const char *why = NULL;
    enum gw_err err = gate_head_parse(run->arena, *(const struct slice *)run->input, &h, &why);

    if (err)
        return err;
    show(run, h.path);
    show(run, h.target);
    show(run, h.query);
    for (unsigned i = 0; i < h.n_headers; i++) {
        show(run, h.headers[i].name);
        show(run, h.headers[i].value);
    }
    show_int(run, (int64_t)h.length);
    show_int(run, h.keep_alive + 2 * h.path_bad + 4 * h.chunked);
    return GW_OK;
}

static void test_check_094_a_head_is_read_or_memory_is_short(void **state)
{
    static const struct slice heads[] = {
        SLICE("POST /v1/ch%61t?key=a%20b HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n"
              "X-One: 1\r\nX-Two:  2 \r\nConnection: close\r\n\r\n"),
        SLICE("GET /a//b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SLICE("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n"),
    };

    for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        torture("head", op_head, &heads[i]);
}

static enum gw_err op_chunks(struct run *run)
{
    char text[] = "5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\n\r\nrest";
    struct gate_chunks c = {0};
    size_t used = 0, kept = 0;
    enum gw_err err = gate_chunks_feed(&c, text, sizeof(text) - 1, 1000, &used, &kept);

    show_int(run, (int64_t)used);
    show(run, slice_of(text, kept));
    return err;
}

static void test_check_094_chunks_need_no_memory(void **state)
{
    assert_int_equal(torture_by("chunks", op_chunks, NULL, 1), 0);
}

static enum gw_err on_event(const struct sse_event *ev, void *arg)
{
    show(arg, ev->type);
    show(arg, ev->data);
    show(arg, ev->id);
    return GW_OK;
}

/* Fed in pieces of the size given as input. */
static enum gw_err op_sse(struct run *run)
{
    struct slice text =
        SLICE("event: a\ndata: one\ndata: two\nid: 7\n\n: comment\n\ndata: x\r\n\r\n"
              "data: three\ndata:\ndata: 4\n\ndata: last");
    size_t piece = *(const size_t *)run->input;
    struct sse_parser p;
    enum gw_err err = GW_OK;

    sse_init(&p, 1000, on_event, run);
    for (; text.n && !err; text = slice_from(text, piece))
        err = sse_feed(&p, slice_of(text.p, text.n < piece ? text.n : piece));
    if (!err)
        err = sse_finish(&p);
    sse_deinit(&p);
    return err;
}

static void test_check_094_events_are_read_or_memory_is_short(void **state)
{
    for (size_t piece = 1; piece < 40; piece++)
        torture("sse", op_sse, &piece);
}

static enum gw_err op_problem(struct run *run)
{
    struct error_detail d = {.message = SLICE("a \"message\""),
                             .param = SLICE("/messages/0"),
                             .code = SLICE("vendor_code")};
    enum surface s = *(const enum surface *)run->input;
    struct slice type = SLICE_NONE;
    struct buf b;
    enum gw_err err;

    buf_init(&b, 65536);
    problem_write(s, GW_ESCHEMA, &d, SLICE("id-1"), SLICE("/v1/chat/completions"), &b, &type);
    err = buf_err(&b);
    if (!err)
        show(run, buf_slice(&b));
    show(run, type);
    buf_deinit(&b);
    return err;
}

static void test_check_094_problems_are_told_in_four_shapes_or_memory_is_short(void **state)
{
    for (enum surface s = SURFACE_NATIVE; s <= SURFACE_GOOGLE; s++)
        torture("problem", op_problem, &s);
}

/* --- configuration ---------------------------------------------------------------------------- */

static enum gw_err op_yaml(struct run *run)
{
    struct problems ps = {0};
    struct yaml *y = yaml_parse(
        SLICE("a: 1\nb: [x, 'y', {c: ~}]\nd:\n  e: |\n    text\n  f: 1.5\n"), "t.yaml", &ps);
    int64_t n = 0;
    enum gw_err err = y && !ps.errors ? GW_OK : GW_ENOMEM;

    if (!err) {
        assert_true(yaml_read_int(yaml_get(y, "a"), 0, 9, &n, &ps));
        show_int(run, n);
        show(run, yaml_path(y, "d.e")->text);
        for (const struct yaml *i = yaml_items(yaml_get(y, "b"), YAML_SEQ, true, &ps); i;
             i = i->next)
            show(run, i->text);
    }
    assert_true(y || ps.errors); /* why there is no tree is told */
    yaml_destroy(y);
    problems_deinit(&ps);
    return err;
}

static void test_check_094_yaml_is_read_or_memory_is_short(void **state)
{
    torture("yaml", op_yaml, NULL);
}

/* Problems are told, though perhaps not all of them. */
static enum gw_err op_yaml_problems(struct run *run)
{
    struct problems ps = {0};
    struct yaml *y = yaml_parse(SLICE("a: &x 1\na: 2\nb: *x\n? [k]\n: 3\n"), "t.yaml", &ps);
    bool told = ps.errors > 0;

    yaml_destroy(y);
    problems_deinit(&ps);
    return told ? GW_ENOMEM : GW_OK;
}

static void test_check_094_bad_yaml_stays_bad_when_memory_is_short(void **state)
{
    torture("bad yaml", op_yaml_problems, NULL);
}

static void show_row(const char *field, const char *key, const char *value, const char *origin,
                     void *arg)
{
    struct run *run = arg;

    show(run, slice_cstr(field));
    show(run, slice_cstr(value));
}

static struct conf_source conf_dir(void)
{
    const char *root = getenv("POSTERN_SRC");
    static char dir[1024];

    snprintf(dir, sizeof(dir), "%s/conf", root ? root : ".");
    return (struct conf_source){.dir = dir};
}

static enum gw_err op_conf(struct run *run)
{
    struct conf_source src = conf_dir();
    struct problems ps = {0};
    struct conf *c = conf_load(&src, &ps);
    enum gw_err err = c && !ps.errors ? GW_OK : GW_ENOMEM;

    fault.armed = false;
    if (!err)
        conf_each(c, show_row, run);
    conf_unref(c);
    problems_deinit(&ps);
    return err;
}

static void test_check_094_the_configuration_is_whole_or_refused(void **state)
{
    assert_true(torture_by("configuration", op_conf, NULL, 23) > 400);
}

static const struct conf *shipped; /* conf/ as it is shipped */

static enum gw_err op_registry(struct run *run)
{
    struct problems ps = {0};
    struct registry *r = registry_load(shipped, &ps);
    enum gw_err err = r && !ps.errors ? GW_OK : GW_ENOMEM;

    fault.armed = false;
    if (!err) {
        show(run, slice_cstr(r->price_version));
        for (const struct registry_model *m = r->models; m; m = m->next)
            show(run, m->id);
        for (const struct registry_alias *a = r->aliases; a; a = a->next)
            show(run, a->name);
    }
    registry_free(r);
    problems_deinit(&ps);
    return err;
}

static void test_check_094_the_registry_is_whole_or_refused(void **state)
{
    torture_by("registry", op_registry, NULL, 11);
}

static struct registry *registry;

static enum gw_err op_resolve(struct run *run)
{
    static const char *const names[] = {"openai/no-such~model", "anthropic/new.one", "nothing",
                                        "fast"};
    struct registry_route route = {0};
    struct slice why = SLICE_NONE;
    enum gw_err err;

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        err = registry_append(registry, run->arena, slice_cstr(names[i]), &route, &why);
        if (err && err != GW_EMODEL)
            return err;
        show(run, err ? why : SLICE("found"));
    }
    for (unsigned i = 0; i < route.n_targets; i++)
        show(run, route.targets[i].model->id);
    return GW_OK;
}

static void test_check_094_models_are_found_or_memory_is_short(void **state)
{
    torture("resolve", op_resolve, NULL);
}

/* --- life ------------------------------------------------------------------------------------- */

static int setup_all(void **state)
{
    struct conf_source src = conf_dir();
    struct problems ps = {0};

    inputs = arena_create(256u << 20);
    setenv("OPENAI_API_KEY", "sk-x", 1);
    shipped = conf_load(&src, &ps);
    registry = shipped ? registry_load(shipped, &ps) : NULL;
    problems_deinit(&ps);
    return inputs && registry ? 0 : -1;
}

static int teardown_all(void **state)
{
    registry = registry_free(registry);
    shipped = conf_unref(shipped);
    inputs = arena_destroy(inputs);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, check_leaks)
    const struct CMUnitTest tests[] = {
        T(test_check_094_json_is_read_or_memory_is_short),
        T(test_check_094_json_is_written_or_memory_is_short),
        T(test_check_094_a_head_is_read_or_memory_is_short),
        T(test_check_094_chunks_need_no_memory),
        T(test_check_094_events_are_read_or_memory_is_short),
        T(test_check_094_problems_are_told_in_four_shapes_or_memory_is_short),
        T(test_check_094_yaml_is_read_or_memory_is_short),
        T(test_check_094_bad_yaml_stays_bad_when_memory_is_short),
        T(test_check_094_the_configuration_is_whole_or_refused),
        T(test_check_094_the_registry_is_whole_or_refused),
        T(test_check_094_models_are_found_or_memory_is_short),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
