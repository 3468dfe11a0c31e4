/* test_keyring.c - what the keyring asks Postgres about keys, and what it answers without. */
#include "tests/unit/keyring_rig.h"

/* --- keys ------------------------------------------------------------------------------------- */

static void test_a_key_is_looked_up_once_and_then_known(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_null(waiting("keyring_keys")); /* not before the turn ends */
    end_turn();
    assert_int_equal(one.calls, 0);
    found(1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.err, GW_OK);
    assert_string_equal(one.p->subject, "key:pk-00000000");
    forget_asked();
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    assert_int_equal(n_asked, 0);
}

static void test_all_who_ask_for_the_same_key_share_one_look_up(void **state)
{
    struct caller c[50] = {{0}};

    version_is(7);
    for (unsigned i = 0; i < 25; i++)
        assert_int_equal(ask(&c[i], key_text(1)), GW_EAGAIN);
    end_turn();
    for (unsigned i = 25; i < 50; i++) /* also while it is under way */
        assert_int_equal(ask(&c[i], key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    found(1);
    assert_null(waiting("keyring_keys"));
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(c[i].calls, 1);
        assert_int_equal(c[i].err, GW_OK);
        drop(&c[i]);
    }
}

static void test_the_keys_of_one_turn_travel_together(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(2)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(1)));
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(2)));
    assert_int_equal(strncmp(waiting("keyring_keys")->array, "{\"\\\\x", 5), 0);
    found(2);
    assert_int_equal(one.err, GW_EUNAUTH);
    assert_int_equal(two.err, GW_OK);
}

