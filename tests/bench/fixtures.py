# SPDX-License-Identifier: Apache-2.0
"""What tests/bench/read measures with: models, stores, mounts of ours and of others, and the timed reader."""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from statistics import median

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
NOBODY = 65534
NGINX = """daemon off; {user}pid {work}/pid; events {{ }}
http {{ access_log off; sendfile on; client_body_temp_path {work}/b; proxy_temp_path {work}/p;
	fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
	server {{ listen 127.0.0.1:{port}; location / {{ root {root}; autoindex on; }} }} }}
"""
READ_AHEAD_KB = 4096		# what weightfs sets for itself as root; the others get it too

running = []			# processes and mounts, the last first at the end


def sh(*cmd, **more):
    return subprocess.run([str(c) for c in cmd], check=True, **more)


def output(*cmd):
    return sh(*cmd, stdout=subprocess.PIPE, text=True).stdout


def until(condition, seconds=120, step=0.02):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("nothing happened for %d s" % seconds)
        time.sleep(step)


def as_user(user, cmd):
    """As root, stand in for an ordinary user; nobody's own configuration counts."""
    drop = ["setpriv", "--reuid=%d" % user, "--regid=%d" % user, "--clear-groups"] if user and os.geteuid() == 0 else []
    return drop + ["env", "-u", "XDG_RUNTIME_DIR", "HOME=" + Bench.home] + [str(c) for c in cmd]


def start(cmd, user=None, **more):
    p = subprocess.Popen(as_user(user, cmd), **more)
    running.append(p)
    return p


def end(p, how=signal.SIGTERM):
    if p.poll() is None:
        p.send_signal(how)
    p.wait()
    if p in running:
        running.remove(p)


def open_device():
    """Let users have /dev/fuse, as udev does; returns its mode if it was another."""
    mode = os.stat("/dev/fuse").st_mode & 0o7777
    if mode & 0o6 == 0o6:
        return None
    os.chmod("/dev/fuse", mode | 0o666)
    return mode


def is_mounted(path):
    """The device number of the mount there; "" if there is none.  Asks nobody who might not answer root."""
    with open("/proc/self/mountinfo") as f:
        return "".join(m.split()[2] for m in f if m.split()[4] == path)


class Mount:
    """A FUSE program in the foreground on a directory of its own."""

    def __init__(self, work, name, cmd, user=None, ready=None):
        self.path = os.path.join(work, "mnt-" + name)
        self.peak_kb = 0
        os.makedirs(self.path, exist_ok=True)
        if user and os.geteuid() == 0:
            os.chown(self.path, user, user)
        self.log = open(os.path.join(work, name + ".log"), "w")
        self.process = start([c if c != "MNT" else self.path for c in cmd], user, stdout=self.log, stderr=self.log)
        running.append(self)
        until(lambda: self.process.poll() is not None or is_mounted(self.path), 20)
        if self.process.poll() is not None:
            with open(self.log.name) as f:
                raise RuntimeError("%s does not mount: %s" % (name, f.read().strip()[-300:]))
        if os.geteuid() == 0 and not user:
            self.read_ahead()
        if ready:
            until(ready)

    def read_ahead(self):
        bdi = "/sys/class/bdi/%s/read_ahead_kb" % is_mounted(self.path)
        time.sleep(0.1)		# after INIT, which lowers it
        with open(bdi, "w") as f:
            f.write("%d\n" % READ_AHEAD_KB)

    def note_memory(self):
        try:
            with open("/proc/%d/status" % self.process.pid) as f:
                self.peak_kb = max([self.peak_kb] + [int(s.split()[1]) for s in f if s.startswith("VmHWM")])
        except OSError:
            pass

    def end(self, how=signal.SIGTERM):
        self.note_memory()
        if self in running:
            running.remove(self)
        end(self.process, how)
        for _ in range(100):
            if not is_mounted(self.path):
                break
            subprocess.run(["fusermount3", "-uzq", self.path])
            time.sleep(0.02)
        self.log.close()


def end_all():
    for r in reversed(running[:]):
        r.end() if isinstance(r, Mount) else end(r)


