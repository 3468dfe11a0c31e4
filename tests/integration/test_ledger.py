"""The ledger against a real Postgres: whatever dies, is away or refuses, each answer a client has got whole
has one row, found by its X-Request-ID, and the daily sums say the same as the rows."""
import glob
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import zlib

import pytest
from daemons import family, signal_all, wait_gone
from front import wait_until
from gateway import AUTH
from ports import free_port
from tcp_proxy import TcpProxy

BODY = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
FAST = {"ledger.flush_ms": 20, "ledger.batch_rows": 40}
SOON = 40  # seconds; nothing is asserted about time, only that it ends


class Load:
    """Clients that ask without pause; `ok` are the request ids of the answers they got whole."""

    def __init__(self, gw, clients=3):
        self.gw, self.ok, self.failed, self.ending = gw, [], 0, False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        for t in self.threads:
            t.join()

    def run(self):
        conn = None
        while not self.ending:
            try:
                conn = conn or http.client.HTTPConnection("127.0.0.1", self.gw.port, timeout=30)
                conn.request("POST", "/v1/chat/completions", json.dumps(BODY),
                             {"Content-Type": "application/json", **AUTH})
                answer = conn.getresponse()
                answer.read()
                if answer.status == 200:
                    self.ok.append(answer.headers["X-Request-ID"])
                    time.sleep(0.004)  # leave the processor to who stores
                    continue
            except (OSError, http.client.HTTPException):
                conn.close()
                conn = None
            self.failed += 1
            time.sleep(0.01)

    def wait(self, n):
        """Until there are n answers more than now."""
        n += len(self.ok)
        patient(lambda: len(self.ok) >= n, "the load stands still")


def patient(condition, what, pause=0.05):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(pause)


def in_table(pg):
    """Request id -> number of its rows."""
    return {i: int(n) for i, n in pg.psql("SELECT request_id, count(*) FROM provider_calls GROUP BY 1")}


def wait_stored(pg, ids, gw):
    ids = set(ids)
    patient(lambda: ids <= in_table(pg).keys(), lambda: "\n".join(
        ["these answers have no row:"] + sorted(ids - in_table(pg).keys()) +
        [line for line in gw.stdout().split("\n") if '"ledger' in line or '"level":"err' in line]))


def settled(gw):
    """Waits until nothing is spooled."""
    gw.wait_idle()
    patient(lambda: gw.metrics().get("ledger_pending_rows") == 0, lambda: gw.log()[-3000:])


def assert_exactly_once(pg, ids, gw):
    wait_stored(pg, ids, gw)
    rows = in_table(pg)
    assert len(set(ids)) == len(ids)
    assert {i: n for i, n in rows.items() if n != 1} == {}
    assert_sums(pg)


def assert_sums(pg):
    """What the rows add up to is what was added to the days."""
    assert pg.psql("SELECT count(*), sum(tokens_in), sum(tokens_out), sum(cost_nano_usd) FROM provider_calls") \
        == pg.psql("SELECT sum(calls), sum(tokens_in), sum(tokens_out), sum(cost_nano_usd) FROM usage_daily")


def spool(gw):
    return os.path.join(gw.dir, "var", "spool")


def files(gw):
    return sorted(os.listdir(spool(gw)))


def events(gw, name):
    return [line for line in gw.log_lines() if line["message"] == name]


def call(gw, **kw):
    """A chat; its request id."""
    answer = gw.chat(**kw)
    assert answer.status == 200, answer.text
    return answer.headers["x-request-id"]


def restartable(make_gateway, env=None, conf=None, **kw):
    """A gateway that may be started again: its port stays."""
    return make_gateway(env={"API_PORT": str(free_port()), **(env or {})},
                        conf={"gateway.yaml": {**FAST, **(conf or {})}}, **kw)


# --- Postgres away --------------------------------------------------------------------------------


@pytest.mark.parametrize("away,back", [("kill", "start"), ("freeze", "thaw")])
def test_check_090_what_is_spooled_while_postgres_is_away_is_stored_once(make_gateway, make_postgres,
                                                                         away, back):
    pg = make_postgres().migrate()
    gw = make_gateway(pg=pg, env={"API_WORKERS": "2"}, conf={
        "gateway.yaml": FAST, "storage_config.yaml": {"database.statement_timeout_ms": 500}})
    with Load(gw) as load:
        load.wait(30)
        getattr(pg, away)()
        load.wait(150)
        time.sleep(1)  # statements run into their timeout meanwhile
        waiting = gw.metrics()["ledger_pending_rows"]
        load.wait(30)
        assert gw.metrics()["ledger_pending_rows"] > waiting > 50
        getattr(pg, back)()
        load.wait(30)
    settled(gw)
    assert load.failed == 0
    assert_exactly_once(pg, load.ok, gw)
    assert len(in_table(pg)) == len(load.ok)
    assert gw.stop() == 0
    assert files(gw) == []


