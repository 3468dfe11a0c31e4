/* test_sse.c - the parser gives the same events however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "providers/sse.c"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT 4096u

/* A transcript: each event as "type|id|data;" with lengths, then how it ended. */
struct script {
    struct buf out;
    bool want_raw;
    enum gw_err stop_with; /* returned by the callback after `stop_after` events */
    unsigned n, stop_after;
};

static enum gw_err record(const struct sse_event *ev, void *arg)
{
    struct script *s = arg;

    s->n++;
    buf_printf(&s->out, "[%zu:%.*s|%zu:%.*s|%zu:", ev->type.n, SLICE_ARG(ev->type), ev->id.n,
               SLICE_ARG(ev->id), ev->data.n);
    buf_add_slice(&s->out, ev->data);
    buf_add_cstr(&s->out, "]");
    if (s->want_raw) {
        buf_add_cstr(&s->out, "{");
        buf_add_slice(&s->out, ev->raw);
        buf_add_cstr(&s->out, "}");
    }
    return s->stop_with && s->n == s->stop_after ? s->stop_with : GW_OK;
}

static void script_init(struct script *s)
{
    *s = (struct script){0};
    buf_init(&s->out, 1u << 24);
}

/* Feeds text in pieces that end at each offset of cuts[]; each piece is a fresh allocation of its
 * exact size, so a read past its end is seen by the sanitizer. */
static enum gw_err feed_cut(struct sse_parser *p, struct slice text, const size_t *cuts, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i <= n; i++) {
        size_t to = i < n ? cuts[i] : text.n;
        char *piece = malloc(to - at ? to - at : 1);
        enum gw_err err;

        assert_non_null(piece);
        memcpy(piece, text.p + at, to - at);
        err = sse_feed(p, slice_of(piece, to - at));
        free(piece);
        if (err)
            return err;
        at = to;
    }
    return sse_finish(p);
}

static char *transcript(struct slice text, const size_t *cuts, size_t n, size_t limit)
{
    struct script s;
    struct sse_parser p;
    enum gw_err err;

    script_init(&s);
    sse_init(&p, limit, record, &s);
    err = feed_cut(&p, text, cuts, n);
    buf_printf(&s.out, " %s", err_info(err)->name);
    sse_deinit(&p);
    buf_add_char(&s.out, '\0');
    return s.out.p;
}

static void assert_events(const char *text, size_t n, const char *wanted)
{
    char *got = transcript(slice_of(text, n), NULL, 0, LIMIT);

    assert_string_equal(got, wanted);
    free(got);
}

#define EVENTS(text, wanted) assert_events((text), sizeof(text) - 1, (wanted))
#define OK " GW_OK"

static void test_lines_may_end_in_lf_cr_or_crlf(void **state)
{
    EVENTS("data: a\n\ndata: b\n\n", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\r\rdata: b\r\r", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\r\n\r\ndata: b\r\n\r\n", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\r\n\ndata: b\n\r\n", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\n\rdata: b\r\r\n", "[0:|0:|1:a][0:|0:|1:b]" OK);
}

static void test_data_lines_are_joined_with_lf(void **state)
{
    EVENTS("data: a\ndata: b\ndata: c\n\n", "[0:|0:|5:a\nb\nc]" OK);
    EVENTS("data:\ndata:\n\n", "[0:|0:|1:\n]" OK);
    EVENTS("data\n\n", "[0:|0:|0:]" OK);
    EVENTS("data:\n\n", "[0:|0:|0:]" OK);
    EVENTS("data\ndata: x\n\n", "[0:|0:|2:\nx]" OK);
}

static void test_one_space_after_the_colon_is_dropped(void **state)
{
    EVENTS("data:a\n\n", "[0:|0:|1:a]" OK);
    EVENTS("data:  a \n\n", "[0:|0:|3: a ]" OK);
    EVENTS("data:\ta\n\n", "[0:|0:|2:\ta]" OK);
    EVENTS("data: a:b: c\n\n", "[0:|0:|6:a:b: c]" OK);
}

static void test_fields_type_and_id_are_given(void **state)
{
    EVENTS("event: x\nid: 7\ndata: a\n\ndata: b\n\n", "[1:x|1:7|1:a][0:|0:|1:b]" OK);
    EVENTS("event: x\nevent: yy\ndata: a\n\n", "[2:yy|0:|1:a]" OK);
    EVENTS("id: a\0b\ndata: a\n\n", "[0:|0:|1:a]" OK);
}

