#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A name server for tests: dns.py ADDRESS NAME answers A of NAME with 127.0.0.1, on port 53; prints what is asked."""
import socket
import struct
import sys

address, name = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((address, 53))
print("ready", flush=True)
while True:
    ask, who = s.recvfrom(512)
    labels, at = [], 12
    while ask[at]:
        labels.append(ask[at + 1:at + 1 + ask[at]].decode())
        at += 1 + ask[at]
    question = ask[12:at + 5]
    kind = struct.unpack("!H", ask[at + 1:at + 3])[0]
    known, is_a = ".".join(labels) == name, kind == 1
    print(".".join(labels), flush=True)
    head = ask[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(known and is_a), 0, 0)
    answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes([127, 0, 0, 1])
    s.sendto(head + question + (answer if known and is_a else b""), who)
