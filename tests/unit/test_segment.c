/* Segments of the spool: what a kill, a full disk or damage leaves of them. */
#include "storage/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 65536u

static char dir[64];

static int enter(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/test_segment.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state)
{
    char cmd[96];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static struct segment *make(void)
{
    struct segment *g = NULL;

    assert_int_equal(segment_create(dir, SIZE, &g), GW_OK);
    return g;
}

static void add(struct segment *g, const char *text)
{
    assert_true(segment_append(g, text, strlen(text)));
}

static void expect_next(const struct segment *g, size_t *pos, const char *want)
{
    struct slice r = segment_next(g, pos);

    if (!want)
        assert_null(r.p);
    else if (!slice_is(r, want))
        fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(r), want);
}

/* The only file in the directory whose name ends like this; "" when there is none. */
static const char *only_file(const char *end)
{
    static char name[256];
    DIR *d = opendir(dir);
    struct dirent *e;

    name[0] = '\0';
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name), m = strlen(end);

        if (e->d_name[0] == '.' || n < m || strcmp(e->d_name + n - m, end) != 0)
            continue;
        assert_int_equal(name[0], '\0');
        snprintf(name, sizeof(name), "%s", e->d_name);
    }
    closedir(d);
    return name;
}

static struct segment *adopt_only(void)
{
    struct segment *g = NULL;

    assert_int_equal(segment_adopt(dir, only_file(".spool"), &g), GW_OK);
    return g;
}

static void write_at(const char *file, off_t at, const void *p, size_t n)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, p, n, at), (ssize_t)n);
    close(fd);
}

static void test_records_come_back_in_order(void **state)
{
    struct segment *g = make();
    size_t pos = 0;

    add(g, "one");
    add(g, "a longer record");
    add(g, "3");
    expect_next(g, &pos, "one");
    expect_next(g, &pos, "a longer record");
    expect_next(g, &pos, "3");
    expect_next(g, &pos, NULL);
    assert_int_equal(pos, g->end);
    add(g, "later");
    expect_next(g, &pos, "later");
    assert_int_equal(g->rows, 4);
    segment_free(g);
}

static void test_a_full_segment_refuses_and_keeps_what_it_has(void **state)
{
    struct segment *g = make();
    char big[4096];
    size_t pos = 0;
    unsigned n = 0, seen = 0;

    memset(big, 'x', sizeof(big));
    while (segment_append(g, big, sizeof(big)))
        n++;
    assert_int_equal(n, (SIZE - SEGMENT_HEADER) / (sizeof(big) + 8));
    assert_false(segment_append(g, big, SEGMENT_MAX_RECORD + 1));
    assert_false(segment_append(g, big, 0));
    while (segment_next(g, &pos).p)
        seen++;
    assert_int_equal(seen, n);
    segment_free(g);
}

static void test_the_last_byte_of_a_segment_can_be_used(void **state)
{
    struct segment *g = make();
    static char all[SIZE];
    size_t n = SIZE - SEGMENT_HEADER - 8, pos = 0;

    memset(all, 'y', sizeof(all));
    assert_true(segment_append(g, all, n));
    assert_int_equal(g->end, SIZE);
    assert_int_equal(segment_next(g, &pos).n, n);
    expect_next(g, &pos, NULL);
    segment_free(g);
    g = adopt_only();
    assert_int_equal(g->rows, 1);
    segment_free(g);
}

static void test_a_living_owners_file_is_not_taken(void **state)
{
    struct segment *g = make(), *other = NULL;

    add(g, "mine");
    assert_int_equal(segment_adopt(dir, only_file(".spool"), &other), GW_EAGAIN);
    segment_free(g);
    g = adopt_only();
    assert_true(g->adopted && g->sealed);
    assert_false(segment_append(g, "x", 1));
    segment_free(g);
}

