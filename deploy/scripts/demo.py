#!/usr/bin/env python3
"""The main job, done once against a running Postern: a chat answered, one streamed, one failed over.

    demo.py chat URL MODEL
    demo.py stream URL MODEL
    demo.py failover URL MODEL FALLBACK
    demo.py budget URL MODEL

The bearer comes from POSTERN_MASTER_KEY; for `budget` from POSTERN_DEMO_KEY, a key that has one. Prints what was sent and what came back. Exit 0 only if the
answer was what it should be; otherwise one line says what was not.
"""
import http.client
import json
import os
import sys
import time
import urllib.parse

SHOWN = ("x-request-id", "x-postern-")
QUESTION = "In one sentence: what does an AI gateway do?"


class Failed(Exception):
    """What came back is not what should have."""


def post(url, payload, shown=True):
    """The open response to a chat request, and the connection that must be closed after it."""
    parts = urllib.parse.urlsplit(url)
    conn = http.client.HTTPConnection(parts.hostname, parts.port, timeout=90)
    body = json.dumps(payload)
    if shown:
        print("   POST %s/v1/chat/completions" % url)
        print("   > %s" % body)
    try:
        conn.request("POST", "/v1/chat/completions", body, {
            "Content-Type": "application/json",
            "Authorization": "Bearer " + os.environ["POSTERN_MASTER_KEY"]})
        return conn, conn.getresponse()
    except OSError as error:
        raise Failed("no answer from %s: %s" % (url, error)) from None


def show_head(response, started):
    print("   < %d %s  (%.1f ms)" % (response.status, response.reason,
                                     (time.monotonic() - started) * 1000))
    for name, value in response.getheaders():
        if name.lower().startswith(SHOWN):
            print("   < %s: %s" % (name, value))
    if response.status != 200:
        raise Failed("status %d: %s" % (response.status, response.read(2000).decode("utf-8", "replace")))


def ask(url, payload):
    """(text, provider that answered) of a chat that is not streamed."""
    started = time.monotonic()
    conn, response = post(url, payload)
    show_head(response, started)
    answer = json.loads(response.read())
    conn.close()
    text = answer["choices"][0]["message"]["content"]
    print("   %s" % text)
    if not (text or "").strip():
        raise Failed("the answer is empty")
    return text, response.getheader("X-Postern-Provider")


def chat(url, model):
    ask(url, {"model": model, "messages": [{"role": "user", "content": QUESTION}]})


def events(response):
    """The data of each server-sent event, as it arrives."""
    for raw in response:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("data:"):
            yield line[5:].strip()


def stream(url, model):
    started = time.monotonic()
    conn, response = post(url, {"model": model, "stream": True,
                                "messages": [{"role": "user", "content": QUESTION}]})
    show_head(response, started)
    pieces, first, done = 0, None, False
    sys.stdout.write("   ")
    for data in events(response):
        if data == "[DONE]":
            done = True
            break
        chunk = json.loads(data)
        if "error" in chunk:
            raise Failed("the stream ended in an error: %s" % data)
        for choice in chunk.get("choices", []):
            piece = choice.get("delta", {}).get("content")
            if piece:
                first = first or time.monotonic()
                pieces += 1
                sys.stdout.write(piece)
                sys.stdout.flush()
    conn.close()
    print()
    if not pieces or not done:
        raise Failed("the stream had %d pieces of text and %s" % (
            pieces, "its [DONE]" if done else "no [DONE]"))
    print("   (%d pieces of text, the first after %.1f ms, then [DONE])" % (
        pieces, (first - started) * 1000))


def failover(url, model, fallback):
    _, provider = ask(url, {"model": model, "fallbacks": [fallback],
                            "messages": [{"role": "user", "content": QUESTION}]})
    wanted = fallback.partition("/")[0]
    if provider != wanted:
        raise Failed("%s should have answered, X-Postern-Provider says %s" % (wanted, provider))


MOST_CALLS = 200


def budget(url, model):
    """Asks until the budget is refused; a rate limit is waited for."""
    os.environ["POSTERN_MASTER_KEY"] = os.environ["POSTERN_DEMO_KEY"]
    spent, answered = 0.0, 0
    question = {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": QUESTION}]}
    for _ in range(MOST_CALLS):
        conn, response = post(url, question, shown=answered == 0)
        body = response.read().decode("utf-8", "replace")
        conn.close()
        if response.status == 429:
            time.sleep(min(float(response.getheader("Retry-After", "1")), 5))
            continue
        if response.status != 200:
            break
        answered += 1
        spent += float(response.getheader("X-Postern-Cost-Usd", "0"))
        print("   < 200, cost %s USD, left %s USD" % (response.getheader("X-Postern-Cost-Usd"),
                                                      response.getheader("X-Postern-Budget-Left-Usd")))
    print("   < %d %s" % (response.status, body.strip()))
    if response.status != 402 or not answered:
        raise Failed("%d answers, then %d instead of 402" % (answered, response.status))
    print("   %d answers for %.9f USD, then the next one was refused before anybody was asked" % (
        answered, spent))


def main(argv):
    try:
        {"chat": chat, "stream": stream, "failover": failover, "budget": budget}[argv[1]](*argv[2:])
    except Failed as error:
        print("demo: %s" % error, file=sys.stderr)
        return 1
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
        print("demo: not understood: %s: %s" % (type(error).__name__, error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