static void test_unknown_fields_and_comments_are_ignored(void **state)
{
    EVENTS(": hello\n\n:\ndata: a\n: in between\nretry: 10\nfoo\nbar: 1\n Data: no\n\n",
           "[0:|0:|1:a]" OK);
    EVENTS("event: lonely\n\ndata: a\n\n", "[0:|0:|1:a]" OK);
    EVENTS("\n\n\r\n\rdata: a\n\n\n\n", "[0:|0:|1:a]" OK);
    EVENTS("DATA: a\n\ndatax: b\n\n", OK);
}

static void test_a_bom_is_skipped_only_at_the_front(void **state)
{
    EVENTS("\xEF\xBB\xBF"
           "data: a\n\n",
           "[0:|0:|1:a]" OK);
    EVENTS("\xEF\xBB\xBF\xEF\xBB\xBF"
           "data: a\n\n",
           OK);
    EVENTS("\xEF\xBB"
           "data: a\n\ndata: b\n\n",
           "[0:|0:|1:b]" OK);
    EVENTS("data: a\n\n\xEF\xBB\xBF"
           "data: b\n\n",
           "[0:|0:|1:a]" OK);
    EVENTS("\xEF", OK);
    EVENTS("\xEF\xBB\xBF", OK);
    EVENTS("", OK);
}

static void test_an_event_without_its_blank_line_comes_at_the_end(void **state)
{
    EVENTS("data: a\n\ndata: b\n", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\n\ndata: b", "[0:|0:|1:a][0:|0:|1:b]" OK);
    EVENTS("data: a\r", "[0:|0:|1:a]" OK);
    EVENTS("event: x\n", OK);
}

/* --- cuts ----------------------------------------------------------------------------------- */

static void assert_same(struct slice text, const char *whole, const size_t *cuts, size_t n,
                        size_t limit)
{
    char *got = transcript(text, cuts, n, limit);

    assert_string_equal(got, whole);
    free(got);
}

static void check_all_cuts(struct slice text, size_t limit)
{
    char *whole = transcript(text, NULL, 0, limit);
    size_t *every = calloc(text.n + 1, sizeof(*every));

    for (size_t i = 0; i < text.n; i++)
        every[i] = i + 1;
    assert_same(text, whole, every, text.n, limit);
    for (size_t i = 0; i <= text.n; i++)
        assert_same(text, whole, &i, 1, limit);
    for (size_t i = 0; text.n < 80 && i <= text.n; i++)
        for (size_t j = i; j <= text.n; j++)
            assert_same(text, whole, (size_t[]){i, j}, 2, limit);
    free(every);
    free(whole);
}

static const char *const samples[] = {
    "data: a\r\n\r\ndata: b\r\r\rdata: c\n\n\ndata: d\r\n",
    "\xEF\xBB\xBF: hi\r\n\r\nevent: e\r\ndata: 1\r\ndata: 2\r\n\r\n",
    "\xEF\xBBx\ndata: a\n\n",
    ":c\r:c\r\n:c\n\ndata:x\r:c\rdata:y\r\r\ndata:z",
    "id: 1\nevent: t\ndata\n\nid\nevent\ndata: \n\n\xEF\xBB\xBF",
    "data: {\"a\":1}\n\ndata: [DONE]\n\n",
};

static void test_check_055_any_two_or_three_way_split_gives_the_same_events(void **state)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
        check_all_cuts(slice_cstr(samples[i]), LIMIT);
}

static void test_check_055_random_streams_give_the_same_events_however_cut(void **state)
{
    static const char *const bits[] = {"data", "data:", "data: ", "event: x",    "id: 1",
                                       ":",    " ",     "\n",     "\r",          "\r\n",
                                       "\n\n", "\r\r",  "xyz",    "\xEF\xBB\xBF"};
    unsigned seed = 1;

    for (int round = 0; round < 400; round++) {
        struct buf b;

        buf_init(&b, 4096);
        for (int i = 0; i < 12; i++) {
            seed = seed * 1103515245u + 12345u;
            buf_add_cstr(&b, bits[(seed >> 16) % (sizeof(bits) / sizeof(bits[0]))]);
        }
        check_all_cuts(buf_slice(&b), round % 2 ? LIMIT : 9);
        buf_deinit(&b);
    }
}

static void check_file(const char *path)
{
    static char text[1 << 16];
    FILE *f = fopen(path, "rb");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof(text), f);
    fclose(f);
    check_all_cuts(slice_of(text, n), LIMIT);
}