static void test_an_adopted_file_has_its_name_and_its_records(void **state)
{
    struct segment *g = make();
    char name[SEGMENT_NAME];
    size_t pos = 0, at;

    add(g, "one");
    add(g, "two");
    at = g->end;
    memcpy(name, g->name, sizeof(name));
    segment_free(g);
    g = adopt_only();
    assert_string_equal(g->name, name);
    assert_int_equal(g->rows, 2);
    assert_int_equal(g->end, at);
    assert_int_equal(g->damaged, 0);
    expect_next(g, &pos, "one");
    expect_next(g, &pos, "two");
    assert_int_equal(pos, at); /* a position means the same in every process */
    expect_next(g, &pos, NULL);
    assert_int_equal(segment_remove(g, dir), GW_OK);
    assert_string_equal(only_file(".spool"), "");
    segment_free(g);
}

static void test_a_record_that_was_never_published_is_not_there(void **state)
{
    struct segment *g = make();
    size_t at;

    add(g, "one");
    at = g->end;
    segment_free(g);
    write_at(only_file(".spool"), (off_t)at + 4, "\1\2\3\4the bytes, but no length", 28);
    g = adopt_only();
    assert_int_equal(g->rows, 1);
    assert_int_equal(g->end, at);
    segment_free(g);
}

static void test_records_behind_a_torn_one_are_found(void **state)
{
    struct segment *g = make();
    size_t pos = 0, torn;

    add(g, "first");
    torn = g->end;
    add(g, "this one gets torn");
    add(g, "last");
    segment_free(g);
    write_at(only_file(".spool"), (off_t)torn + 12, "XX", 2);
    g = adopt_only();
    assert_int_equal(g->rows, 2);
    assert_int_equal(g->damaged, 8 + 24);
    expect_next(g, &pos, "first");
    expect_next(g, &pos, "last");
    expect_next(g, &pos, NULL);
    segment_free(g);
}

static void test_a_length_that_lies_is_no_record(void **state)
{
    static const uint32_t lies[] = {SEGMENT_MAX_RECORD, 0xffffffffu, 0x20202020u, 1};
    struct segment *g = make();
    size_t first;
    unsigned i;

    first = g->end;
    add(g, "victim");
    add(g, "survivor");
    segment_free(g);
    for (i = 0; i < 4; i++) {
        size_t pos = 0;

        write_at(only_file(".spool"), (off_t)first, &lies[i], 4);
        g = adopt_only();
        expect_next(g, &pos, "survivor");
        expect_next(g, &pos, NULL);
        segment_free(g);
    }
}

static void test_a_torn_record_at_the_end_is_told(void **state)
{
    struct segment *g = make();
    size_t torn;

    add(g, "first");
    torn = g->end;
    add(g, "last");
    segment_free(g);
    write_at(only_file(".spool"), (off_t)torn + 8, "XX", 2);
    g = adopt_only();
    assert_int_equal(g->rows, 1);
    assert_true(g->damaged > 0);
    segment_free(g);
}

static void test_a_file_that_is_cut_short_after_it_was_taken_over_is_still_read(void **state)
{
    struct segment *g = make();
    char path[320];
    size_t pos = 0;

    add(g, "one");
    add(g, "two");
    snprintf(path, sizeof(path), "%s/%s", dir, only_file(".spool"));
    segment_free(g);
    g = adopt_only();
    assert_int_equal(truncate(path, 0), 0); /* a map of it would be SIGBUS from here on */
    expect_next(g, &pos, "one");
    expect_next(g, &pos, "two");
    expect_next(g, &pos, NULL);
    segment_free(g);
}

static void test_a_file_that_was_cut_short_has_the_records_before_the_cut(void **state)
{
    struct segment *g = make();
    char path[320];
    size_t pos = 0, second;

    add(g, "one");
    add(g, "two");
    second = g->end;
    add(g, "three");
    snprintf(path, sizeof(path), "%s/%s", dir, only_file(".spool"));
    segment_free(g);
    assert_int_equal(truncate(path, (off_t)second + 11), 0);
    g = adopt_only();
    expect_next(g, &pos, "one");
    expect_next(g, &pos, "two");
    expect_next(g, &pos, NULL);
    segment_free(g);
}