def rows_stored(gw):
    return gw.metrics()['ledger_rows_total{outcome="stored"}']


class CommitProxy(TcpProxy):
    """Cuts the connection when a COMMIT comes by: before the server gets it, or before the client
    hears that it was done."""

    def __init__(self, pg):
        super().__init__(pg.server.port)
        self.url = pg.url.replace(":%d/" % self.target[1], ":%d/" % self.port)
        self.cuts = []  # of "before" and "after", to come
        self.done = {"before": 0, "after": 0}

    def pass_on(self, pair, data, sink, from_server):
        where = "after" if from_server else "before"
        if b"COMMIT\0" in data and self.cuts[:1] == [where]:
            self.cuts.pop(0)
            self.done[where] += 1
            pair.close(reset=True)
            return
        super().pass_on(pair, data, sink, from_server)


def test_a_connection_cut_at_commit_neither_loses_nor_doubles(make_gateway, postgres):
    with CommitProxy(postgres) as proxy:
        gw = make_gateway(pg=proxy, conf={"gateway.yaml": FAST})
        with Load(gw) as load:
            load.wait(20)
            for where in ("before", "after", "after", "before") * 2:
                proxy.cuts = [where]
                patient(lambda: not proxy.cuts, "no COMMIT came by")
                stored = rows_stored(gw)
                patient(lambda: rows_stored(gw) > stored, "nothing is stored any more")
        settled(gw)
        assert proxy.done == {"before": 4, "after": 4}
        assert load.failed == 0
        assert_exactly_once(postgres, load.ok, gw)
        assert len(in_table(postgres)) == len(load.ok)
        assert gw.stop() == 0


# --- processes that die ---------------------------------------------------------------------------


def kill_everything(gw):
    pids = family(gw.process.pid)
    signal_all(pids, signal.SIGKILL)
    gw.process.wait()
    wait_gone(pids)
    gw.start()


def kill_a_worker(gw, rng):
    workers = family(gw.process.pid)[1:]
    if workers:
        signal_all([rng.choice(workers)], signal.SIGKILL)


def test_check_097_killed_at_random_moments_every_answer_has_one_row(make_gateway, postgres):
    rng = random.Random(97)
    gw = make_gateway(pg=postgres, env={"API_WORKERS": "2"}, conf={"gateway.yaml": FAST})
    with Load(gw) as load:
        for moment in range(26):
            load.wait(6)
            time.sleep(rng.uniform(0.0, 0.25))
            if moment % 2:
                kill_everything(gw)
            else:
                kill_a_worker(gw, rng)
        load.wait(20)
    assert_exactly_once(postgres, load.ok, gw)
    # one file for each worker that lives: those of the dead have been handed over and removed
    patient(lambda: len(files(gw)) <= 2, lambda: files(gw))
    assert gw.stop() == 0
    assert files(gw) == []
    assert_exactly_once(postgres, load.ok, gw)


