"""What the throw-away servers of the tests have in common: a directory of their own, a process (run as
a system user when the tests are root, since the servers refuse root or need not be it), its whole family
stopped, frozen and killed by pid, and nothing left behind when the tests end.
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time

running = []  # daemons with a process; ended with the interpreter at the latest


def family(pid):
    """The pids of a process and of all below it, parents first."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    out = [pid]
    for p in out:
        out += children.get(p, [])
    return out


def signal_all(pids, signo):
    for pid in pids:
        try:
            os.kill(pid, signo)
        except ProcessLookupError:
            pass


def wait_gone(pids, timeout=10):
    """Waits until none of them runs any more; one that nobody has reaped counts as gone."""
    def runs(pid):
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
                return f.read().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    end = time.monotonic() + timeout
    while any(runs(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.005)


class Daemon:
    """A server process. Sub-classes give command() and is_ready()."""

    name = "daemon"
    user = None  # the system user it runs as when the tests are root

    def __init__(self):
        self.process = None
        self.dir = tempfile.mkdtemp(prefix="postern-%s-" % self.name)
        self.log_path = os.path.join(self.dir, "log")
        self.own(self.dir)

    def as_user(self):
        """Arguments of subprocess for the system user, none when we are not root."""
        if os.getuid() != 0 or self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def own(self, path):
        if self.as_user():
            shutil.chown(path, self.user, self.as_user()["group"])

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        self.own(path)
        return path

    def environment(self):
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": self.dir}

    def start(self, timeout=60):
        """Starts it and waits until it answers; returns self."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.dir, env=self.environment(),
                                            start_new_session=True, **self.as_user())
        running.append(self)
        end = time.monotonic() + timeout
        while not self.is_ready():
            if self.process.poll() is not None:
                code = self.process.returncode
                self.ended()
                raise RuntimeError("%s ended with %s: %s" % (self.name, code, self.log()[-2000:]))
            if time.monotonic() > end:
                self.kill()
                raise RuntimeError("%s did not get ready: %s" % (self.name, self.log()[-2000:]))
            time.sleep(0.01)
        return self

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def ended(self):
        self.process = None
        if self in running:
            running.remove(self)

    def stop(self, signo=signal.SIGTERM, timeout=20):
        """Ends it in its orderly way (frozen or not); killed when that takes too long."""
        if self.alive:
            self.thaw()
            self.process.send_signal(signo)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process:
            self.ended()

    def kill(self):
        """SIGKILL to it and all its children at once, as when the machine loses power."""
        if self.alive:
            pids = family(self.process.pid)
            signal_all(pids, signal.SIGSTOP)  # nobody forks or notices before all are gone
            signal_all(pids, signal.SIGKILL)
            self.process.wait()
            wait_gone(pids)
        if self.process:
            self.ended()

    def freeze(self):
        """SIGSTOP to it and its children: connections stay open, nothing answers."""
        os.kill(self.process.pid, signal.SIGSTOP)  # first, so that it forks no more
        signal_all(family(self.process.pid), signal.SIGSTOP)

    def thaw(self):
        if self.alive:
            signal_all(reversed(family(self.process.pid)), signal.SIGCONT)

    def restart(self):
        self.stop()
        return self.start()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def remove(self):
        """Ends it at once and removes its directory."""
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        self.remove()


@atexit.register
def end_all():
    for daemon in list(running):
        daemon.remove()


def on_term(signo, _):
    """The runner's time is up: Python would go without its exit handlers."""
    atexit._run_exitfuncs()
    signal.signal(signo, signal.SIG_DFL)
    os.kill(os.getpid(), signo)


if threading.current_thread() is threading.main_thread() \
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    signal.signal(signal.SIGTERM, on_term)
