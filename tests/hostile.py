#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that misbehaves on command: the first path component says how.

    hostile.py [CERTDIR]        prints its port; with CERTDIR it speaks TLS

GET /HOW/any/name.  The object has SIZE bytes, byte i is (i * 7 + i // 251) & 255.  GET /count/x/HOW
tells how often HOW was asked so far.  Python's standard library only; loopback only.
"""
import socketserver
import ssl
import sys
import threading
import time

SIZE = 100000
BODY = bytes((i * 7 + i // 251) & 255 for i in range(SIZE))
counts, lock = {}, threading.Lock()


class Request:
    def __init__(self, lines):
        self.path = lines[0].split(" ")[1]
        self.raw = "\n".join(lines)
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def range(self):
        """(first, last), or None when the whole object is asked for."""
        value = self.headers.get("range")
        if not value:
            return None
        first, last = value[len("bytes="):].split("-")
        return int(first), int(last) if last else SIZE - 1


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            lines = []
            while True:
                line = self.rfile.readline(65536)
                if not line:
                    return
                line = line.decode("latin-1").rstrip("\r\n")
                if not line:
                    break
                lines.append(line)
            if not lines or not self.answer(Request(lines)):
                return

    def answer(self, req):
        how = req.path.split("/")[1]
        if how == "count":
            self.head(200, ["Content-Length: %d" % len(str(counts.get(req.path.split("/")[3], 0)))])
            self.send(str(counts.get(req.path.split("/")[3], 0)).encode())
            return True
        with lock:
            n = counts[how] = counts.get(how, 0) + 1
        return getattr(self, "do_" + how.replace("-", "_"))(req, n)

    # pieces

    def send(self, data):
        self.wfile.write(data)

    def head(self, status, fields=()):
        self.send(("HTTP/1.1 %d Said\r\n%s\r\n" % (status, "".join(f + "\r\n" for f in fields))).encode("latin-1"))

    def good(self, req, cut=None):
        """The right answer, or its first `cut` bytes of body and then the end."""
        r = req.range()
        first, last = r or (0, SIZE - 1)
        if first >= SIZE:
            self.head(416, ["Content-Range: bytes */%d" % SIZE, "Content-Length: 0"])
            return True
        fields = ["Content-Length: %d" % (last + 1 - first)]
        if r:
            fields.append("Content-Range: bytes %d-%d/%d" % (first, last, SIZE))
        self.head(206 if r else 200, fields)
        body = BODY[first:last + 1]
        self.send(body if cut is None else body[:cut])
        return cut is None

    def partial(self, req, shown_first, shown_last, total, body, length=None):
        self.head(206, ["Content-Range: bytes %s-%s/%s" % (shown_first, shown_last, total),
                        "Content-Length: %d" % (len(body) if length is None else length)])
        self.send(body)
        return False

    def stall(self):
        threading.Event().wait()

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    # well-behaved, or nearly

    def do_ok(self, req, n):
        return self.good(req)

    def do_echo(self, req, n):
        text = req.raw.encode("latin-1")
        self.head(200, ["Content-Length: %d" % len(text)])
        self.send(text)
        return True

    def do_empty(self, req, n):
        self.head(200, ["Content-Length: 0"])
        return True

    def do_norange(self, req, n):
        self.head(200, ["Content-Length: %d" % SIZE])
        self.send(BODY)
        return True

    def do_norange_early(self, req, n):
        self.head(200, ["Content-Length: %d" % SIZE])
        self.send(BODY[:n * 30000])
        return False

    def do_range_then_not(self, req, n):
        return self.good(req, 5000) if n == 1 else self.do_norange(req, n)

    def do_early(self, req, n):
        return self.good(req, 20000)

    def do_early_nothing(self, req, n):
        return self.good(req, 0)

    def do_nolength(self, req, n):
        self.head(200, ["Connection: close"])
        self.send(BODY)
        return False

    def do_nolength_early(self, req, n):
        self.head(200, ["Connection: close"])
        self.send(BODY if n > 1 else BODY[:30000])
        return False

    def do_chunked(self, req, n):
        self.head(200, ["Transfer-Encoding: chunked"])
        for i in range(0, SIZE, 3000):
            self.chunk(BODY[i:i + 3000])
        self.send(b"0\r\nContent-Range: bytes 5-6/7\r\n\r\n")
        return True

    def do_chunked_early(self, req, n):
        if req.range():
            return self.good(req)
        self.head(200, ["Transfer-Encoding: chunked"])
        self.chunk(BODY[:30000])
        return False

    def do_chunked_no_end(self, req, n):
        if req.range():
            return self.good(req)
        self.head(200, ["Transfer-Encoding: chunked"])
        self.chunk(BODY)
        return False

    def do_chunked_short(self, req, n):
        self.head(200, ["Transfer-Encoding: chunked"])
        self.chunk(BODY[:30000])
        self.send(b"0\r\n\r\n")
        return True

    def do_chunked_206_long(self, req, n):
        first, last = req.range()
        self.head(206, ["Transfer-Encoding: chunked", "Content-Range: bytes %d-%d/%d" % (first, last, SIZE)])
        self.chunk(BODY[first:last + 1])
        self.chunk(b"more")
        self.send(b"0\r\n\r\n")
        return True

    def do_unknown_total(self, req, n):
        first, last = req.range()
        return self.partial(req, first, last, "*", BODY[first:last + 1])

    def do_drops_idle(self, req, n):
        self.good(req)
        return False

    # wrong

    def do_other_place(self, req, n):
        first, last = req.range()
        return self.partial(req, first - 10, last - 10, SIZE, BODY[first - 10:last - 9])

    def do_other_total(self, req, n):
        first, last = req.range()
        return self.partial(req, first, last, SIZE + 1, BODY[first:last + 1])

    def do_shorter_range(self, req, n):
        first, last = req.range()
        return self.partial(req, first, last - 1, SIZE, BODY[first:last])

    def do_two_truths(self, req, n):
        first, last = req.range()
        return self.partial(req, first, last, SIZE, BODY[first:last + 1], last + 5 - first)

    def do_no_content_range(self, req, n):
        self.head(206, ["Content-Length: 10", "Content-Type: multipart/byteranges; boundary=x"])
        self.send(b"0123456789")
        return False

    def do_always_206(self, req, n):
        return self.partial(req, 0, SIZE - 1, SIZE, BODY)

    def do_bad_range(self, req, n):
        self.head(206, ["Content-Length: 10", "Content-Range: bytes 18446744073709551617-9/x"])
        self.send(b"0123456789")
        return False

    def do_other_size(self, req, n):
        self.head(200, ["Content-Length: %d" % (SIZE + 1)])
        self.send(BODY + b"x")
        return False

    def do_resume_changed(self, req, n):
        if n == 1:
            return self.good(req, 20000)
        first, last = req.range()
        return self.partial(req, first, last + 1, SIZE + 1, BODY[first:] + b"x")

    def do_endless(self, req, n):
        self.head(200)
        try:
            while True:
                self.send(BODY)
        except OSError:
            return False

    def do_endless_headers(self, req, n):
        self.send(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                self.send(b"X-More: %s\r\n" % (b"x" * 1000))
        except OSError:
            return False

    def do_gzip(self, req, n):
        self.head(200, ["Content-Encoding: gzip", "Content-Length: 10"])
        self.send(b"\x1f\x8b34567890")
        return False

    def do_garbage(self, req, n):
        self.send(b"\0\1\2 this is not HTTP\r\n\r\n" * 100)
        return False

    # statuses

    def status(self, code, fields=()):
        self.head(code, ["Content-Length: 4", *fields])
        self.send(b"said")
        return True

    def do_s400(self, req, n): return self.status(400)
    def do_s401(self, req, n): return self.status(401)
    def do_s403(self, req, n): return self.status(403)
    def do_s404(self, req, n): return self.status(404)
    def do_s410(self, req, n): return self.status(410)
    def do_s416(self, req, n): return self.status(416)
    def do_s204(self, req, n): self.head(204); return True
    def do_s503(self, req, n): return self.status(503)

    def do_big_404(self, req, n):
        self.head(404)
        try:
            while True:
                self.send(BODY)
        except OSError:
            return False

    def do_busy(self, req, n):
        return self.status(503) if n <= 3 else self.good(req)

    def do_limited(self, req, n):
        return self.status(429, ["Retry-After: 1"]) if n <= 1 else self.good(req)

    def do_limited_date(self, req, n):
        when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))
        return self.status(503, ["Retry-After: " + when]) if n <= 1 else self.good(req)

    def do_limited_ten_years(self, req, n):
        return self.status(429, ["Retry-After: 315360000"])

    def do_later(self, req, n):
        return self.status(404) if n <= 1 else self.good(req)

    def do_torn(self, req, n):
        """What is asked for fresh is replaced while it is read."""
        self.head(200, ["Content-Length: 6"])
        self.send(b"old" if n == 1 else b"newnew")
        return n > 1

    # silence

    def do_stall_headers(self, req, n):
        self.stall()

    def do_stall_in_headers(self, req, n):
        self.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        self.stall()

    def do_stall_body(self, req, n):
        self.good(req, 20000)
        self.stall()

    def do_stall_once(self, req, n):
        if n > 1:
            return self.good(req)
        self.good(req, 20000)
        self.stall()

    def do_dribble(self, req, n):
        self.good(req, 0)
        try:
            for i in range((req.range() or (0, 0))[0], SIZE):
                self.send(BODY[i:i + 1])
                time.sleep(0.05)
        except OSError:
            return False

    # redirects

    def to(self, where, status=302):
        return self.status(status, ["Location: " + where])

    def me(self):
        return "%s:%d" % self.server.server_address

    def do_moved(self, req, n): return self.to("http://%s/ok/packs/a" % self.me(), 301)
    def do_moved_relative(self, req, n): return self.to("../../ok/packs/a?signed=1#part", 307)
    def do_moved_loop(self, req, n): return self.to(req.path)
    def do_moved_file(self, req, n): return self.to("file:///etc/passwd")
    def do_moved_ftp(self, req, n): return self.to("ftp://127.0.0.1/x")
    def do_moved_user(self, req, n): return self.to("http://user:pass@%s/ok/packs/a" % self.me())
    def do_moved_http(self, req, n): return self.to("http://%s/ok/packs/a" % self.me(), 308)
    def do_moved_nowhere(self, req, n): return self.status(302)
    def do_moved_bad(self, req, n): return self.to("http://[oops/")

    def do_hops(self, req, n):
        left = int(req.path.rsplit("/", 1)[1])
        return self.to("/hops/x/%d" % (left - 1)) if left else self.good(req)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