static void test_a_file_removed_under_its_owner_is_noticed_and_its_records_stay(void **state)
{
    struct segment *g = make();
    char path[320];
    size_t pos = 0;
    int fd = -1;

    add(g, "one");
    assert_false(segment_has_lost_its_file(g));
    snprintf(path, sizeof(path), "%s/%s", dir, only_file(".spool"));
    assert_int_equal(unlink(path), 0);
    assert_true(segment_has_lost_its_file(g));
    segment_forget_file(g);
    assert_false(segment_has_lost_its_file(g));
    g->sealed = true;
    assert_int_equal(segment_save(g, dir, &fd), GW_OK);
    segment_settle(g, fd);
    segment_free(g);
    g = adopt_only();
    expect_next(g, &pos, "one");
    segment_free(g);
}

static void test_files_that_are_no_segments_are_set_aside(void **state)
{
    struct segment *g = NULL;
    static const char zeros[4096];

    write_at("not-one.spool", 0, "hello", 5);
    assert_int_equal(segment_adopt(dir, "not-one.spool", &g), GW_EBADREQ);
    assert_string_equal(only_file(".bad"), "not-one.spool.bad");
    write_at("zeros.spool", 0, zeros, sizeof(zeros));
    assert_int_equal(segment_adopt(dir, "zeros.spool", &g), GW_EBADREQ);
    assert_string_equal(only_file("zeros.spool.bad"), "zeros.spool.bad");
    assert_string_equal(only_file(".spool"), "");
}

static void test_a_header_that_is_damaged_is_set_aside(void **state)
{
    struct segment *g = make();

    add(g, "one");
    segment_free(g);
    write_at(only_file(".spool"), 9, "Z", 1);
    assert_int_equal(segment_adopt(dir, only_file(".spool"), &g), GW_EBADREQ);
    assert_string_not_equal(only_file(".bad"), "");
}

static void test_what_was_left_before_the_rename_is_removed(void **state)
{
    struct segment *g = NULL;

    write_at("new-0123", 0, "half", 4);
    assert_int_equal(segment_adopt(dir, "new-0123", &g), GW_EAGAIN);
    assert_string_equal(only_file("new-0123"), "");
}

static void test_a_link_is_not_followed(void **state)
{
    struct segment *g = make();
    char from[320], to[320];

    add(g, "x");
    snprintf(from, sizeof(from), "%s/%s", dir, only_file(".spool"));
    segment_free(g);
    snprintf(to, sizeof(to), "%s/link.spool", dir);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(segment_adopt(dir, "link.spool", &g), GW_EAGAIN);
}

