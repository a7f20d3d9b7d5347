#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""engine.py DIR [PORT [CERTDIR]] - an HTTP server with the calls of an inference engine, for tests of hooks

PORT          0 (default): any that is free
CERTDIR       speak TLS, with its cert.pem and key.pem

DIR/port      its port, once it listens
DIR/requests  a JSON object a line: every request as it came, with its headers in order, and what was done
DIR/do        "PATH ACTION" lines: the first one for a request's path is taken out and done instead of the
              usual; "PATH! ACTION" stays.  Actions: a status, hang, close, half, garbage, slow SECONDS,
              echo (400, with the request in the answer), away (307, to /stolen), says TEXT (200, and that),
              and for ever, or until nobody listens: drip (a body, slowly), flood (a body, fast), headers,
              continue (100)
DIR/state     {"paused": bool, "weights": path or null, "digest": of all its files, "flushed": n}

It behaves as an engine does: weights are loaded only while it is paused, and from a directory that is there.
"""
import hashlib
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import time

top = sys.argv[1]
lock = threading.Lock()
state = {"paused": False, "weights": None, "digest": None, "flushed": 0}


def digest(path):
    h = hashlib.sha256()
    for base, dirs, names in os.walk(path):
        dirs.sort()
        for name in sorted(names):
            h.update(name.encode())
            with open(os.path.join(base, name), "rb") as f:
                h.update(f.read())
    return h.hexdigest()


def load(path):
    if not state["paused"]:
        return 409, "weights can be loaded only while generation is paused"
    if not os.path.isdir(path):
        return 400, f"no such directory: {path}"
    state.update(weights=path, digest=digest(path))
    return 200, "ok"


def engine(path, body):
    doc = json.loads(body) if body else {}
    path = path.split("?")[0]
    if path in ("/pause_generation", "/pause"):
        state["paused"] = True
    elif path in ("/continue_generation", "/resume"):
        state["paused"] = False
    elif path == "/update_weights_from_disk":
        return load(doc["model_path"])
    elif path == "/collective_rpc":
        assert doc["method"] == "reload_weights"
        return load(doc["kwargs"]["weights_path"])
    elif path in ("/flush_cache", "/reset_prefix_cache"):
        state["flushed"] += 1
    return 200, "ok"


def write(name, text):
    with open(os.path.join(top, name + ".new"), "w") as f:
        f.write(text)
    os.rename(os.path.join(top, name + ".new"), os.path.join(top, name))


def action(path):
    try:
        with open(os.path.join(top, "do")) as f:
            lines = f.read().splitlines()
    except FileNotFoundError:
        return None
    for i, line in enumerate(lines):
        where, what = line.split(" ", 1)
        if where.rstrip("!") == path.split("?")[0]:
            if not where.endswith("!"):
                write("do", "".join(x + "\n" for x in lines[:i] + lines[i + 1:]))
            return what
    return None


AWAY = b"HTTP/1.1 307 X\r\nLocation: http://u:p@127.0.0.1:%d/stolen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# What comes first, what follows for ever, seconds between.
ENDLESS = {
    "drip": (b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n", b"x", 0.05),
    "flood": (b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n", b"x" * 65536, 0),
    "headers": (b"HTTP/1.1 200 X\r\n", b"X-More: " + b"x" * 1000 + b"\r\n", 0),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        head = []
        while True:
            line = self.rfile.readline()
            if not line:
                return
            if line == b"\r\n":
                break
            head.append(line.decode("latin-1").rstrip("\r\n"))
        length = [int(h.split(":")[1]) for h in head if h.lower().startswith("content-length:")]
        body = self.rfile.read(length[0]) if length else b""
        path = head[0].split(" ")[1]
        with lock:
            what = action(path)
            status, text = (int(what), "as told") if what and what.isdigit() else (200, "ok")
            if what is None:
                status, text = engine(path, body)
            if what and what.startswith("says "):
                text = what[5:]
            if what == "echo":
                status, text = 400, "\r\n".join(head)
            with open(os.path.join(top, "requests"), "a") as f:
                f.write(json.dumps({"line": head[0], "headers": head[1:], "body": body.decode(),
                                    "did": what or str(status), "time": time.time()}) + "\n")
            write("state", json.dumps(state))
        self.answer(what, status, text, path, body)

    def answer(self, what, status, text, path, body):
        if what == "hang":
            self.connection.settimeout(600)
            try:
                self.connection.recv(1)
            except OSError:
                pass
            return
        if what == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if what == "garbage":
            self.wfile.write(b"\0\1\2 what?\r\n\r\n")
            return
        if what == "away":
            self.wfile.write(AWAY % self.server.server_address[1])
            return
        if what in ENDLESS:
            begin, again, pause = ENDLESS[what]
            self.wfile.write(begin)
            while True:
                self.wfile.write(again)
                time.sleep(pause)
        if what and what.startswith("slow"):
            time.sleep(float(what.split()[1]))
            with lock:
                status, text = engine(path, body)
                write("state", json.dumps(state))
        data = text.encode()
        self.wfile.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                         % (status, len(data) + (100 if what == "half" else 0)))
        self.wfile.write(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    tls = None

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):      # who hung up is no error of ours
            super().handle_error(request, client_address)

    def finish_request(self, request, client_address):
        """In the connection's own thread: a client that is slow to shake hands, or does not like us, delays nobody."""
        if self.tls:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        super().finish_request(request, client_address)
        if self.tls:
            request.close()


with Server(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler) as server:
    if len(sys.argv) > 3:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(sys.argv[3] + "/cert.pem", sys.argv[3] + "/key.pem")
    write("state", json.dumps(state))
    write("port", str(server.server_address[1]))
    server.serve_forever()