static void test_check_055_the_corpus_gives_the_same_events_however_cut(void **state)
{
    char dir[1024], path[2048];
    struct dirent *e;
    unsigned n = 0;
    DIR *d;

    /* .../tests/unit/test_sse.c, wherever the build was started */
    snprintf(dir, sizeof(dir), "%.*s/../fuzz/corpus/sse", (int)(strrchr(__FILE__, '/') - __FILE__),
             __FILE__);
    d = opendir(dir);
    assert_non_null(d);
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        check_file(path);
        n++;
    }
    closedir(d);
    assert_true(n >= 5);
}

/* --- limits, raw bytes, copies -------------------------------------------------------------- */

static void test_an_event_over_the_limit_is_refused_wherever_it_is_cut(void **state)
{
    check_all_cuts(SLICE("data: 123\n\ndata: 1234\n\ndata: 1\n\n"), 10);
    check_all_cuts(SLICE("data: 123\n\ndata: 1234\n\ndata: 1\n\n"), 11);
    check_all_cuts(SLICE("data: 123\r\n\r\n: a comment\r\ndata: 1\r\n\r\n"), 11);
    check_all_cuts(SLICE("data: 123\r\n\r\n: a comment\r\ndata: 1\r\n\r\n"), 10);
    assert_events("data: 1\n\n", 9, "[0:|0:|1:1]" OK);
}

static void test_the_limit_counts_the_lines_of_one_event(void **state)
{
    char *got = transcript(SLICE("data: 1\n\ndata: 12\n\n"), NULL, 0, 8);

    assert_string_equal(got, "[0:|0:|1:1] GW_ETOOBIG");
    free(got);
    got = transcript(SLICE("data: 1\n\ndata: 12"), NULL, 0, 7);
    assert_string_equal(got, " GW_ETOOBIG");
    free(got);
}

static void test_endless_comments_never_fill_the_buffer(void **state)
{
    struct script s;
    struct sse_parser p;

    script_init(&s);
    sse_init(&p, 16, record, &s);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(sse_feed(&p, SLICE(": ping")), GW_OK);
        assert_int_equal(sse_feed(&p, SLICE("\n")), GW_OK);
        assert_false(sse_has_partial(&p));
    }
    assert_int_equal(sse_feed(&p, SLICE("data: x\n\n")), GW_OK);
    assert_int_equal(s.n, 1);
    sse_deinit(&p);
    buf_deinit(&s.out);
}

static void assert_raw(const char *first, const char *second, const char *wanted)
{
    struct script s;
    struct sse_parser p;

    script_init(&s);
    s.want_raw = true;
    sse_init(&p, LIMIT, record, &s);
    assert_int_equal(sse_feed(&p, slice_cstr(first)), GW_OK);
    assert_int_equal(sse_feed(&p, slice_cstr(second)), GW_OK);
    assert_int_equal(sse_finish(&p), GW_OK);
    buf_add_char(&s.out, '\0');
    assert_string_equal(s.out.p, wanted);
    sse_deinit(&p);
    buf_deinit(&s.out);
}

static void test_raw_is_the_event_as_it_came(void **state)
{
    assert_raw("id: 1\ndata: a\n", "\n", "[0:|1:1|1:a]{id: 1\ndata: a\n\n}");
    assert_raw("data: a\r\n\r\n", "", "[0:|0:|1:a]{data: a\r\n\r\n}");
    assert_raw(": c\n\ndata: a\nfoo: 1\n\n", "data: b\n\n",
               "[0:|0:|1:a]{data: a\nfoo: 1\n\n}[0:|0:|1:b]{data: b\n\n}");
}

static void test_raw_is_empty_when_the_blank_line_is_missing_or_a_lone_cr(void **state)
{
    assert_raw("data: a\r\n\r", "\ndata: b\r\r", "[0:|0:|1:a]{}[0:|0:|1:b]{}");
    assert_raw("data: a\n", "", "[0:|0:|1:a]{}");
}

static enum gw_err inside(const struct sse_event *ev, void *arg)
{
    const struct slice *in = arg;

    assert_true(ev->data.p >= in->p && ev->data.p + ev->data.n <= in->p + in->n);
    assert_true(ev->raw.p >= in->p && ev->raw.p + ev->raw.n <= in->p + in->n);
    return GW_OK;
}

static void test_events_within_one_feed_are_not_copied(void **state)
{
    struct slice in = SLICE("data: aaa\n\nevent: x\ndata: bbb\n\n");
    struct sse_parser p;

    sse_init(&p, LIMIT, inside, &in);
    assert_int_equal(sse_feed(&p, in), GW_OK);
    assert_null(p.held.p);
    assert_null(p.joined.p);
    sse_deinit(&p);
}

