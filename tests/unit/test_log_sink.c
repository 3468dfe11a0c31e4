/* Log files: rotation when several processes write one, seen from one process with two sinks. */
#include "gateway/core/log_sink.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct scene {
    char dir[64];
    char file[128];
    char text[4096];
};

static int setup(void **state)
{
    struct scene *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    strcpy(s->dir, "/tmp/postern-sink-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->file, sizeof(s->file), "%s/deep/api.log", s->dir);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static const char *read_path(struct scene *s, const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(s->text, 1, sizeof(s->text) - 1, f);
    s->text[n] = '\0';
    fclose(f);
    return s->text;
}

static const char *read_file(struct scene *s)
{
    return read_path(s, s->file);
}

static void test_a_file_moved_away_is_made_again(void **state)
{
    struct scene *s = *state;
    char away[160], command[160];
    struct log_sink sink;

    snprintf(away, sizeof(away), "%s.away", s->file);
    assert_int_equal(log_sink_open_file(&sink, s->file, 0, 5), GW_OK);
    log_sink_add(&sink, "one\n", 4, 0);
    log_sink_flush(&sink, CHECK_US);
    assert_int_equal(rename(s->file, away), 0);
    log_sink_add(&sink, "two\n", 4, 0);
    log_sink_flush(&sink, CHECK_US + 1); /* not looked at again so soon */
    log_sink_add(&sink, "three\n", 6, 0);
    log_sink_flush(&sink, 2 * CHECK_US);
    assert_string_equal(read_path(s, away), "one\ntwo\n");
    assert_string_equal(read_file(s), "three\n");

    snprintf(command, sizeof(command), "rm -rf %s/deep", s->dir); /* with its directories */
    assert_int_equal(system(command), 0);
    log_sink_add(&sink, "four\n", 5, 0);
    log_sink_flush(&sink, 3 * CHECK_US);
    assert_string_equal(read_file(s), "four\n");
    log_sink_close(&sink);
}

static void test_while_another_process_rotates_lines_go_to_the_old_file(void **state)
{
    struct scene *s = *state;
    char lock[160];
    struct log_sink sink;
    int fd;

    assert_int_equal(log_sink_open_file(&sink, s->file, 4, 5), GW_OK);
    snprintf(lock, sizeof(lock), "%s.lock", s->file);
    fd = open(lock, O_CREAT | O_RDWR, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    log_sink_add(&sink, "one\n", 4, 0);
    log_sink_flush(&sink, CHECK_US);
    log_sink_add(&sink, "two\n", 4, 0);
    log_sink_flush(&sink, 2 * CHECK_US);
    assert_string_equal(read_file(s), "one\ntwo\n");
    close(fd);
    log_sink_add(&sink, "three\n", 6, 0);
    log_sink_flush(&sink, 3 * CHECK_US);
    assert_string_equal(read_file(s), "three\n");
    log_sink_close(&sink);
}

static void test_a_file_rotated_by_another_process_meanwhile_is_not_rotated_again(void **state)
{
    struct scene *s = *state;
    char renamed[160];
    struct log_sink first, second;

    snprintf(renamed, sizeof(renamed), "%s.1", s->file);
    assert_int_equal(log_sink_open_file(&first, s->file, 4, 5), GW_OK);
    assert_int_equal(log_sink_open_file(&second, s->file, 4, 5), GW_OK);
    log_sink_add(&first, "one\n", 4, 0);
    log_sink_flush(&first, CHECK_US);
    rotate(&first);
    rotate(&second); /* it saw the long file before the first one renamed it */
    log_sink_add(&second, "two\n", 4, CHECK_US);
    log_sink_flush(&second, CHECK_US);
    assert_string_equal(read_path(s, renamed), "one\n");
    assert_string_equal(read_file(s), "two\n");
    log_sink_close(&first);
    log_sink_close(&second);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_file_moved_away_is_made_again),
        TEST(test_while_another_process_rotates_lines_go_to_the_old_file),
        TEST(test_a_file_rotated_by_another_process_meanwhile_is_not_rotated_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
