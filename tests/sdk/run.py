"""Starts what the SDK tests need, runs them, and ends everything again. See run.sh."""

import glob
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "support"))

from gateway import MASTER_KEY, Gateway  # noqa: E402
from standin.client import Standin  # noqa: E402


def run_node(files, env):
    command = ["node", "--test", "--test-reporter=tap", *files]
    return subprocess.run(command, cwd=HERE, env={**os.environ, **env}).returncode


def main():
    arguments = sys.argv[1:]
    direct = "--direct" in arguments
    files = [a for a in arguments if a != "--direct"]
    files = files or sorted(os.path.basename(p) for p in glob.glob(os.path.join(HERE, "*.test.mjs")))
    with Standin() as standin:
        env = {"STANDIN_URL": standin.url}
        if direct:
            env.update(SDK_DIRECT="1", POSTERN_URL=standin.url + "/openai",
                       POSTERN_KEY=standin.keys["openai"])
            return run_node(files, env)
        with Gateway(env=standin.env()) as gateway:
            env.update(POSTERN_URL="http://127.0.0.1:%d" % gateway.port, POSTERN_KEY=MASTER_KEY)
            return run_node(files, env)


if __name__ == "__main__":
    sys.exit(main())
