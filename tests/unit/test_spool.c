/* The spool: rolling over, shipping, files of the dead, and a disk that is full or gone. The clock
 * stands still but for what a test moves (--wrap). */
#include "storage/spool.h"

#include "gateway/core/offload.h"

#include "tests/unit/turns.h"

#include <dirent.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 16384u
#define RECORD 1000u
#define PER_SEGMENT ((SIZE - SEGMENT_HEADER) / (RECORD + 8))

static char base[64], dir[80];
static struct spool *spool;
static unsigned adopted, aside, states, lost;
static enum gw_err last_state;

static void on_adopted(const struct segment *g, void *arg)
{
    adopted++;
}

static void on_aside(const char *file, void *arg)
{
    aside++;
}

static void on_lost(unsigned n, void *arg)
{
    lost += n;
}

static void on_state(enum gw_err err, void *arg)
{
    states++;
    last_state = err;
}

static int enter(void **state)
{
    snprintf(base, sizeof(base), "/tmp/test_spool.XXXXXX");
    adopted = aside = states = lost = 0;
    if (!mkdtemp(base))
        return -1;
    snprintf(dir, sizeof(dir), "%s/spool", base);
    return loop_init() || offload_init(2, 64) ? -1 : 0;
}

static int leave(void **state)
{
    char cmd[96];

    spool = spool_close(spool);
    offload_deinit();
    loop_deinit();
    snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
    return system(cmd);
}

static struct spool_config config(void)
{
    return (struct spool_config){
        .dir = dir,
        .segment_bytes = SIZE,
        .memory_bytes = 2 * SIZE,
        .max_bytes = 64 * SIZE,
        .sync = SPOOL_NEVER,
        .scan_us = 1000,
        .on = {.adopted = on_adopted, .set_aside = on_aside, .lost = on_lost, .state = on_state},
    };
}

static void open_spool(struct spool_config cfg)
{
    spool = spool_open(&cfg);
    assert_non_null(spool);
}

static struct spool_stats stats(void)
{
    struct spool_stats st;

    spool_stats(spool, &st);
    return st;
}

static bool add(unsigned number)
{
    char text[RECORD];
    int n = snprintf(text, sizeof(text), "%u", number);

    memset(text + n, ' ', sizeof(text) - (size_t)n);
    return spool_append(spool, slice_of(text, sizeof(text)));
}

static void add_all(unsigned from, unsigned to)
{
    for (; from <= to; from++)
        assert_true(add(from));
}

static unsigned files(const char *end)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    while (d && (e = readdir(d)) != NULL)
        n += strlen(e->d_name) >= strlen(end) &&
             strcmp(e->d_name + strlen(e->d_name) - strlen(end), end) == 0;
    if (d)
        closedir(d);
    return n;
}

/* Ships everything, checking that the numbers come once and in order from `from`. */
static unsigned ship_all(unsigned from)
{
    const struct segment *g;

    while ((g = spool_first(spool)) != NULL) {
        size_t pos = g->done;
        uint64_t rows = 0;
        struct slice r;

        for (; (r = segment_next(g, &pos)).p; rows++)
            assert_int_equal(strtoul(r.p, NULL, 10), from++);
        spool_shipped(spool, g, pos, rows);
    }
    return from;
}

static void test_records_are_shipped_in_order_over_many_segments(void **state)
{
    struct spool_config cfg = config();
    unsigned i;

    cfg.memory_bytes = 64 * SIZE; /* the disk may be slower than this loop */
    open_spool(cfg);
    for (i = 1; i <= 20; i++) {
        add_all((i - 1) * 10 + 1, i * 10);
        loop_turn();
    }
    assert_int_equal(stats().rows, 200);
    assert_true(stats().bytes >= 200 * RECORD);
    assert_int_equal(ship_all(1), 201);
    assert_int_equal(stats().rows, 0);
    assert_int_equal(stats().bytes, 0);
    turn_until(files(".spool") <= 2); /* the active one, perhaps a spare */
    spool = spool_close(spool);
    assert_int_equal(files(".spool"), 0);
}

static void test_the_next_segment_is_made_ahead(void **state)
{
    open_spool(config());
    add_all(1, PER_SEGMENT / 2);
    assert_int_equal(files(".spool"), 1);
    add_all(PER_SEGMENT / 2 + 1, PER_SEGMENT / 2 + 2);
    turn_until(files(".spool") == 2 && stats().file_bytes == 2 * SIZE);
    add_all(PER_SEGMENT / 2 + 3, PER_SEGMENT + 3);
    assert_int_equal(stats().memory_bytes, 0);
    assert_int_equal(stats().rows, PER_SEGMENT + 3);
}

