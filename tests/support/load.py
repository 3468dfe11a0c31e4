"""Load: threads that ask without pause while a test does something to what they ask.

    with Load(lambda: gw.chat().status) as load:
        load.more(10)              # ten more answers from here on
        pg.restart()
        load.more(10)
    assert set(load.seen) == {200}
"""
import threading

from front import wait_until


class Load:
    def __init__(self, ask, n_threads=4):
        self.ask, self.stopping, self.seen = ask, threading.Event(), []
        self.threads = [threading.Thread(target=self.run) for _ in range(n_threads)]

    def run(self):
        while not self.stopping.is_set():
            try:
                self.seen.append(self.ask())
            except Exception as e:  # the assertion on `seen` tells of it
                self.seen.append(e)

    def more(self, n):
        target = len(self.seen) + n
        wait_until(lambda: len(self.seen) >= target, "%d answers" % n)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()
