#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Start a real server for a test: prints its port, then serves until it is killed.

    serve.py nginx ROOT WORK [CERTDIR]   nginx in the foreground, its files in WORK (SIGTERM ends its worker, too)
    serve.py pyhttp ROOT                 Python's own http.server (no Range)
    serve.py cert DIR                    key.pem and a self-signed cert.pem for 127.0.0.1; no server

nginx inherits a socket that is bound already: no port can be lost between choosing and listening.
"""
import http.server
import os
import socket
import subprocess
import sys

CONF = """daemon off;
{user}worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log info;
events {{ worker_connections 512; }}
http {{
	access_log {work}/access.log;
	client_body_temp_path {work}/body;
	proxy_temp_path {work}/proxy;
	fastcgi_temp_path {work}/fastcgi;
	uwsgi_temp_path {work}/uwsgi;
	scgi_temp_path {work}/scgi;
	sendfile on;
	gzip on;
	gzip_types *;
	server {{
		listen 127.0.0.1:{port}{tls};
		root {root};
	}}
}}
"""

TLS = """ ssl;
		ssl_certificate {cert}/cert.pem;
		ssl_certificate_key {cert}/key.pem"""


def say(port):
    print(port, flush=True)


def nginx(root, work, cert=None):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    s.listen(512)
    port = s.getsockname()[1]
    tls = TLS.format(cert=cert) if cert else ""
    conf = os.path.join(work, "nginx.conf")
    with open(conf, "w") as f:
        f.write(CONF.format(root=root, work=work, port=port, tls=tls,
                            user="user root;\n" if os.getuid() == 0 else ""))
    s.set_inheritable(True)
    say(port)
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    os.execvpe("nginx", ["nginx", "-c", conf, "-p", work, "-e", work + "/error.log"],
               dict(os.environ, NGINX=f"{s.fileno()};", PATH=path))


def pyhttp(root):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=root)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    say(server.server_address[1])
    server.serve_forever()


def cert(where):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "2", "-subj", "/CN=weightfs test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", where + "/key.pem", "-out", where + "/cert.pem"],
                   check=True, stderr=subprocess.DEVNULL)
    say(0)


if __name__ == "__main__":
    {"nginx": nginx, "pyhttp": pyhttp, "cert": cert}[sys.argv[1]](*sys.argv[2:])
