"""Ports of the loopback for servers that must be told theirs, or must find it again after a restart.

A port that is only looked for may be somebody else's a moment later: another worker's of the tests, or one
end of any connection. So each port handed out stays bound here by a socket that does not listen. The kernel
then gives it to nobody who asks for any port, a connection to it is refused, and a server that names it gets
it, since servers set SO_REUSEADDR.
"""
import collections
import socket

KEPT = 256  # older ports have servers of their own by now, or nobody needs them

kept = collections.deque()


def free_port():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    kept.append(s)
    if len(kept) > KEPT:
        kept.popleft().close()
    return s.getsockname()[1]