static void test_faster_than_the_disk_goes_through_memory_and_loses_nothing(void **state)
{
    open_spool(config());
    add_all(1, 3 * PER_SEGMENT); /* no turn of the loop in between */
    assert_int_equal(stats().memory_bytes, 2 * SIZE);
    assert_false(add(0));
    turn_until(stats().memory_bytes == 0);
    assert_int_equal(ship_all(1), 3 * PER_SEGMENT + 1);
}

static void test_part_of_a_segment_may_be_shipped(void **state)
{
    const struct segment *g;
    size_t pos = 0;

    open_spool(config());
    add_all(1, 5);
    g = spool_first(spool);
    segment_next(g, &pos);
    segment_next(g, &pos);
    spool_shipped(spool, g, pos, 2);
    assert_int_equal(stats().rows, 3);
    assert_ptr_equal(spool_first(spool), g);
    assert_int_equal(ship_all(3), 6);
    assert_null(spool_first(spool));
    add_all(6, 6);
    assert_int_equal(ship_all(6), 7);
}

static void test_the_position_can_be_moved_both_ways(void **state)
{
    const struct segment *g;
    size_t third = 0, i;

    open_spool(config());
    add_all(1, 5);
    g = spool_first(spool);
    for (i = 0; i < 3; i++)
        segment_next(g, &third);
    assert_int_equal(spool_move(spool, g, third), 3);
    assert_int_equal(stats().rows, 2);
    assert_int_equal(spool_move(spool, g, 0), 0);
    assert_int_equal(stats().rows, 5);
    assert_int_equal(ship_all(1), 6);
    assert_int_equal(spool_move(spool, g, third), 3);
    assert_int_equal(ship_all(4), 6);
    assert_int_equal(stats().bytes, 0);
}

static void test_what_is_left_is_taken_over(void **state)
{
    open_spool(config());
    add_all(1, 7);
    spool = spool_close(spool);
    assert_int_equal(files(".spool"), 1);
    open_spool(config());
    turn_until(adopted == 1);
    add_all(8, 9);
    assert_int_equal(stats().rows, 9);
    assert_int_equal(ship_all(1), 10);
    spool = spool_close(spool);
    assert_int_equal(files(".spool"), 0);
}

static void test_many_files_are_taken_over_a_few_at_a_time(void **state)
{
    unsigned i, next = 1;

    for (i = 0; i < 11; i++) {
        struct spool_config cfg = config();

        cfg.scan_us = UINT64_MAX / 4;
        open_spool(cfg);
        add_all(1, 1);
        spool = spool_close(spool); /* before it looks at the others' */
    }
    assert_int_equal(files(".spool"), 11);
    open_spool(config());
    while (next <= 11) {
        const struct segment *g;

        turn_until((g = spool_first(spool)) != NULL);
        assert_true(stats().rows <= 4);
        spool_shipped(spool, g, g->end, 1);
        next++;
    }
    spool = spool_close(spool);
    assert_int_equal(files(".spool"), 0);
}

static void test_two_spools_share_a_directory(void **state)
{
    struct spool_config cfg = config();
    struct spool *other;

    open_spool(cfg);
    add_all(1, 3);
    other = spool_open(&cfg);
    assert_non_null(other);
    assert_true(spool_append(other, SLICE("another's")));
    loop_turn();
    loop_turn();
    assert_int_equal(adopted, 0);
    other = spool_close(other);
    turn_until(adopted == 1);
    assert_true(slice_is(segment_next(spool_first(spool), &(size_t){0}), "another's"));
}

/* Behind the first n records. */
static size_t position_of(const struct segment *g, unsigned n)
{
    size_t pos = 0;

    while (n--)
        segment_next(g, &pos);
    return pos;
}

static void test_an_old_segment_takes_no_more_records(void **state)
{
    struct spool_config cfg = config();

    cfg.fill_us = 1;
    open_spool(cfg);
    add_all(1, 1);
    turn_until(files(".spool") == 2); /* another to go on in */
    loop_turn();
    add_all(2, 2);
    assert_int_equal(spool_first(spool)->rows, 1);
    assert_int_equal(ship_all(1), 3);
}

static void test_a_segment_that_is_refused_is_kept_under_another_name(void **state)
{
    open_spool(config());
    add_all(1, 3);
    spool_shipped(spool, spool_first(spool), position_of(spool_first(spool), 1), 1);
    assert_int_equal(spool_put_aside(spool, spool_first(spool)), 2);
    assert_int_equal(stats().rows, 0);
    assert_int_equal(stats().bytes, 0);
    assert_null(spool_first(spool));
    turn_until(files(".spool.old") == 1);
    add_all(4, 4);
    assert_int_equal(ship_all(4), 5);
    spool = spool_close(spool);
    assert_int_equal(files(".spool.old"), 1);
    assert_int_equal(files(".spool"), 0);
}

