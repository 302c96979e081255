"""Health checks leave no trace in the logs of real servers.

usage: checks.py WEIR [SERVER...]

Each server is checked by weir sixty times or more and must not complain: neither in its log nor by
turning clients away. Then it must still serve through weir. Before that it is connected to as a
careless checker would, so that the test knows that the server does complain where there is cause.

Servers that are not installed are named and counted, and make the test fail unless ALLOW_SKIPS is
set in the environment.
"""

import os
import pwd
import signal
import smtplib
import socket
import struct
import subprocess
import time
from pathlib import Path

from stand import HOST, Skip, eventually, find, free_port, main, output, python_with

CHECKS = 60
INTERVAL_MS = 200

SLOW = """
import http.server, sys, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "200000")
        self.end_headers()
        time.sleep(0.02)
        for _ in range(10):
            self.wfile.write(b"x" * LENGTH)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Slow).serve_forever()
"""


class Server:
    """A server with a port, a folder and a log of its own."""

    # Parts of log lines that tell of a connection or of a complaint.
    traces = []
    # The user it runs as where root starts it: some refuse to be root.
    user = None
    check = ""
    host = HOST

    def __init__(self, program, folder, cleanup):
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self.process = None
        self.identity = {}
        if os.getuid() == 0 and self.user:
            try:
                entry = pwd.getpwnam(self.user)
            except KeyError:
                raise Skip(f"there is no user {self.user}") from None
            self.identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        cleanup.callback(self.stop)

    def run(self):
        self.start()
        provoked = expect_silence(self.program, self)
        return f"{provoked} lines after careless checks, none after {CHECKS} of weir's"

    def spawn(self, *command):
        log = open(self.log, "a")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self.identity
        )

    def call(self, *command, **more):
        return output(*command, cwd=self.folder, **self.identity, **more)

    def start(self):
        raise NotImplementedError

    def is_ready(self):
        """Whether it serves; asked in a way that leaves no complaint."""
        raise NotImplementedError

    def serves(self, port):
        """Whether a client is served at that port."""
        raise NotImplementedError

    def complaints(self, mark):
        text = self.log.read_text(errors="replace")[mark:]
        return [line for line in text.splitlines() if any(trace in line for trace in self.traces)]

    def provoke(self):
        """What a careless checker does: connects and resets."""
        for _ in range(3):
            with socket.create_connection((self.host, self.port)) as one:
                time.sleep(0.05)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class PostgreSQL(Server):
    user = "postgres"
    traces = ["connection received", "reset by peer", "incomplete startup packet"]

    def start(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.bin = str(Path(find("initdb", *map(str, found[-1:]))).resolve().parent)
        data = self.folder / "data"
        self.call(f"{self.bin}/initdb", "-D", data, "-A", "trust", "-U", "tester")
        options = ["log_connections=on", f"unix_socket_directories={self.folder}", "listen_addresses=127.0.0.1"]
        settings = [part for option in options for part in ("-c", option)]
        self.spawn(f"{self.bin}/postgres", "-D", data, "-p", str(self.port), *settings)

    def query(self, host, port):
        return self.call(f"{self.bin}/psql", "-h", host, "-p", str(port), "-U", "tester", "-Atc", "select 6 * 7", "postgres")

    def is_ready(self):
        return self.query(str(self.folder), self.port)

    def serves(self, port):
        return self.query(HOST, port) == "42\n"


def own_address():
    """An address of this host that is not loopback, which MariaDB never blocks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            # Sends nothing: the kernel only chooses an address.
            one.connect(("192.0.2.1", 9))
            return one.getsockname()[0]
        except OSError:
            raise Skip("this host has no address beside loopback") from None


class MariaDB(Server):
    user = "mysql"
    traces = ["Aborted", "aborted", "unauthenticated"]

    def start(self):
        self.host = own_address()
        daemon = find("mariadbd")
        data = self.folder / "data"
        self.call(find("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal")
        self.socket = self.folder / "socket"
        self.spawn(
            daemon, "--no-defaults", f"--datadir={data}", f"--port={self.port}", f"--socket={self.socket}",
            f"--bind-address={self.host}", f"--pid-file={self.folder}/pid", "--log-warnings=9",
            "--max-connect-errors=5", "--skip-name-resolve=0", "--innodb-buffer-pool-size=8M",
        )

    def query(self, text, *where):
        return self.call(find("mariadb"), "--no-defaults", "-N", *where, "-e", text)

    def as_root(self, text):
        return self.query(text, f"--socket={self.socket}", "--user=root")

    def is_ready(self):
        grant = "create user if not exists tester@'%'; select 42"
        return self.as_root(grant)

    def provoke(self):
        super().provoke()
        time.sleep(1)

    def serves(self, port):
        # Directly, from the address that weir checks from; and through weir.
        status = self.as_root("show global status like 'Aborted_connects'").split()[1]
        if int(status) != self.aborted:
            raise AssertionError(f"Aborted_connects went from {self.aborted} to {status}")
        direct = self.query("select 42", f"--host={self.host}", f"--port={self.port}", "--user=tester")
        through = self.query("select 42", f"--host={HOST}", f"--port={port}", "--user=tester")
        return direct == through == "42\n"

    def complaints(self, mark):
        found = super().complaints(mark)
        if mark == 0:
            self.as_root("flush hosts")
            self.aborted = int(self.as_root("show global status like 'Aborted_connects'").split()[1])
        return found


class Redis(Server):
    traces = ["Accepted", "Client closed", "Reading from client", "Error"]

    def start(self):
        self.spawn(
            find("redis-server"), "--port", str(self.port), "--bind", HOST, "--loglevel", "debug", "--save", "",
            "--unixsocket", "socket", "--dir", str(self.folder),
        )

    def ask(self, one):
        with one:
            one.settimeout(5)
            one.sendall(b"PING\r\n")
            return one.recv(100) == b"+PONG\r\n"

    def is_ready(self):
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(self.folder / "socket"))
        return self.ask(one)

    def serves(self, port):
        return self.ask(socket.create_connection((HOST, port)))


class OpenSSH(Server):
    traces = ["Connection from", "Connection reset", "Connection closed", "Forked child", "MaxStartups"]

    def start(self):
        daemon = find("sshd")
        key = self.folder / "key"
        self.call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        (self.folder / "config").write_text(
            f"ListenAddress {HOST}:{self.port}\nHostKey {key}\nPidFile none\nLogLevel DEBUG\n"
            "MaxStartups 2:100:2\nUsePAM no\n"
        )
        self.spawn(daemon, "-D", "-e", "-f", self.folder / "config")

    def is_ready(self):
        return "Server listening" in self.log.read_text()

    def serves(self, port):
        with socket.create_connection((HOST, port)) as one:
            one.settimeout(5)
            return one.recv(100).startswith(b"SSH-2.0")


class SMTP(Server):
    traces = ["Peer:", "connection lost", "reset", "Traceback"]

    def start(self):
        python = python_with("aiosmtpd")
        # Its standard output is a pipe or file, where Python would hold lines back.
        self.spawn("env", "PYTHONUNBUFFERED=1", python, "-m", "aiosmtpd", "-n", "-d", "-d", "-l", f"{HOST}:{self.port}")

    def is_ready(self):
        return "Starting asyncio loop" in self.log.read_text()

    def serves(self, port):
        with smtplib.SMTP(HOST, port, timeout=10) as one:
            return one.noop()[0] == 250


class HttpServer(Server):
    traces = ["Traceback", "Error", "Exception"]
    check = ", path: /"

    def start(self):
        (self.folder / "index.html").write_text("x" * 20_000)
        self.spawn("env", "PYTHONUNBUFFERED=1", find("python3"), "-m", "http.server", "--bind", HOST, str(self.port))

    def is_ready(self):
        return "Serving HTTP" in self.log.read_text()

    def provoke(self):
        """Resets when the head is in, as a checker does that does not care for the rest."""
        # A small body may be out before the reset is here.
        for _ in range(1000):
            if self.complaints(0):
                return
            with socket.create_connection((HOST, self.port)) as one:
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                one.recv(1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def serves(self, port):
        checked = self.log.read_text().count('"GET / HTTP/1.1" 200')
        if checked < CHECKS * 3 // 4:
            raise AssertionError(f"only {checked} checks arrived")
        with socket.create_connection((HOST, port)) as one:
            one.settimeout(5)
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return one.recv(100).startswith(b"HTTP/1.")


class SlowHttpServer(HttpServer):
    """The body follows 20 ms after the head, in pieces."""

    version = "HTTP/1.0"
    bytes = 50_000

    def start(self):
        program = SLOW.replace("200000", str(self.bytes)).replace("LENGTH", str(self.bytes // 10))
        self.spawn("env", "PYTHONUNBUFFERED=1", find("python3"), "-c", program, str(self.port), self.version)

    def is_ready(self):
        # Nothing is logged before the first request.
        with socket.create_connection((HOST, self.port)) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while one.recv(65536):
                pass
            return True


class SlowKeptHttpServer(SlowHttpServer):
    version = "HTTP/1.1"


SERVERS = [PostgreSQL, MariaDB, Redis, OpenSSH, SMTP, HttpServer, SlowHttpServer, SlowKeptHttpServer]


def half_open_resets():
    """Connections of this host that were reset before they were accepted, so far."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = lines[0].split(), lines[1].split()
    return int(values[names.index("EmbryonicRsts")])


class Weir:
    def __init__(self, program, server):
        self.port = free_port()
        self.log = server.folder / "weir.log"
        file = server.folder / "weir.yaml"
        file.write_text(
            f"listen: '{HOST}:{self.port}'\nmode: tcp\nbackends: ['{server.host}:{server.port}']\n"
            f"health_check: {{interval: {INTERVAL_MS}ms, timeout: {INTERVAL_MS}ms, "
            f"fast_interval: {INTERVAL_MS}ms, fall: 10{server.check}}}\n"
        )
        self.process = subprocess.Popen([program, "-c", file], stdin=subprocess.DEVNULL, stderr=open(self.log, "w"))

    def stop(self):
        self.process.terminate()
        if self.process.wait(20) != 0:
            raise AssertionError(self.log.read_text())


def expect_silence(program, server):
    """How many lines a careless checker left; none of weir's may leave any."""
    eventually("it serves", server.is_ready)
    server.provoke()
    provoked = eventually("it complains of a careless checker", lambda: server.complaints(0))
    time.sleep(1)
    server.complaints(0)
    mark = len(server.log.read_text(errors="replace"))
    before = half_open_resets()
    weir = Weir(program, server)
    try:
        # The starts of checks are drawn around the interval.
        time.sleep(CHECKS * INTERVAL_MS * 1.1 / 1000 + 1)
        complaints = server.complaints(mark)
        if complaints:
            raise AssertionError("\n".join([f"{len(complaints)} lines, of which the first are:", *complaints[:5]]))
        resets = half_open_resets() - before
        if not server.check and resets < CHECKS:
            raise AssertionError(f"only {resets} checks were seen by the kernel")
        if not server.serves(weir.port):
            raise AssertionError("no client is served any more")
        if "DOWN" in weir.log.read_text():
            raise AssertionError(weir.log.read_text())
    finally:
        weir.stop()
    return len(provoked)


if __name__ == "__main__":
    main(__doc__, "real servers", SERVERS)