def test_files_of_a_dead_process_are_taken_over_by_another_that_runs(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    one = make_gateway(pg=pg, conf={"gateway.yaml": FAST})
    two = make_gateway(pg=pg, env={"LEDGER_DIR": spool(one)}, conf={"gateway.yaml": FAST})
    pg.kill()
    ids = [call(one) for _ in range(20)]
    left = files(one)
    one.kill()
    one.process = None
    assert in_spool_of(one, left) == files(one)
    pg.start()
    assert_exactly_once(pg, ids, two)
    patient(lambda: len(files(one)) == 1, lambda: files(one))
    two.alive()  # its log is written up to here
    taken = events(two, "ledger_file_taken_over")
    assert [line["rows"] for line in taken if line["rows"]] == [20]
    assert two.stop() == 0
    assert files(one) == []


def make_older(path, days):
    """Moves the times of a spool file's records back."""
    with open(path, "rb") as f:
        data = bytearray(f.read())
    then = time.strftime("%Y-%m-%d ", time.gmtime(time.time() - days * 86400)).encode()
    at = 64
    while at < len(data) and int.from_bytes(data[at:at + 4], "little"):
        n = int.from_bytes(data[at:at + 4], "little")
        record = re.sub(rb"\t20\d\d-\d\d-\d\d (?=\d\d:)", b"\t" + then, bytes(data[at + 8:at + 8 + n]), count=1)
        assert len(record) == n
        data[at + 4:at + 8 + n] = zlib.crc32(record).to_bytes(4, "little") + record
        at += 8 + (n + 7) // 8 * 8
    with open(path, "wb") as f:
        f.write(data)


def test_a_file_that_comes_back_too_late_is_put_aside_and_can_be_stored_by_hand(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    one = make_gateway(pg=pg, conf={"gateway.yaml": FAST})
    pg.kill()
    ids = [call(one) for _ in range(5)]
    one.kill()
    one.process = None
    left = os.path.join(spool(one), files(one)[0])
    make_older(left, 171)
    pg.start()
    two = make_gateway(pg=pg, env={"LEDGER_DIR": spool(one)}, conf={"gateway.yaml": FAST})
    patient(lambda: os.path.exists(left + ".old"), lambda: files(one))
    wait_until(lambda: events(two, "ledger_file_too_old"), "a line that names it")
    told = events(two, "ledger_file_too_old")
    assert [(t["file"], t["rows"]) for t in told] == [(os.path.basename(left) + ".old", 5)]
    assert two.metrics()['ledger_rows_total{outcome="aside"}'] == 5
    assert two.get("/api/v1/admin/costs").json["ledger"]["aside"] == 5
    fresh = call(two)
    assert_exactly_once(pg, [fresh], two)
    assert set(ids) & in_table(pg).keys() == set()
    # as README.md has it
    name = os.path.basename(left).split(".")[0]
    pg.psql("INSERT INTO ledger_progress (spool_id, pos) VALUES ('%s', 64)" % name)
    os.rename(left + ".old", left)
    assert_exactly_once(pg, ids + [fresh], two)


def in_spool_of(gw, names):
    return [n for n in names if os.path.exists(os.path.join(spool(gw), n))]


# --- the disk -------------------------------------------------------------------------------------


def test_check_092_with_a_file_in_the_directorys_place_chat_goes_on_and_rows_are_stored(make_gateway,
                                                                                       postgres):
    gw = restartable(make_gateway, pg=postgres)
    assert gw.stop() == 0
    with open(os.path.join(gw.dir, "place"), "w", encoding="ascii") as f:
        f.write("not a directory\n")
    gw.env["LEDGER_DIR"] = "place"
    gw.start()
    ids = [call(gw) for _ in range(20)]
    assert_exactly_once(postgres, ids, gw)
    settled(gw)
    assert gw.metrics()['ledger_rows_total{outcome="stored"}'] == 20
    assert gw.metrics().get('ledger_rows_total{outcome="dropped"}', 0) == 0
    assert len(events(gw, "ledger_disk_unavailable")) == 1


def test_check_092_rows_in_memory_go_to_the_disk_when_it_is_back_and_survive_a_kill(make_gateway,
                                                                                   make_postgres):
    pg = make_postgres().migrate()
    gw = restartable(make_gateway, pg=pg)
    assert gw.stop() == 0
    shutil.rmtree(spool(gw))
    with open(spool(gw), "w", encoding="ascii") as f:
        f.write("in the way\n")
    pg.kill()
    gw.start()
    ids = [call(gw) for _ in range(20)]
    os.unlink(spool(gw))
    patient(lambda: events(gw, "ledger_disk_available"), "the directory is not used again")
    patient(lambda: len(glob.glob(spool(gw) + "/*.spool")) == 2, "memory was not written out")
    ids += [call(gw) for _ in range(5)]
    gw.kill()
    gw.start()
    pg.start()
    assert_exactly_once(pg, ids, gw)
    assert len(in_table(pg)) == 25


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte: less than a spool file."""
    where = str(tmp_path / "small")
    os.mkdir(where)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=False,
                      capture_output=True).returncode:
        pytest.skip("no right to mount")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def remount(where, options):
    """False while a file is being made there."""
    return subprocess.run(["mount", "-o", "remount," + options, where], check=False,
                          capture_output=True).returncode == 0


def test_check_092_a_full_or_read_only_disk_costs_no_row(make_gateway, postgres, small_disk):
    gw = make_gateway(pg=postgres, env={"LEDGER_DIR": small_disk}, conf={"gateway.yaml": FAST})
    ids = [call(gw) for _ in range(10)]
    assert os.listdir(small_disk) == []
    patient(lambda: remount(small_disk, "ro"), "it is always busy")
    ids += [call(gw) for _ in range(10)]
    assert remount(small_disk, "rw,size=64m")
    patient(lambda: glob.glob(small_disk + "/*.spool"), "the room is not used")
    ids += [call(gw) for _ in range(10)]
    assert_exactly_once(postgres, ids, gw)
    assert gw.metrics().get('ledger_rows_total{outcome="dropped"}', 0) == 0
    assert gw.stop() == 0
    assert os.listdir(small_disk) == []


def test_check_092_a_limit_on_the_size_of_files_is_a_full_disk_and_ends_nobody(make_gateway, postgres):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # less than a spool file
    try:
        gw = make_gateway(pg=postgres, conf={"gateway.yaml": FAST})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ids = [call(gw) for _ in range(5)]
    assert_exactly_once(postgres, ids, gw)
    assert glob.glob(spool(gw) + "/*") == []
    assert len(events(gw, "ledger_disk_unavailable")) == 1
    assert gw.stop() == 0


# --- rows -----------------------------------------------------------------------------------------


def test_a_row_that_is_refused_is_put_aside_and_holds_up_no_other(make_gateway, postgres):
    postgres.psql("ALTER TABLE provider_calls ADD CHECK (request_id <> 'poison-1'), "
                  "ADD CHECK (request_id <> 'poison-2' OR raw_usage IS NULL)")
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": {"ledger.flush_ms": 300}})
    ids = []
    for i in range(24):
        name = {7: "poison-1", 13: "poison-2"}.get(i, "good-%d" % i)
        ids.append(call(gw, headers={**AUTH, "X-Request-ID": name}))
    assert {"poison-1", "poison-2"} < set(ids)
    settled(gw)
    assert_exactly_once(postgres, [i for i in ids if i != "poison-1"], gw)
    assert "poison-1" not in in_table(postgres)
    assert postgres.one("SELECT raw_usage FROM provider_calls WHERE request_id = 'poison-2'") is None
    kept = glob.glob(spool(gw) + "/rejected-*.log")
    with open(kept[0], encoding="utf-8") as f:
        lines = f.read().splitlines()
    assert len(kept) == len(lines) == 1 and "poison-1" in lines[0].split("\t")
    assert gw.metrics()['ledger_rows_total{outcome="rejected"}'] == 1
    assert len(events(gw, "ledger_row_rejected")) == 1


def test_months_past_the_retention_are_dropped_and_the_daily_sums_stay(make_gateway, postgres):
    postgres.psql("""
        CREATE TABLE provider_calls_2024_01 PARTITION OF provider_calls
            FOR VALUES FROM ('2024-01-01 00:00Z') TO ('2024-02-01 00:00Z');
        INSERT INTO provider_calls (at, spool_id, spool_pos, request_id) VALUES
            ('2024-01-15 12:00Z', gen_random_uuid(), 1, 'old'),
            (now(), gen_random_uuid(), 1, 'new');
        INSERT INTO usage_daily (day, calls) VALUES ('2024-01-15', 1)""")
    gw = restartable(make_gateway, pg=postgres, conf={"ledger.retention_months": 0})
    ids = ["new", call(gw)]
    wait_stored(postgres, ids, gw)
    assert "old" in in_table(postgres)  # 0 keeps all
    assert gw.stop() == 0
    gw.conf["gateway.yaml"]["ledger.retention_months"] = 3
    gw.write_conf()
    gw.start()
    patient(lambda: "old" not in in_table(postgres), lambda: gw.log()[-2000:])
    assert postgres.one("SELECT to_regclass('provider_calls_2024_01')") is None
    assert set(in_table(postgres)) == set(ids)
    assert postgres.one("SELECT calls FROM usage_daily WHERE day = '2024-01-15'") == "1"
    patient(lambda: events(gw, "ledger_partitions_dropped"), "not logged")


def test_a_stream_the_client_leaves_has_its_row(make_gateway, postgres, standin):
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": FAST})
    standin.control({"chunks": 200, "gap_ms": 20})
    body = {**BODY, "stream": True}
    conn = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=30)
    conn.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json", **AUTH})
    answer = conn.getresponse()
    name = answer.headers["X-Request-ID"]
    assert answer.read(60)
    conn.sock.shutdown(socket.SHUT_RDWR)
    conn.close()
    wait_stored(postgres, [name], gw)
    settled(gw)
    assert postgres.psql("SELECT status, stream, usage_known, tokens_out > 0, cost_nano_usd > 0 "
                         "FROM provider_calls WHERE request_id = '%s'" % name) == [
        ["client-gone", "t", "f", "t", "t"]]
    assert_exactly_once(postgres, [name], gw)