static void test_garbage_is_never_asked_for(void **state)
{
    char longer[APIKEY_CHARS + 2];
    char nul[APIKEY_CHARS + 1];

    version_is(7);
    forget_asked();
    snprintf(longer, sizeof(longer), "%s ", key_text(1));
    memcpy(nul, key_text(1), sizeof(nul));
    nul[20] = '\0';
    assert_int_equal(ask(&one, ""), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "PK-0000000000000000000000000000000000000000001A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "sk-000000000000000000000000000000000000000001A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-00000000000000000000000000000000000000001+A"), GW_EUNAUTH);
    assert_int_equal(ask(&one, "pk-000000000000000000000000000000000000000001B"), GW_EUNAUTH);
    assert_int_equal(ask(&one, longer), GW_EUNAUTH);
    assert_int_equal(keyring_key(slice_of(nul, APIKEY_CHARS), &one.p, &one.op, on_done, &one),
                     GW_EUNAUTH);
    end_turn();
    assert_int_equal(n_asked, 0);
}

/* The last byte of a key is as much of it as the first: what is looked up is the hash of all. */
static void test_check_035_a_key_that_differs_anywhere_is_another_hash(void **state)
{
    char text[APIKEY_CHARS + 1];

    know_one();
    for (unsigned i = 3; i < APIKEY_CHARS; i++) {
        memcpy(text, key_text(1), sizeof(text));
        text[i] = text[i] == 'Q' ? 'A' : 'Q'; /* Q has no left-over bits */
        assert_int_equal(ask(&one, text), GW_EAGAIN);
    }
    op_cancel(&one.op);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void test_an_unknown_key_is_remembered_for_some_seconds(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
    forget_asked();
    for (unsigned i = 0; i < 9; i++) {
        version_is(7);
        assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
    }
    assert_null(waiting("keyring_keys"));
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_a_key_that_is_made_later_is_known_as_soon_as_the_version_moves(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_an_old_entry_answers_while_it_is_looked_up_again(void **state)
{
    know_one();
    for (unsigned i = 0; i < 61; i++) /* key_cache_s is 30 */
        version_is(7);
    forget_asked();
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 1);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    not_found(); /* it is gone meanwhile */
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
}

static void
test_check_037_a_moved_version_makes_everything_be_verified_before_it_is_believed(void **state)
{
    know_one();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
    assert_int_equal(ask(&one, key_text(1)), GW_EUNAUTH);
}

static void test_check_037_revocation_is_seen_within_a_second_of_the_loop(void **state)
{
    know_one();
    pass(S / 2); /* the next reading of the version begins no later than this */
    assert_non_null(waiting("keyring_version"));
    answer_version(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
}

static void test_who_asks_after_the_version_moved_gets_no_answer_from_before(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();    /* this statement may see the state of version 7 */
    version_is(8); /* the key is revoked */
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    found(1);
    assert_int_equal(one.calls + two.calls, 0);
    assert_int_equal(count_waiting("keyring_keys"), 1);
    not_found();
    assert_int_equal(two.err, GW_EUNAUTH);
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_a_change_of_our_own_is_looked_for_at_once(void **state)
{
    know_one();
    keyring_changed();
    pass(0);
    assert_non_null(waiting("keyring_version"));
    keyring_changed(); /* another, while the first is looked for */
    answer_version(8);
    forget_asked();
    pass(0);
    assert_non_null(waiting("keyring_version"));
}

/* --- Postgres is away ------------------------------------------------------------------------- */

static void lose_postgres(void)
{
    pass(S / 2);
    answer("keyring_version", GW_EUNAVAIL, NULL);
    pass(2 * S);
    answer("keyring_version", GW_EUNAVAIL, NULL);
}

static void test_a_known_key_works_for_key_stale_s_while_postgres_is_away(void **state)
{
    know_one();
    lose_postgres();
    forget_asked();
    for (unsigned i = 0; i < 100; i++) {
        pass(30 * S);
        if (waiting("keyring_version"))
            answer("keyring_version", GW_EUNAVAIL, NULL);
        assert_int_equal(ask(&one, key_text(1)), GW_OK); /* and nobody waits for it */
        end_turn();
        if (waiting("keyring_keys"))
            answer("keyring_keys", GW_EUNAVAIL, NULL);
        assert_int_equal(ask(&one, key_text(1)), GW_OK);
        end_turn();
        assert_null(waiting("keyring_keys")); /* not again at once */
        forget_asked();
    }
    pass(600 * S); /* an hour from when it was verified is over */
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_true(counted("stale") >= 100);
    assert_true(counted("unavailable") >= 1);
}

static void test_postgres_that_is_back_is_believed_again(void **state)
{
    know_one();
    lose_postgres();
    pass(31 * S);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    answer_version(9); /* revoked meanwhile */
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    not_found();
    assert_int_equal(one.err, GW_EUNAUTH);
}

static void test_an_unknown_key_cannot_be_judged_while_postgres_is_away(void **state)
{
    lose_postgres();
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(one.err, GW_EUNAVAIL);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN); /* and is not taken for a wrong one */
    end_turn();
    found(1);
    assert_int_equal(one.err, GW_OK);
}

static void test_a_known_key_whose_verification_fails_is_borne(void **state)
{
    know_one();
    version_is(8);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    answer("keyring_keys", GW_EDEADLINE, NULL);
    assert_int_equal(one.err, GW_OK);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN); /* the version could be read: once more */
}

static void test_what_is_queued_behind_a_failed_statement_fails_with_it(void **state)
{
    struct caller c[3] = {{0}};

    version_is(7);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(&c[i], key_text(i)), GW_EAGAIN);
        end_turn();
    }
    assert_int_equal(count_waiting("keyring_keys"), 2);
    answer("keyring_keys", GW_EUNAVAIL, NULL);
    assert_int_equal(c[0].err, GW_EUNAVAIL);
    assert_int_equal(c[1].calls, 0);
    assert_int_equal(c[2].err, GW_EUNAVAIL);
    found(1);
    assert_int_equal(c[1].err, GW_OK);
    drop(&c[1]);
}

static void test_without_memory_nobody_waits_for_ever(void **state)
{
    version_is(7);
    no_memory = true;
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.err, GW_EUNAVAIL);
    pass(S / 2); /* nor is the version forgotten */
    no_memory = false;
    pass(S / 2);
    assert_non_null(waiting("keyring_version"));
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void test_a_flood_of_invented_keys_is_two_statements_and_a_bounded_queue(void **state)
{
    static struct caller c[6000];
    struct keyring_stats st;
    unsigned refused = 0;

    memset(c, 0, sizeof(c));
    know_one();
    version_is(8);
    for (unsigned i = 0; i < 6000; i++) {
        enum gw_err err = ask(&c[i], key_text(1000 + i));

        assert_true(err == GW_EAGAIN || err == GW_EUNAVAIL);
        refused += err == GW_EUNAVAIL;
    }
    assert_int_equal(refused, 6000 - 4096);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    assert_int_equal(count_waiting("keyring_keys"), 2);
    assert_non_null(strstr(waiting("keyring_keys")->array, hex_of(1))); /* a real one goes first */
    found(1);
    assert_int_equal(one.err, GW_OK);
    assert_int_equal(count_waiting("keyring_keys"), 2);
    forget_asked();
    keyring_stats(&st);
    assert_int_equal(st.known, 1);
    assert_int_equal(st.waiting, 4097 - 256);
    for (unsigned i = 0; i < 6000; i++)
        drop(&c[i]);
}

static void test_unknown_keys_never_push_out_a_known_one(void **state)
{
    struct keyring_stats st;

    know_one();
    for (unsigned i = 0; i < 9000; i++) {
        assert_int_equal(ask(&two, key_text(1000 + i)), GW_EAGAIN);
        end_turn();
        not_found();
        forget_asked();
    }
    keyring_stats(&st);
    assert_int_equal(st.known, 1);
    assert_int_equal(st.unknown, 8192);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

/* --- callbacks
 * ------------------------------------------------------------------------------------
 */

static void test_who_gives_up_is_not_called_and_the_look_up_goes_on(void **state)
{
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    end_turn();
    op_cancel(&one.op);
    found(1);
    assert_int_equal(one.calls, 0);
    assert_int_equal(two.calls, 1);
    assert_int_equal(ask(&one, key_text(1)), GW_OK);
}

static void cancel_two(struct caller *c)
{
    op_cancel(&two.op);
}

static void test_a_callback_may_cancel_the_next(void **state)
{
    one.then = cancel_two;
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    assert_int_equal(ask(&two, key_text(1)), GW_EAGAIN);
    end_turn();
    found(1);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 0);
}

static void ask_again(struct caller *c)
{
    if (c->calls < 3)
        assert_int_equal(ask(c, key_text(1)), GW_EAGAIN);
}

static void test_a_callback_may_ask_again_when_it_failed(void **state)
{
    one.then = ask_again;
    version_is(7);
    assert_int_equal(ask(&one, key_text(1)), GW_EAGAIN);
    end_turn();
    for (unsigned i = 1; i <= 3; i++) {
        answer("keyring_keys", GW_EUNAVAIL, NULL);
        assert_int_equal(one.calls, i);
    }
    assert_null(waiting("keyring_keys"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_key_is_looked_up_once_and_then_known),
        T(test_all_who_ask_for_the_same_key_share_one_look_up),
        T(test_the_keys_of_one_turn_travel_together),
        T(test_garbage_is_never_asked_for),
        T(test_check_035_a_key_that_differs_anywhere_is_another_hash),
        T(test_an_unknown_key_is_remembered_for_some_seconds),
        T(test_a_key_that_is_made_later_is_known_as_soon_as_the_version_moves),
        T(test_an_old_entry_answers_while_it_is_looked_up_again),
        T(test_check_037_a_moved_version_makes_everything_be_verified_before_it_is_believed),
        T(test_check_037_revocation_is_seen_within_a_second_of_the_loop),
        T(test_who_asks_after_the_version_moved_gets_no_answer_from_before),
        T(test_a_change_of_our_own_is_looked_for_at_once),
        T(test_a_known_key_works_for_key_stale_s_while_postgres_is_away),
        T(test_postgres_that_is_back_is_believed_again),
        T(test_an_unknown_key_cannot_be_judged_while_postgres_is_away),
        T(test_a_known_key_whose_verification_fails_is_borne),
        T(test_what_is_queued_behind_a_failed_statement_fails_with_it),
        T(test_without_memory_nobody_waits_for_ever),
        T(test_a_flood_of_invented_keys_is_two_statements_and_a_bounded_queue),
        T(test_unknown_keys_never_push_out_a_known_one),
        T(test_who_gives_up_is_not_called_and_the_look_up_goes_on),
        T(test_a_callback_may_cancel_the_next),
        T(test_a_callback_may_ask_again_when_it_failed),
    };

    return cmocka_run_group_tests(tests, enter_group, leave_group);
}