static void test_files_that_are_none_of_ours_are_set_aside(void **state)
{
    char path[128];
    FILE *f;

    mkdir(dir, 0700);
    snprintf(path, sizeof(path), "%s/garbage.spool", dir);
    f = fopen(path, "w");
    fputs("garbage", f);
    fclose(f);
    open_spool(config());
    turn_until(aside == 1);
    assert_int_equal(files("garbage.spool.bad"), 1);
}

static void clear_directory(void)
{
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

static void test_check_092_records_outlive_a_directory_that_is_cleared_under_them(void **state)
{
    open_spool(config());
    add_all(1, PER_SEGMENT + 2); /* a sealed file, the active one, and perhaps a spare */
    turn_until(files(".spool") >= 2);
    clear_directory();
    turn_until(lost >= 2 && stats().memory_bytes == 0 && files(".spool") >= 3);
    add_all(PER_SEGMENT + 3, PER_SEGMENT + 5);
    assert_int_equal(stats().rows, PER_SEGMENT + 5);
    spool = spool_close(spool); /* what it leaves is in files */
    open_spool(config());
    turn_until(stats().rows == PER_SEGMENT + 5);
    for (unsigned n = 0; n < PER_SEGMENT + 5;) {
        const struct segment *g = spool_first(spool);

        assert_non_null(g);
        n += (unsigned)g->rows;
        spool_shipped(spool, g, g->end, g->rows);
    }
    spool = spool_close(spool);
    assert_int_equal(files(".spool"), 0);
}

static void test_a_spool_whose_file_is_removed_when_all_is_shipped_goes_on(void **state)
{
    open_spool(config());
    add_all(1, 2);
    assert_int_equal(ship_all(1), 3);
    clear_directory();
    turn_until(lost && files(".spool") >= 1 && !stats().bytes && !stats().memory_bytes);
    assert_int_equal(stats().rows, 0);
    add_all(3, 4);
    assert_int_equal(ship_all(3), 5);
}

/* Damages the record behind a position of the segment that is shipped first. */
static void damage(size_t pos)
{
    const struct segment *g = spool_first(spool);

    g->map[(pos ? pos : SEGMENT_HEADER) + 8 + 3] ^= 0x10;
}

static void test_records_damaged_under_us_are_given_up_and_hold_up_nothing(void **state)
{
    const struct segment *g;
    size_t pos = 0;
    uint64_t rows = 0;

    open_spool(config());
    add_all(1, 3);
    damage(spool_first(spool)->end - RECORD - 8); /* the last one */
    g = spool_first(spool);
    while (segment_next(g, &pos).p)
        rows++;
    assert_int_equal(rows, 2);
    spool_shipped(spool, g, pos, rows);
    assert_int_equal(stats().rows, 1);
    spool_give_up(spool, spool_first(spool));
    assert_null(spool_first(spool));
    assert_int_equal(stats().rows, 0);
    assert_int_equal(stats().bytes, 0);
    add_all(3, PER_SEGMENT + 3);
    spool_move(spool, g, pos); /* the database stands before what was given up */
    assert_int_equal(ship_all(3), PER_SEGMENT + 4);
    assert_int_equal(stats().rows, 0);
    assert_int_equal(stats().bytes, 0);
}

static void test_check_092_without_a_directory_records_wait_in_memory(void **state)
{
    FILE *f = fopen(dir, "w"); /* a file stands where the directory should */
    unsigned n = 1;

    fclose(f);
    open_spool(config());
    assert_int_equal(stats().err, GW_EIO);
    while (add(n))
        n++;
    assert_int_equal(n - 1, 2 * PER_SEGMENT);
    assert_int_equal(ship_all(1), n); /* shipping goes on without files */
    assert_true(add(1));
    unlink(dir);
    turn_until(stats().err == GW_OK && files(".spool") == 2);
    assert_int_equal(last_state, GW_OK);
    assert_true(add(2));
    assert_int_equal(ship_all(1), 3);
}

static void test_check_092_memory_is_written_out_when_the_directory_is_back(void **state)
{
    FILE *f = fopen(dir, "w");

    fclose(f);
    open_spool(config());
    add_all(1, PER_SEGMENT + 2);
    assert_int_equal(stats().memory_bytes, 2 * SIZE);
    unlink(dir);
    turn_until(stats().memory_bytes == 0);
    spool = spool_close(spool);
    open_spool(config());
    turn_until(adopted == 2);
    assert_int_equal(stats().rows, PER_SEGMENT + 2);
}

/* Files there are after n records when max_bytes are four: those that are begun, and the next when
 * the last is half full. */
static unsigned files_after(unsigned n)
{
    unsigned begun = (n - 1) / PER_SEGMENT + 1, of_last = (n - 1) % PER_SEGMENT + 1;
    unsigned all = begun + (of_last >= PER_SEGMENT / 2 + 2);

    return all < 4 ? all : 4;
}

static void wait_work(void *arg)
{
    while (sem_wait(arg) != 0)
        ;
}

static void wait_done(void *arg)
{
}

static void test_files_in_the_making_count_towards_the_ceiling(void **state)
{
    struct spool_config cfg = config();
    sem_t go;
    unsigned i;

    sem_init(&go, 0, 0);
    offload_deinit();
    assert_int_equal(offload_init(1, 64), GW_OK); /* one thread: jobs run in their order */
    cfg.max_bytes = 3 * SIZE;
    open_spool(cfg);
    add_all(1, 3 * PER_SEGMENT); /* a file and two segments in memory; the next file is asked for */
    assert_non_null(offload_run(wait_work, wait_done, wait_done, &go));
    turn_until(stats().file_bytes == 2 * SIZE);
    add_all(1, PER_SEGMENT / 2 + 2); /* wants the next while one of memory is written out */
    sem_post(&go);
    for (i = 0; i < 100; i++) {
        loop_turn();
        assert_true(stats().file_bytes <= cfg.max_bytes);
    }
    turn_until(stats().file_bytes == 3 * SIZE && stats().err == GW_EFULL);
    sem_destroy(&go);
}

static void test_check_092_the_ceiling_holds_and_room_is_used_again(void **state)
{
    struct spool_config cfg = config();
    unsigned n = 1;

    cfg.max_bytes = 4 * SIZE;
    open_spool(cfg);
    for (; n < 1000 && add(n); n++) /* no faster than the disk */
        turn_until(stats().file_bytes >= files_after(n) * SIZE);
    turn_until(stats().err == GW_EFULL);
    assert_int_equal(stats().err, GW_EFULL);
    assert_int_equal(n - 1, 6 * PER_SEGMENT); /* four files and two segments in memory */
    assert_int_equal(stats().file_bytes, 4 * SIZE);
    assert_int_equal(ship_all(1), n);
    turn_until(stats().err == GW_OK);
    assert_true(add(n));
    assert_int_equal(ship_all(n), n + 1);
}

static void test_syncing_follows_the_policy(void **state)
{
    struct spool_config cfg = config();

    open_spool(cfg);
    add_all(1, 3);
    loop_turn();
    spool = spool_close(spool);
    cfg.sync = SPOOL_ALWAYS;
    open_spool(cfg);
    add_all(1, 3);
    turn_until(stats().syncs == 1);
    add_all(4, 4);
    turn_until(stats().syncs == 2);
    spool = spool_close(spool);
    cfg.sync = SPOOL_INTERVAL;
    cfg.sync_us = 2000;
    open_spool(cfg);
    add_all(1, 3);
    assert_int_equal(stats().syncs, 0);
    turn_until(stats().syncs == 1);
    assert_int_equal(stats().sync_errors, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_records_are_shipped_in_order_over_many_segments),
        T(test_the_next_segment_is_made_ahead),
        T(test_faster_than_the_disk_goes_through_memory_and_loses_nothing),
        T(test_part_of_a_segment_may_be_shipped),
        T(test_the_position_can_be_moved_both_ways),
        T(test_what_is_left_is_taken_over),
        T(test_many_files_are_taken_over_a_few_at_a_time),
        T(test_two_spools_share_a_directory),
        T(test_files_that_are_none_of_ours_are_set_aside),
        T(test_an_old_segment_takes_no_more_records),
        T(test_a_segment_that_is_refused_is_kept_under_another_name),
        T(test_check_092_records_outlive_a_directory_that_is_cleared_under_them),
        T(test_a_spool_whose_file_is_removed_when_all_is_shipped_goes_on),
        T(test_records_damaged_under_us_are_given_up_and_hold_up_nothing),
        T(test_check_092_without_a_directory_records_wait_in_memory),
        T(test_check_092_memory_is_written_out_when_the_directory_is_back),
        T(test_files_in_the_making_count_towards_the_ceiling),
        T(test_check_092_the_ceiling_holds_and_room_is_used_again),
        T(test_syncing_follows_the_policy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