static void test_check_092_no_room_is_an_error_at_once(void **state)
{
    struct rlimit old, small = {.rlim_cur = SIZE / 2, .rlim_max = RLIM_INFINITY};
    struct segment *g = NULL;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(segment_create(dir, SIZE, &g), GW_EFULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_string_equal(only_file(""), ""); /* nothing is left behind */
    g = make();
    segment_free(g);
}

static void test_check_092_no_directory_is_an_error(void **state)
{
    struct segment *g = NULL;
    char path[96];

    snprintf(path, sizeof(path), "%s/a/b", dir);
    assert_int_equal(segment_create(path, SIZE, &g), GW_EIO);
    assert_int_equal(segment_make_dir(path), GW_OK);
    assert_int_equal(segment_make_dir(path), GW_OK);
    assert_int_equal(segment_create(path, SIZE, &g), GW_OK);
    segment_free(g);
    write_at("file", 0, "x", 1);
    snprintf(path, sizeof(path), "%s/file/b", dir);
    assert_int_equal(segment_make_dir(path), GW_EIO);
}

static void test_memory_can_be_written_out(void **state)
{
    struct segment *g = segment_create_in_memory(SIZE), *other = NULL;
    char name[SEGMENT_NAME];
    size_t pos = 0;
    int fd = -1;

    assert_non_null(g);
    add(g, "from");
    add(g, "memory");
    memcpy(name, g->name, sizeof(name));
    g->sealed = true;
    assert_int_equal(segment_save(g, dir, &fd), GW_OK);
    segment_settle(g, fd);
    assert_int_equal(segment_adopt(dir, only_file(".spool"), &other), GW_EAGAIN); /* locked */
    expect_next(g, &pos, "from");
    segment_free(g);
    g = adopt_only();
    assert_string_equal(g->name, name);
    pos = 0;
    expect_next(g, &pos, "from");
    expect_next(g, &pos, "memory");
    expect_next(g, &pos, NULL);
    segment_free(g);
}

/* In a child: records numbered from 1, until killed; *count is what was acknowledged. */
static void write_until_killed(_Atomic unsigned *count)
{
    struct segment *g = NULL;
    char text[64];
    unsigned i;

    for (i = 1;; i++) {
        int n = snprintf(text, sizeof(text), "%u %*s", i, (int)(i % 40), "");

        while (!g || !segment_append(g, text, (size_t)n)) {
            segment_free(g);
            if (segment_create(dir, SIZE, &g) != GW_OK)
                _exit(1);
        }
        atomic_store(count, i);
    }
}

static unsigned take_over_all(unsigned *ret_highest)
{
    struct dirent *e;
    DIR *d = opendir(dir);
    unsigned rows = 0;

    *ret_highest = 0;
    while ((e = readdir(d)) != NULL) {
        struct segment *g = NULL;
        struct slice r;
        size_t pos = 0;

        if (e->d_name[0] == '.' || segment_adopt(dir, e->d_name, &g) != GW_OK)
            continue;
        assert_int_equal(g->damaged, 0);
        for (; (r = segment_next(g, &pos)).p; rows++) {
            unsigned v = (unsigned)strtoul(r.p, NULL, 10);

            *ret_highest = v > *ret_highest ? v : *ret_highest;
        }
        assert_int_equal(segment_remove(g, dir), GW_OK);
        segment_free(g);
    }
    closedir(d);
    return rows;
}

static void test_check_097_a_killed_writer_loses_nothing_it_acknowledged(void **state)
{
    _Atomic unsigned *count =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned round, acked, rows, highest;

    assert_true(count != MAP_FAILED);
    for (round = 0; round < 40; round++) {
        pid_t pid;

        atomic_store(count, 0);
        pid = fork();
        if (pid == 0)
            write_until_killed(count);
        while (atomic_load(count) < 50 + 37 * round)
            ;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        acked = atomic_load(count);
        rows = take_over_all(&highest);
        assert_true(rows == acked || rows == acked + 1);
        assert_int_equal(highest, rows);
    }
    munmap((void *)count, 4096);
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_records_come_back_in_order),
        T(test_a_full_segment_refuses_and_keeps_what_it_has),
        T(test_the_last_byte_of_a_segment_can_be_used),
        T(test_a_living_owners_file_is_not_taken),
        T(test_an_adopted_file_has_its_name_and_its_records),
        T(test_a_record_that_was_never_published_is_not_there),
        T(test_records_behind_a_torn_one_are_found),
        T(test_a_length_that_lies_is_no_record),
        T(test_a_torn_record_at_the_end_is_told),
        T(test_a_file_that_is_cut_short_after_it_was_taken_over_is_still_read),
        T(test_a_file_that_was_cut_short_has_the_records_before_the_cut),
        T(test_a_file_removed_under_its_owner_is_noticed_and_its_records_stay),
        T(test_files_that_are_no_segments_are_set_aside),
        T(test_a_header_that_is_damaged_is_set_aside),
        T(test_what_was_left_before_the_rename_is_removed),
        T(test_a_link_is_not_followed),
        T(test_check_092_no_room_is_an_error_at_once),
        T(test_check_092_no_directory_is_an_error),
        T(test_memory_can_be_written_out),
        T(test_check_097_a_killed_writer_loses_nothing_it_acknowledged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
