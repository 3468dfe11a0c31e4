"""Postgres: a throw-away PostgreSQL cluster on a private port, for tests that may do anything to it.

    with Postgres(max_connections=10) as pg:
        gw = make_gateway(pg=pg)                 # or env={"DATABASE_URL": pg.url}
        assert pg.psql("SELECT count(*) FROM users") == [["0"]]
        pg.freeze(); pg.thaw(); pg.kill(); pg.start(); pg.restart()

    primary = Postgres(**REPLICATED).start().migrate()
    replica = Replica(primary).start()           # a hot standby of it; replica.pause(), replica.resume()

Every option is a setting of postgresql.conf. The database is `assistant`, and so are its owner and its
password, asked for by SCRAM over TCP; through the socket in its directory everyone who may enter that
is let in. One initdb a session is made and copied, with a database `migrated` of the program's schema: to be
the server's own (migrate()) or the template of others. Nothing is synced to disk: kill() is a process
crash, after which Postgres recovers from its log, not a power failure.
"""

import atexit
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile

from daemons import Daemon
from gateway import binary
from ports import free_port

USER = PASSWORD = DATABASE = "assistant"
MIGRATED = "migrated"
NULL = "\x1d"
SETTINGS = {
    "listen_addresses": "127.0.0.1", "fsync": "off", "full_page_writes": "off",
    "shared_buffers": "32MB", "max_connections": 300, "jit": "off",
    "password_encryption": "scram-sha-256", "wal_level": "minimal", "max_wal_senders": 0,
    "log_timezone": "UTC", "timezone": "UTC", "max_wal_size": "256MB", "autovacuum_naptime": "60s",
    "lc_messages": "C",
}
HBA = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


REPLICATED = {"wal_level": "replica", "max_wal_senders": 4}


