/* test_semantic.c - questions that mean the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/semantic.h"

#include <stdlib.h>

static struct lru_key key_of(unsigned char n)
{
    struct lru_key k = {{n}};

    return k;
}

static void add(unsigned char partition, float x, float y, unsigned char answer, uint64_t dies_us)
{
    struct lru_key p = key_of(partition), a = key_of(answer);
    float v[2] = {x, y};

    semantic_add(&p, v, 2, &a, dies_us);
}

/* The answer found, or -1. */
static int find(unsigned char partition, float x, float y, double least, uint64_t now_us)
{
    struct lru_key p = key_of(partition), a = {{0}};
    float v[2] = {x, y};
    double similarity = 0;

    if (!semantic_find(&p, v, 2, least, now_us, &a, &similarity))
        return -1;
    assert_true(similarity >= least && similarity <= 1);
    return a.sha[0];
}

static int leave(void **state)
{
    semantic_deinit();
    return 0;
}

static void test_the_most_similar_question_above_the_floor_is_found(void **state)
{
    add(1, 1, 0, 10, 100);
    add(1, 10, 1, 11, 100);
    assert_int_equal(find(1, 100, 1, 0.95, 0), 10);
    assert_int_equal(find(1, 9, 1, 0.95, 0), 11);
    assert_int_equal(find(1, 0, 1, 0.95, 0), -1);
    assert_int_equal(find(1, -1, 0, 0.5, 0), -1);
}

static void test_another_partition_is_never_looked_into(void **state)
{
    add(1, 1, 0, 10, 100);
    assert_int_equal(find(2, 1, 0, 0.5, 0), -1);
}

static void test_vectors_of_other_length_never_match(void **state)
{
    struct lru_key p = key_of(1), a;
    float v[3] = {1, 0, 0};
    double s;

    add(1, 1, 0, 10, 100);
    assert_false(semantic_find(&p, v, 3, 0.5, 0, &a, &s));
}

static void test_questions_die_and_the_oldest_go_first(void **state)
{
    semantic_set_limit(2);
    add(1, 1, 0, 10, 100);
    add(1, 0, 1, 11, 50);
    assert_int_equal(find(1, 0, 1, 0.9, 49), 11);
    assert_int_equal(find(1, 0, 1, 0.9, 50), -1);
    assert_int_equal(semantic_entries(), 1);
    add(1, 0, 1, 12, 100);
    add(1, -1, 0, 13, 100);
    assert_int_equal(find(1, 1, 0, 0.9, 0), -1);
    assert_int_equal(find(1, 0, 1, 0.9, 0), 12);
    assert_int_equal(semantic_clear(), 2);
}

static void test_a_vector_without_length_is_no_question(void **state)
{
    add(1, 0, 0, 10, 100);
    assert_int_equal(semantic_entries(), 0);
    add(1, 1, 0, 10, 100);
    assert_int_equal(find(1, 0, 0, 0.0, 0), -1);
}

static void test_vectors_are_read_from_json(void **state)
{
    static const char *const bad[] = {"", "[", "[]", "[1", "[1,]", "[1 2]", "1,2]", "[a]"};
    unsigned n = 0;
    float *v = semantic_parse(SLICE("[ 1, -0.5 ,2e1]"), &n);

    assert_non_null(v);
    assert_int_equal(n, 3);
    assert_true(v[0] == 1 && v[1] == -0.5f && v[2] == 20);
    free(v);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(semantic_parse(slice_cstr(bad[i]), &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_most_similar_question_above_the_floor_is_found, leave),
        cmocka_unit_test_teardown(test_another_partition_is_never_looked_into, leave),
        cmocka_unit_test_teardown(test_vectors_of_other_length_never_match, leave),
        cmocka_unit_test_teardown(test_questions_die_and_the_oldest_go_first, leave),
        cmocka_unit_test_teardown(test_a_vector_without_length_is_no_question, leave),
        cmocka_unit_test_teardown(test_vectors_are_read_from_json, leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