class Bench:
    home = "/"

    def __init__(self, work, build, mib, runs):
        self.work, self.build, self.mib, self.runs = work, build, mib, runs
        self.reader = os.path.join(build, "tests", "bench-reader")
        self.bare = os.path.join(build, "tests", "bench-barefuse")
        self.weightfs = os.path.join(build, "weightfs")
        self.weightsync = os.path.join(build, "weightsync")
        self.help = output(self.weightfs, "mount", "--help")
        self.peak_kb = 0
        self.peak_of = ""
        Bench.home = self.at("home")
        os.makedirs(Bench.home, exist_ok=True)
        os.chmod(Bench.home, 0o1777)

    def at(self, *names):
        return os.path.join(self.work, *names)

    # ---- models, stores, caches: made once, kept with --work ----

    def models(self, mib=None, shards=4):
        """Directories of two versions, the second with 1 % of the elements changed."""
        mib = mib or self.mib
        one, two = self.at("v1-%d-%d" % (mib, shards)), self.at("v2-%d-%d" % (mib, shards))
        make = os.path.join(TESTS, "mkmodel.py")
        if not os.path.isdir(one):
            sh(sys.executable, make, "make", one + ".part", "--shards", shards, "--tensors", 8 * shards, "--mib", mib)
            os.rename(one + ".part", one)
        if not os.path.isdir(two):
            sh(sys.executable, make, "step", one, two + ".part")
            os.rename(two + ".part", two)
        return one, two

    def store(self, *versions):
        """A store with these directories as versions 1, 2, ..."""
        path = self.at("store-" + "-".join(os.path.basename(v) for v in versions))
        if not os.path.isdir(path):
            for v in versions:
                sh(self.weightsync, "publish", v, path + ".part", "--cache", self.at("publisher"), "--quiet",
                   stdout=subprocess.DEVNULL)
            shutil.rmtree(self.at("publisher"))
            os.rename(path + ".part", path)
        return path

    def mount(self, store, cache, options="", user=None, name="weightfs"):
        cmd = [self.weightfs, "mount", store, "MNT", "-f", "-o",
               "cache=%s,poll=1h%s" % (cache, "," + options if options else "")]
        m = Mount(self.work, name, cmd, user)
        m.cache, m.user = cache, user
        return m

    def unmount(self, m, how=signal.SIGTERM):
        m.end(how)
        if m.peak_kb > self.peak_kb:
            self.peak_kb, self.peak_of = m.peak_kb, os.path.basename(m.log.name)[:-4]

    def complete(self, m, sequence=1):
        done = '.versions[] | select(.sequence == %d) | .complete' % sequence

        def yes():
            s = subprocess.run(as_user(m.user, [self.weightfs, "status", m.path, "--json"]), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
            return s.returncode == 0 and subprocess.run(["jq", "-e", done], input=s.stdout, text=True,
                                                        stdout=subprocess.DEVNULL).returncode == 0
        until(yes, 600, 0.1)
        return m

    def cache(self, store, user=None):
        """A cache that holds version 1 of the store, complete."""
        path = self.at("cache-%s%s" % (os.path.basename(store), "-%d" % user if user else ""))
        if not os.path.isdir(path):
            shutil.rmtree(path + ".part", ignore_errors=True)
            os.makedirs(path + ".part")
            if user:
                os.chown(path + ".part", user, user)
            self.unmount(self.complete(self.mount(store, path + ".part", user=user)))
            os.rename(path + ".part", path)
        return path

    @staticmethod
    def image(cache, plain):
        """The image in the cache that holds what the plain file holds."""
        with open(plain, "rb") as f:
            head = f.read(1 << 20)
        for path in glob.glob(os.path.join(cache, "images", "*", "data")):
            with open(path, "rb") as f:
                if os.path.getsize(path) == os.path.getsize(plain) and f.read(1 << 20) == head:
                    return path
        raise RuntimeError("no image of %s in %s" % (plain, cache))

    # ---- others ----

    def barefuse(self, file, user=None, name="bare"):
        return Mount(self.work, name, [self.bare, file, "MNT"], user)

    def http(self, directory):
        """nginx with the directory and a list of it, and its URL."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        shutil.rmtree(self.at("nginx"), ignore_errors=True)
        os.makedirs(self.at("nginx"))
        with open(self.at("nginx", "conf"), "w") as f:
            f.write(NGINX.format(work=self.at("nginx"), root=directory, port=port,
                                 user="user root; " if os.geteuid() == 0 else ""))
        p = start(["nginx", "-c", self.at("nginx", "conf"), "-e", self.at("nginx", "error.log")])
        url = "http://127.0.0.1:%d" % port
        until(lambda: subprocess.run(["curl", "-sfo", "/dev/null", url + "/"]).returncode == 0, 10)
        return p, url

    def rclone(self, url, name="rclone"):
        return Mount(self.work, name, ["rclone", "mount", ":http:", "MNT", "--http-url", url, "--vfs-cache-mode", "full",
                                       "--cache-dir", self.at(name + "-cache"), "--config", "/dev/null", "--read-only"])

    def httpdirfs(self, url, name="httpdirfs"):
        return Mount(self.work, name, ["httpdirfs", "-f", "--no-range-check", "--cache", "--cache-location", self.at(name + "-cache"), url, "MNT"])

    @staticmethod
    def largest_below(directory):
        files = [os.path.join(d, f) for d, _, names in os.walk(directory) for f in names]
        return max(files, key=os.path.getsize)

    # ---- timing ----

    def fill_memory(self):
        """Leaves no memory free: it is full of pages that nobody needs, as on a machine that has run for long.
        A host takes what is free in a virtual machine away within seconds, and to write to that costs several
        times a copy: a copy that ends sooner would not pay for it, and a build would."""
        with open("/proc/meminfo") as f:
            free = next(int(s.split()[1]) for s in f if s.startswith("MemFree")) << 10
        os.makedirs(self.at("fill"), exist_ok=True)
        name = self.at("fill", str(len(os.listdir(self.at("fill")))))
        with open(name, "w") as f:
            f.truncate(max(free - (256 << 20), 0))		# all holes
        sh("cat", name, stdout=subprocess.DEVNULL)

    def read(self, mode, targets, processes=1, k=1, user=None, runs=None, count=None):
        """targets: name -> (files, files whose pages are dropped before, files that are read before).
        Name -> (bytes, median seconds)."""
        cmd = [self.reader, "-m", mode, "-n", runs or self.runs, "-p", processes, "-k", k,
               "-c", count or min(20000, self.mib * 8)]	# an eighth of a shard's pages: else all would be read soon
        for name, (files, drop, warm) in targets.items():
            cmd += ["%s=%s" % (name, f) for f in files]
            for flag, paths in (("-d", drop), ("-w", warm)):
                for p in paths:
                    cmd += [flag, "%s=%s" % (name, p)]
        got = {}
        for line in output(*as_user(user, cmd)).splitlines():
            name, size, *seconds = line.split()
            got[name] = (int(size) * processes, median(map(float, seconds)))
        return got
