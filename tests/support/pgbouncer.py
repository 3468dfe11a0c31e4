"""PgBouncer: Debian's, in transaction mode, in front of a Postgres.

    with Postgres() as pg, PgBouncer(pg) as bouncer:
        gw = make_gateway(env={"DATABASE_URL": bouncer.url})

A session of the gateway gets another server connection for each transaction, so whatever relies on the
session (SET, prepared statements by name, session advisory locks, LISTEN) breaks. Options are settings of
pgbouncer.ini.
"""

import os
import socket

from daemons import Daemon
from ports import free_port
from postgres import PASSWORD, USER, Database

SETTINGS = {"pool_mode": "transaction", "default_pool_size": 4, "max_client_conn": 500,
            "auth_type": "scram-sha-256", "server_reset_query": "DISCARD ALL",
            "server_reset_query_always": 0, "server_check_delay": 0, "server_login_retry": 1}


class Through(Database):
    """The database as seen through the PgBouncer."""

    def where(self, user):
        return ["-d", self.server.url]


class PgBouncer(Daemon):
    name = "pgbouncer"
    user = "postgres"

    def __init__(self, server, port=None, **options):
        super().__init__()
        self.server = server  # a Postgres or a Database: what to stand in front of
        self.port = port or free_port()
        self.options = options

    def database_url(self, name):
        return "postgresql://%s:%s@127.0.0.1:%d/%s" % (USER, PASSWORD, self.port, name)

    @property
    def url(self):
        return self.database_url(getattr(self.server, "database", self.server).name)

    def psql(self, sql, **kw):
        return Through(self, None).psql(sql, **kw)

    def one(self, sql, **kw):
        return Through(self, None).one(sql, **kw)

    def command(self):
        users = self.write("users", '"%s" "%s"\n' % (USER, PASSWORD))
        settings = {"listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": self.dir,
                    "auth_file": users, "admin_users": USER, **SETTINGS, **self.options}
        text = "[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\n" % self.server.port
        text += "".join("%s = %s\n" % kv for kv in settings.items())
        program = next(p for p in ("/usr/sbin/pgbouncer", "/usr/bin/pgbouncer") if os.path.exists(p))
        return [program, self.write("pgbouncer.ini", text)]

    def is_ready(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