def programs():
    """The directory of the newest installed server's programs (initdb is not in Debian's PATH)."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if not found:
        raise RuntimeError("no PostgreSQL server: install the package postgresql")
    return os.path.dirname(max(found, key=lambda p: int(re.search(r"/(\d+)/", p).group(1))))


class Session:
    """A psql that stays and has run the SQL: for holding locks. Its transaction ends with it."""

    def __init__(self, database, sql="", user="postgres"):
        self.psql = subprocess.Popen([os.path.join(programs(), "psql"), "-XqAt", *database.where(user)],
                                     env=database.server.environment(), stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        self.do(sql)

    def do(self, sql):
        self.psql.stdin.write(sql + ";\n\\echo done\n")
        self.psql.stdin.flush()
        while (line := self.psql.stdout.readline()) != "done\n":
            assert line, "the session has ended"

    def end(self):
        self.psql.stdin.close()
        self.psql.wait(20)
        self.psql.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Database:
    """One database of a server, seen as its owner."""

    def __init__(self, server, name):
        self.server, self.name = server, name

    @property
    def url(self):
        return "postgresql://%s:%s@127.0.0.1:%d/%s" % (USER, PASSWORD, self.server.port, self.name)

    @property
    def port(self):
        return self.server.port

    def where(self, user):
        """What to tell psql: the socket, which asks for no password."""
        return ["-h", self.server.dir, "-p", str(self.server.port), "-U", user, "-d", self.name]

    def psql(self, sql, user=USER, timeout=60):
        """Runs SQL and gives the rows of all its results as lists of strings, NULL as None. Each
        statement commits by itself; the first that fails raises."""
        command = [os.path.join(programs(), "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-F", "\x1f",
                   "-0", "-P", "null=" + NULL, "-f", "-", *self.where(user)]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=timeout,
                              env=self.server.environment())
        if done.returncode:
            raise RuntimeError("psql: " + done.stderr.strip())
        return [[None if v == NULL else v for v in row.split("\x1f")]
                for row in done.stdout.split("\0")[:-1]]

    def session(self, sql="", user=USER):
        return Session(self, sql, user)

    def one(self, sql, **kw):
        """The only value of the only row."""
        rows = self.psql(sql, **kw)
        assert len(rows) == 1 and len(rows[0]) == 1, rows
        return rows[0][0]

    def migrate(self):
        """Brings it to the schema of the program under test; one without `migrate` leaves it empty."""
        done = subprocess.run([binary(), "migrate", "up"], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "DATABASE_URL": self.url}, cwd=self.server.dir)
        if done.returncode and "unknown command" not in done.stderr:
            raise RuntimeError("postern migrate up: %d: %s" % (done.returncode, done.stdout + done.stderr))

    def drop(self):
        self.server.admin("DROP DATABASE IF EXISTS %s WITH (FORCE)" % self.name)


class Postgres(Daemon):
    name = "postgres"
    user = "postgres"
    template = None  # directory of the session's initdb

    def __init__(self, port=None, **options):
        super().__init__()
        self.port = port or free_port()
        self.options = options
        self.data = os.path.join(self.dir, "data")
        self.database = Database(self, DATABASE)
        self.made = 0
        self.copy_cluster()

    # --- the cluster ---------------------------------------------------------------------------

    def run(self, *command, **kw):
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.dir, timeout=120,
                              env=self.environment(), **self.as_user(), **kw)
        if done.returncode:
            raise RuntimeError("%s: %s" % (command[0], done.stderr))
        return done.stdout

    def copy_cluster(self):
        if Postgres.template is None:
            self.make_template()
        self.run("cp", "-a", "--reflink=auto", Postgres.template, self.data)
        self.configure()

    def make_template(self):
        self.run(os.path.join(programs(), "initdb"), "-D", self.data, "-U", "postgres", "-N",
                 "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "--no-instructions", "--wal-segsize=1")
        self.configure()
        super().start()
        self.admin("CREATE ROLE %s LOGIN PASSWORD '%s'" % (USER, PASSWORD))
        self.admin("CREATE DATABASE %s OWNER %s" % (DATABASE, USER))
        self.create_database(name=MIGRATED).migrate()
        self.stop()
        home = tempfile.mkdtemp(prefix="postern-initdb-")
        atexit.register(shutil.rmtree, home, True)
        self.own(home)
        Postgres.template = os.path.join(home, "data")
        os.rename(self.data, Postgres.template)

    def configure(self, **options):
        """Writes the settings; those given stay. For a running server: then reload() or restart()."""
        self.options.update(options)
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self.dir, **self.options}
        for name, text in (("data/postgresql.auto.conf", "".join(
                "%s = '%s'\n" % (k, str(v).replace("'", "''")) for k, v in settings.items())),
                ("data/pg_hba.conf", HBA)):
            self.write(name, text)

    def reload(self):
        self.admin("SELECT pg_reload_conf()")

    # --- the process ---------------------------------------------------------------------------

    def command(self):
        return [os.path.join(programs(), "postgres"), "-D", self.data]

    def is_ready(self):
        try:
            with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as f:
                lines = f.read().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def stop(self, signo=signal.SIGINT, timeout=20):
        """By default the fast way: sessions are ended and rolled back (SIGTERM waits for them)."""
        super().stop(signo, timeout)

    # --- databases -----------------------------------------------------------------------------

    def admin(self, sql):
        """SQL as the superuser, in the database postgres."""
        return Database(self, "postgres").psql(sql, user="postgres")

    def create_database(self, template="template0", name=None):
        self.made += 1
        name = name or "test_%d" % self.made
        self.admin("CREATE DATABASE %s OWNER %s TEMPLATE %s" % (name, USER, template))
        return Database(self, name)

    def end_sessions(self, name="%"):
        """Terminates all client sessions of databases LIKE name."""
        self.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
                   "pg_backend_pid() AND backend_type = 'client backend' AND datname LIKE '%s'" % name)

    @property
    def url(self):
        return self.database.url

    def psql(self, sql, **kw):
        return self.database.psql(sql, **kw)

    def one(self, sql, **kw):
        return self.database.one(sql, **kw)

    def session(self, sql="", user=USER):
        return self.database.session(sql, user)

    def migrate(self):
        """Puts a database of the program's schema in the place of the empty one, before anybody uses it."""
        self.admin("DROP DATABASE %s; ALTER DATABASE %s RENAME TO %s" % (DATABASE, MIGRATED, DATABASE))
        return self


class Replica(Postgres):
    """A hot standby that follows a running server started with REPLICATED."""

    name = "replica"

    def __init__(self, primary, **options):
        self.primary = primary
        where = "host=%s port=%d user=postgres" % (primary.dir, primary.port)
        super().__init__(hot_standby="on", primary_conninfo=where, wal_retrieve_retry_interval="200ms",
                         **REPLICATED, **options)

    def copy_cluster(self):
        self.run(os.path.join(programs(), "pg_basebackup"), "-h", self.primary.dir, "-p",
                 str(self.primary.port), "-U", "postgres", "-D", self.data, "-R", "-X", "stream",
                 "-c", "fast")
        self.configure()

    def pause(self):
        """From now on it lags behind."""
        self.admin("SELECT pg_wal_replay_pause()")

    def resume(self):
        self.admin("SELECT pg_wal_replay_resume()")
