#!/usr/bin/env python3
"""Stand-in for the providers: OpenAI, Anthropic, Google, Groq and Ollama on one port. See README.md."""

import argparse
import asyncio
import os
import resource
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from standin import behaviour  # noqa: E402
from standin.server import DEFAULT_KEYS, Server  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: pick one and print it")
    parser.add_argument("--key", action="append", default=[], metavar="DIALECT=KEY",
                        help="another key than the built-in one; an empty KEY asks for none")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--directives", action="store_true", help="print the table and exit")
    return parser.parse_args()


async def serve(options):
    keys = {}
    for item in options.key:
        dialect, _, key = item.partition("=")
        if dialect not in DEFAULT_KEYS:
            sys.exit(f"unknown dialect {dialect!r}")
        keys[dialect] = key or None
    server = Server(keys)
    port = await server.start(options.host, options.port, options.tls)
    print(f"listening {port}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop()


def main():
    options = arguments()
    if options.directives:
        print(behaviour.markdown_table())
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