static void test_a_callback_stops_the_feed_with_its_error(void **state)
{
    struct script s;
    struct sse_parser p;

    script_init(&s);
    s.stop_with = GW_EUPBAD;
    s.stop_after = 2;
    sse_init(&p, LIMIT, record, &s);
    assert_int_equal(sse_feed(&p, SLICE("data: a\n\nda")), GW_OK);
    assert_int_equal(sse_feed(&p, SLICE("ta: b\n\ndata: c\n\n")), GW_EUPBAD);
    assert_int_equal(s.n, 2);
    sse_deinit(&p);
    buf_deinit(&s.out);
}

static void test_a_partial_event_is_known(void **state)
{
    struct script s;
    struct sse_parser p;

    script_init(&s);
    sse_init(&p, LIMIT, record, &s);
    assert_false(sse_has_partial(&p));
    assert_int_equal(sse_feed(&p, SLICE("\xEF")), GW_OK);
    assert_true(sse_has_partial(&p));
    assert_int_equal(sse_feed(&p, SLICE("\xBB\xBF")), GW_OK);
    assert_false(sse_has_partial(&p));
    assert_int_equal(sse_feed(&p, SLICE("d")), GW_OK);
    assert_true(sse_has_partial(&p));
    assert_int_equal(sse_feed(&p, SLICE("ata:\n\n")), GW_OK);
    assert_false(sse_has_partial(&p));
    sse_deinit(&p);
    buf_deinit(&s.out);
}

/* --- writing -------------------------------------------------------------------------------- */

static void assert_written(struct slice type, struct slice data, const char *wanted)
{
    struct buf b;

    buf_init(&b, LIMIT);
    sse_write(&b, type, data);
    buf_add_char(&b, '\0');
    assert_string_equal(b.p, wanted);
    buf_deinit(&b);
}

static void test_check_054_written_data_cannot_forge_an_event(void **state)
{
    assert_written(SLICE_NONE, SLICE("a"), "data: a\n\n");
    assert_written(SLICE("t"), SLICE("a"), "event: t\ndata: a\n\n");
    assert_written(SLICE_NONE, SLICE_NONE, "data: \n\n");
    assert_written(SLICE_NONE, SLICE("a\n\ndata: [DONE]\n\n"),
                   "data: a\ndata: \ndata: data: [DONE]\ndata: \ndata: \n\n");
    assert_written(SLICE_NONE, SLICE("a\r\rb\r\nc"), "data: a\ndata: \ndata: b\ndata: c\n\n");
}

static void test_what_is_written_is_read_back(void **state)
{
    struct slice data = SLICE("one\n\n two\n:three\n");
    struct buf b;
    char *got;

    buf_init(&b, LIMIT);
    sse_write(&b, SLICE("kind"), data);
    got = transcript(buf_slice(&b), NULL, 0, LIMIT);
    assert_string_equal(got, "[4:kind|0:|17:one\n\n two\n:three\n]" OK);
    free(got);
    buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_may_end_in_lf_cr_or_crlf),
        cmocka_unit_test(test_data_lines_are_joined_with_lf),
        cmocka_unit_test(test_one_space_after_the_colon_is_dropped),
        cmocka_unit_test(test_fields_type_and_id_are_given),
        cmocka_unit_test(test_unknown_fields_and_comments_are_ignored),
        cmocka_unit_test(test_a_bom_is_skipped_only_at_the_front),
        cmocka_unit_test(test_an_event_without_its_blank_line_comes_at_the_end),
        cmocka_unit_test(test_check_055_any_two_or_three_way_split_gives_the_same_events),
        cmocka_unit_test(test_check_055_random_streams_give_the_same_events_however_cut),
        cmocka_unit_test(test_check_055_the_corpus_gives_the_same_events_however_cut),
        cmocka_unit_test(test_an_event_over_the_limit_is_refused_wherever_it_is_cut),
        cmocka_unit_test(test_the_limit_counts_the_lines_of_one_event),
        cmocka_unit_test(test_endless_comments_never_fill_the_buffer),
        cmocka_unit_test(test_raw_is_the_event_as_it_came),
        cmocka_unit_test(test_raw_is_empty_when_the_blank_line_is_missing_or_a_lone_cr),
        cmocka_unit_test(test_events_within_one_feed_are_not_copied),
        cmocka_unit_test(test_a_callback_stops_the_feed_with_its_error),
        cmocka_unit_test(test_a_partial_event_is_known),
        cmocka_unit_test(test_check_054_written_data_cannot_forge_an_event),
        cmocka_unit_test(test_what_is_written_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
