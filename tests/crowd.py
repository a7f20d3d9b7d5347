#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""crowd.py SOCKET N LINE - N connections to a control socket, each with that line, until SIGTERM

Prints how many were answered with a refusal and how many are kept; then tries for more, and prints how
many there are with each that it gets."""
import json
import select
import socket
import sys
import time


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    try:
        s.send(sys.argv[3].encode() + b"\n")
    except BrokenPipeError:
        pass                    # refused already
    return s


def refused(peers, ms):
    """Those of them that have an answer within ms of each other, which must be a sentence."""
    out = []
    while True:
        poll = select.poll()
        for s in peers:
            poll.register(s, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(ms)}
        if not ready:
            return out
        for s in [s for s in peers if s.fileno() in ready]:
            assert "too many" in json.loads(s.makefile().readline())["error"]
            peers.remove(s)
            out.append(s)


kept = [connect() for _ in range(int(sys.argv[2]))]
gone = refused(kept, 500)
print(f"{len(gone)} refused, {len(kept)} kept", flush=True)
del gone
while True:
    more = [connect()]
    if not refused(more, 200):
        kept += more
        print(f"{len(kept)} kept", flush=True)
    time.sleep(0.05)
