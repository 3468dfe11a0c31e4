/* test_slowest.c - the slowest requests of the last hour (gateway/middleware/slowest.h). */
#include "tests/unit/middleware_harness.h"

#include "gateway/middleware/slowest.h"

static struct slow_request list[SLOWEST_ROOM];

/* A request that takes so long and ends now. */
static void passes(uint64_t took_us, int status)
{
    struct request *req = request_of(&public_route);

    req->started_us = now_us - took_us;
    req->status = status;
    req->id = SLICE("an-id");
    slowest_hook(req);
    req->finished = true; /* the hooks of the chain have nothing to add */
    req->conn = NULL;
    request_unref(req);
    loop_turn();
}

static int begin(void **state)
{
    slowest_deinit();
    return enter(state);
}

static void test_they_are_listed_slowest_first(void **state)
{
    passes(10, 200);
    passes(30, 404);
    passes(20, 200);
    assert_int_equal(slowest_list(list), 3);
    assert_int_equal(list[0].took_us, 30);
    assert_int_equal(list[0].status, 404);
    assert_int_equal(list[1].took_us, 20);
    assert_int_equal(list[2].took_us, 10);
    assert_string_equal(list[0].endpoint, public_route.path);
    assert_string_equal(list[0].id, "an-id");
}

static void test_a_faster_one_makes_room_and_a_slower_one_stays(void **state)
{
    for (unsigned i = 1; i <= SLOWEST_ROOM; i++)
        passes(i * 100, 200);
    passes(50, 200);
    assert_int_equal(slowest_list(list), SLOWEST_ROOM);
    assert_int_equal(list[SLOWEST_ROOM - 1].took_us, 100);
    passes(150, 200);
    assert_int_equal(slowest_list(list), SLOWEST_ROOM);
    assert_int_equal(list[SLOWEST_ROOM - 1].took_us, 150);
    assert_int_equal(list[0].took_us, SLOWEST_ROOM * 100);
}

static void test_old_ones_are_not_listed_and_make_room(void **state)
{
    for (unsigned i = 1; i <= SLOWEST_ROOM; i++)
        passes(1000, 200);
    now_us += SLOWEST_HOLD_US + 1;
    assert_int_equal(slowest_list(list), 0);
    passes(1, 200);
    assert_int_equal(slowest_list(list), 1);
    assert_int_equal(list[0].took_us, 1);
}

static void test_those_of_all_workers_are_listed(void **state)
{
    slowest_deinit();
    assert_int_equal(slowest_init(3), GW_OK);
    for (unsigned w = 0; w < 3; w++) {
        slowest_attach(w);
        for (unsigned i = 0; i < SLOWEST_ROOM; i++)
            passes(1000 + 3 * i + w, 200);
    }
    assert_int_equal(slowest_list(list), SLOWEST_ROOM);
    for (unsigned i = 0; i < SLOWEST_ROOM; i++)
        assert_int_equal(list[i].took_us, 1000 + 3 * SLOWEST_ROOM - 1 - i);
    slowest_attach(1); /* its next process */
    passes(9000, 200);
    assert_int_equal(slowest_list(list), SLOWEST_ROOM);
    assert_int_equal(list[0].took_us, 9000);
    slowest_deinit();
    assert_int_equal(slowest_list(list), 0);
}

#define R(name) cmocka_unit_test_setup_teardown(name, begin, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        R(test_they_are_listed_slowest_first),
        R(test_a_faster_one_makes_room_and_a_slower_one_stays),
        R(test_old_ones_are_not_listed_and_make_room),
        R(test_those_of_all_workers_are_listed),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
