"""The ledger and what is done to it from outside: its directory cleared, its files damaged or cut short, its
tables without a partition, the database put back to an older dump, the clock moved over a month's end."""
import glob
import os
import shutil
import threading

import pytest
from postgres import USER, programs
from test_clock import Clock
from test_ledger import (FAST, Load, assert_exactly_once, assert_sums, call, events, files, in_table, patient,
                         restartable, settled, spool, wait_stored)

DAY = 86400


def spooled(make_gateway, pg, n=20, **kw):
    """A gateway whose database has gone away, and the ids of the calls made since then."""
    gw = restartable(make_gateway, pg=pg, **kw)
    pg.kill()
    ids = [call(gw) for _ in range(n)]
    # an attempt has failed: from now on they fail at once, and none holds a batch that was read before
    patient(lambda: events(gw, "ledger_waits"), lambda: gw.log()[-2000:])
    return gw, ids


def spool_files(gw):
    return sorted(glob.glob(spool(gw) + "/*.spool"))


def holding(gw, name):
    """The spool file that holds a row, and where its request id is."""
    for path in spool_files(gw):
        with open(path, "rb") as f:
            at = f.read().find(name.encode())
        if at >= 0:
            return path, at
    raise AssertionError("no file holds " + name)


def overwrite(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


# --- the directory ------------------------------------------------------------------------------


def test_check_092_a_directory_cleared_under_it_costs_no_row_even_by_a_kill(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    gw, ids = spooled(make_gateway, pg)
    shutil.rmtree(spool(gw))
    patient(lambda: os.path.isdir(spool(gw)) and len(spool_files(gw)) >= 2, lambda: gw.log()[-2000:])
    gw.alive()  # its log is written up to here
    assert len(events(gw, "ledger_files_removed")) == 1
    ids += [call(gw) for _ in range(5)]
    gw.kill()
    gw.start()
    pg.start()
    assert_exactly_once(pg, ids, gw)
    assert len(in_table(pg)) == 25
    assert gw.stop() == 0 and files(gw) == []


# --- files --------------------------------------------------------------------------------------


def test_a_row_damaged_in_a_living_file_is_told_and_holds_up_no_other(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    gw, ids = spooled(make_gateway, pg)
    path, at = holding(gw, ids[7])
    overwrite(path, at + 3, b"\x01")
    pg.start()
    settled(gw)
    ids += [call(gw) for _ in range(5)]
    left = ids[:7] + ids[8:]
    assert_exactly_once(pg, left, gw)
    assert set(in_table(pg)) == set(left)
    assert gw.metrics()['ledger_rows_total{outcome="dropped"}'] == 1
    assert [line["rows"] for line in events(gw, "ledger_rows_damaged")] == [1]
    assert gw.stop() == 0 and files(gw) == []


@pytest.mark.parametrize("harm", ["cut", "flip", "zeros"])
def test_a_damaged_file_of_the_dead_gives_all_rows_that_can_be_read(make_gateway, make_postgres, harm):
    pg = make_postgres().migrate()
    gw, ids = spooled(make_gateway, pg)
    gw.kill()
    path, at = holding(gw, ids[12])
    if harm == "cut":
        os.truncate(path, at + 5)
    elif harm == "flip":
        overwrite(path, at + 3, b"\x01")
    else:
        overwrite(path, at, bytes(os.path.getsize(path) - at))
    gw.start()
    pg.start()
    left = ids[:12] + (ids[13:] if harm == "flip" else [])
    assert_exactly_once(pg, left, gw)
    assert set(in_table(pg)) == set(left)
    gw.alive()  # its log is written up to here
    assert len(events(gw, "ledger_rows_damaged")) == 1
    assert gw.stop() == 0 and files(gw) == []


def test_a_file_cut_short_while_it_is_replayed_ends_nobody(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    gw, ids = spooled(make_gateway, pg)
    gw.kill()
    path = holding(gw, ids[0])[0]
    gw.start()
    patient(lambda: events(gw, "ledger_file_taken_over"), "it was not taken over")
    os.truncate(path, 0)
    pg.start()
    assert_exactly_once(pg, ids, gw)
    gw.alive()


# --- the database -------------------------------------------------------------------------------


def test_without_a_partition_for_them_rows_wait_and_are_not_refused(make_gateway, postgres):
    postgres.psql("ALTER FUNCTION ledger_partitions(integer) RENAME TO none_are_made; "
                  "ALTER TABLE provider_calls DETACH PARTITION provider_calls_default")
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": FAST})
    ids = [call(gw) for _ in range(5)]
    patient(lambda: events(gw, "ledger_waits"), "nothing is said")
    assert gw.metrics()["ledger_pending_rows"] == 5
    postgres.psql("ALTER TABLE provider_calls ATTACH PARTITION provider_calls_default DEFAULT")
    assert_exactly_once(postgres, ids, gw)
    assert gw.metrics().get('ledger_rows_total{outcome="rejected"}', 0) == 0


def test_a_database_put_back_to_an_older_dump_gets_what_the_spool_still_has(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    gw = restartable(make_gateway, pg=pg)
    old = [call(gw) for _ in range(10)]
    wait_stored(pg, old, gw)
    dump = pg.run(programs() + "/pg_dump", "-h", pg.dir, "-p", str(pg.port), "-U", USER, pg.database.name)
    later = [call(gw) for _ in range(10)]
    wait_stored(pg, later, gw)
    with Load(gw) as load:
        load.wait(10)
        pg.admin("DROP DATABASE %s WITH (FORCE)" % pg.database.name)
        load.wait(20)
        pg.admin("CREATE DATABASE %s OWNER %s TEMPLATE template0" % (pg.database.name, USER))
        load.wait(20)  # a schema is missing: that is no reason to refuse a row
        pg.psql(dump)
        load.wait(20)
    settled(gw)
    assert load.failed == 0
    assert_exactly_once(pg, old + later + load.ok, gw)
    assert gw.metrics().get('ledger_rows_total{outcome="rejected"}', 0) == 0


def test_partitions_made_and_dropped_under_writers_disturb_none(make_gateway, postgres):
    """Two gateways over one directory, files of the dead replayed by both, and upkeep without pause."""
    one = restartable(make_gateway, pg=postgres)
    two = restartable(make_gateway, pg=postgres, env={"LEDGER_DIR": spool(one)})
    ending = threading.Event()
    dropped, refused = [], []

    def keep():
        while not ending.is_set():
            try:
                postgres.psql("CREATE TABLE IF NOT EXISTS provider_calls_2024_01 PARTITION OF provider_calls "
                              "FOR VALUES FROM ('2024-01-01 00:00Z') TO ('2024-02-01 00:00Z')")
                dropped.append(postgres.one("SELECT ledger_drop_before('2024-06-01') + ledger_partitions(3)"))
            except RuntimeError as e:
                refused.append(str(e))

    with Load(one) as a, Load(two) as b:
        a.wait(10)
        keeper = threading.Thread(target=keep)
        keeper.start()
        for _ in range(4):
            two.kill()
            two.start()
            a.wait(30)
            b.wait(30)
        ending.set()
        keeper.join()
    for gw in (one, two):
        settled(gw)
    assert a.failed == 0 and dropped.count("1") > 3
    # it comes again in a minute; a gateway's own upkeep may have dropped the same month meanwhile
    benign = ("lock timeout", "deadlock", 'table "provider_calls_2024_01" does not exist')
    assert all(any(b in e for b in benign) for e in refused), refused
    assert_exactly_once(postgres, a.ok + b.ok, one)


def test_check_099_rows_of_a_clock_that_jumps_over_months_are_all_there(make_gateway, postgres, tmp_path):
    clock = Clock(str(tmp_path))
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": FAST}, env=clock.env)
    ids = []
    for days in (0, 45, 200, -60, -4000, 1, 0):
        clock.set(days * DAY)
        ids += [call(gw) for _ in range(4)]
        wait_stored(postgres, ids, gw)
    assert_exactly_once(postgres, ids, gw)
    assert int(postgres.one("SELECT count(DISTINCT at::date) FROM provider_calls")) >= 6
    assert postgres.one("SELECT ledger_partitions(9)") != "0"  # takes over what the default one has
    assert_exactly_once(postgres, ids, gw)
    assert int(postgres.one("SELECT count(*) FROM provider_calls_default")) < len(ids) / 2
    assert_sums(postgres)


def test_a_table_of_a_later_program_takes_the_rows_of_this_one(make_gateway, postgres):
    """Expand, then contract: columns come while an older instance writes."""
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": FAST})
    with Load(gw) as load:
        load.wait(20)
        postgres.psql("ALTER TABLE provider_calls ADD COLUMN region text; "
                      "ALTER TABLE usage_daily ADD COLUMN region_calls bigint NOT NULL DEFAULT 0; "
                      "ALTER TABLE provider_calls ALTER COLUMN cache TYPE varchar(64)")
        load.wait(40)
    settled(gw)
    assert load.failed == 0
    assert_exactly_once(postgres, load.ok, gw)
