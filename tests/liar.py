#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A file server that misbehaves as a file says, read anew for each request.

  liar.py DIR HOW       prints its port.  HOW has a line "good|html|endless|whole|missing|stall PATTERN":
                        requests whose path matches the pattern are answered so, others as they should be
"""
import http.server
import os
import re
import sys
import time

ROOT, HOW = sys.argv[1:3]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def how(self):
        with open(HOW) as f:
            how, pattern = f.read().split()
        return how if re.search(pattern, self.path) else "good"

    def answer(self, status, body, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        how = self.how()
        try:
            if how == "html":
                self.answer(200, b"<!DOCTYPE html><title>Log in</title>" + b"<p>to the network</p>" * 50)
            elif how == "missing":
                self.answer(404, b"")
            elif how == "endless":
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                while True:
                    self.wfile.write(b'{"format":1,"x":"' + b"y" * 65536)
            elif how == "stall":
                while self.how() == "stall":
                    time.sleep(0.1)
                self.close_connection = True
            else:
                self.good(how)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def good(self, how):
        try:
            with open(os.path.join(ROOT, self.path.lstrip("/")), "rb") as f:
                data = f.read()
        except OSError:
            return self.answer(404, b"")
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not span or how == "whole":
            return self.answer(200, data)
        first, last = int(span[1]), min(int(span[2]), len(data) - 1)
        self.answer(206, data[first:last + 1], [("Content-Range", "bytes %d-%d/%d" % (first, last, len(data)))])

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass				# a client that hangs up is no news


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
