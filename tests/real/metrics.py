"""What weir tells, as Debian's Prometheus and rsyslog have it, while its workers are killed.

usage: metrics.py WEIR [TRIAL...]

Trials whose programs are not installed are named and counted, and make the test fail unless
ALLOW_SKIPS is set in the environment.
"""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.parse
from bisect import bisect_left, bisect_right
from pathlib import Path

from stand import HOST, Trial, accepts, eventually, expect, find, free_port, main, output

CLIENTS = 4
KILLS = 12
# Asked one after the other when all is quiet, so that nothing is in doubt.
QUIET_REQUESTS = 1000
SCRAPE_INTERVAL_S = 0.5
TOKEN = "0123456789abcdef-token"
DASHBOARD = Path(__file__).resolve().parents[2] / "conf/grafana/weir.json"


class Backend:
    """Answers each request with the status that its path names."""

    def __init__(self, cleanup):
        self.door = socket.create_server((HOST, 0), backlog=256)
        self.port = self.door.getsockname()[1]
        cleanup.callback(self.door.close)
        threading.Thread(target=self.let_in, daemon=True).start()

    def let_in(self):
        try:
            while True:
                threading.Thread(target=self.serve, args=(self.door.accept()[0],), daemon=True).start()
        except OSError:
            pass

    @staticmethod
    def serve(peer):
        try:
            with peer:
                heads = peer.makefile("rb")
                while line := heads.readline():
                    if line.startswith(b"GET /"):
                        status = line[5:8]
                    if line == b"\r\n":
                        peer.sendall(b"HTTP/1.1 " + status + b" -\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            pass


def ask(kept, port, path):
    """One request, on the connection that is there or a new one; the connection, for the next."""
    one = kept or http.client.HTTPConnection(HOST, port, timeout=30)
    one.request("GET", path)
    answer = one.getresponse()
    answer.read()
    expect(f"{path}: {answer.status}", answer.status == int(path[1:4]))
    return one


class Clients:
    """Ask all the time, and keep a journal of when requests have begun and were answered."""

    def __init__(self, port, cleanup):
        self.port = port
        self.is_over = False
        self.begun, self.answered, self.wrong = [], [], []
        self.threads = [threading.Thread(target=self.go_on) for _ in range(CLIENTS)]
        cleanup.callback(self.finish)
        for thread in self.threads:
            thread.start()

    def go_on(self):
        kept = None
        while not self.is_over:
            # A worker may be killed at any moment, with what is in its hands.
            self.begun.append(time.time())
            try:
                kept = ask(kept, self.port, "/200")
                self.answered.append(time.time())
            except (OSError, http.client.HTTPException):
                kept = None
            except AssertionError as error:
                self.wrong.append(str(error))
                kept = None
            time.sleep(0.001)

    def finish(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()
        self.begun.sort()
        self.answered.sort()


class Watched(Trial):
    """A weir that is asked over TCP, with the token."""

    def start(self, more=""):
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.port, self.door = free_port(), free_port()
        self.backend = Backend(self.cleanup)
        return self.start_weir(
            f"admin: {{listen: '{HOST}:{self.door}', socket: {self.folder}/admin.sock, token_file: token, read: token}}\n"
            f"{more}listeners:\n  - {{name: web, listen: '{HOST}:{self.port}', mode: http, routes: [{{prefix: /, upstream: app}}]}}\n"
            f"upstreams:\n  app:\n    backends: [{{id: b1, address: '{HOST}:{self.backend.port}'}}]\n"
            f"    health_check: {{path: /200, interval: 500ms}}\n"
        )

    def look(self, path, method="GET"):
        one = http.client.HTTPConnection(HOST, self.door, timeout=30)
        one.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        return one.getresponse().read().decode()

    def workers(self):
        return [it["pid"] for it in json.loads(self.look("/status.json"))["workers"]]

    def kill_a_worker(self, number):
        there = eventually("two workers serve", lambda: self.two_workers())
        victim = there[number % 2]
        os.kill(victim, signal.SIGKILL)
        eventually("another one serves in its place", lambda: victim not in self.two_workers())

    def two_workers(self):
        there = self.workers()
        return there if len(there) == 2 else []


class Prometheus(Watched):
    """Scrapes while workers and the process of the admin door are killed."""

    def run(self):
        program, promtool = find("prometheus"), find("promtool")
        weir = self.start()
        self.start_prometheus(program)
        self.call(promtool, "check", "metrics", input=self.look("/metrics"), stdin=None)
        clients = Clients(self.port, self.cleanup)
        for kill in range(KILLS):
            time.sleep(SCRAPE_INTERVAL_S)
            self.kill_a_worker(kill)
            if kill % 4 == 3:
                self.kill_attendant(weir)
        time.sleep(2 * SCRAPE_INTERVAL_S)
        clients.finish()
        expect("; ".join(clients.wrong[:3]), not clients.wrong)
        self.is_true(clients)
        self.is_exact(len(clients.begun))
        shown = self.queries_of_the_dashboard()
        self.no_complaint(weir)
        lost = len(clients.begun) - len(clients.answered)
        expect(f"{lost} requests are lost by {KILLS} deaths", lost <= KILLS * CLIENTS)
        return (
            f"{len(clients.answered)} requests answered, {lost} lost by {KILLS} deaths; each of {self.samples} "
            f"samples true, {QUIET_REQUESTS} more counted to the request, {shown} queries of the dashboard answered"
        )

    def start_prometheus(self, program):
        self.asked = free_port()
        (self.folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {SCRAPE_INTERVAL_S * 1000:.0f}ms, scrape_timeout: {SCRAPE_INTERVAL_S * 1000:.0f}ms}}\n"
            "scrape_configs:\n  - job_name: weir\n    authorization: {credentials_file: token}\n"
            f"    static_configs: [{{targets: ['{HOST}:{self.door}']}}]\n"
        )
        self.spawn(
            "prometheus", program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            f"--web.listen-address={HOST}:{self.asked}",
        )
        eventually("Prometheus has scraped", lambda: self.query("up == 1"))

    def query(self, text):
        """What Prometheus says to that now."""
        one = http.client.HTTPConnection(HOST, self.asked, timeout=30)
        one.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": text}))
        answer = one.getresponse()
        if answer.status == 503:
            raise OSError("Prometheus is not ready")
        answer = json.load(answer)
        if answer["status"] != "success":
            raise AssertionError(f"{text}: {answer['error']}")
        return answer["data"]["result"]

    def number(self, text):
        found = self.query(text)
        return float(found[0]["value"][1]) if found else None

    def kill_attendant(self, weir):
        """Whoever parses HTTP for the admin door."""
        children = Path(f"/proc/{weir.pid}/task/{weir.pid}/children").read_text().split()
        (attendant,) = [it for it in children if b"--admin" in Path(f"/proc/{it}/cmdline").read_bytes()]
        os.kill(int(attendant), signal.SIGKILL)
        eventually("another one serves the door", lambda: accepts(self.door) and self.workers())

    def is_true(self, clients):
        """Each sample lies between what was answered before it and what had begun behind it."""
        name = "weir_listener_requests_total"
        (counted,) = self.query(f"{name}[1h]")
        took = self.query("scrape_duration_seconds[1h]")[0]["values"]
        took = {at: float(seconds) for at, seconds in took}
        self.samples = len(counted["values"])
        expect(f"only {self.samples} scrapes", self.samples > KILLS)
        for at, value in counted["values"]:
            least = bisect_left(clients.answered, at)
            # The clock of a scrape has milliseconds.
            most = bisect_right(clients.begun, at + took[at] + 0.002)
            expect(f"at {at} {value} requests of {least} to {most}", least <= float(value) <= most)
        went_back = self.query("{__name__=~'weir_.*(total|bucket|sum|count)',__name__!~'weir_worker_.*'}")
        names = sorted({it["metric"]["__name__"] for it in went_back})
        for family in names:
            expect(f"{family} has gone back", not self.query(f"resets({family}[1h]) > 0"))
        # What is in between is the rate.
        first, last = counted["values"][0], counted["values"][-1]
        grown = float(last[1]) - float(first[1])
        since = bisect_right(clients.answered, last[0]) - bisect_left(clients.begun, first[0])
        expect(f"{grown} more requests, {since}", abs(grown - since) <= 2 * CLIENTS + KILLS * CLIENTS)

    def is_exact(self, begun):
        """With nobody in doubt, all sums grow by what was asked, also over another death."""
        names = [
            "weir_listener_requests_total", 'sum(weir_listener_responses_total{code_class="2xx"})',
            'sum(weir_route_responses_total{code_class="2xx"})', 'sum(weir_backend_responses_total{code_class="2xx"})',
            "sum(weir_request_duration_seconds_count)", "sum(weir_backend_response_seconds_count)",
            'sum(weir_listener_responses_total{code_class="5xx"})',
        ]
        self.wait_for_another_scrape()
        before = [self.number(name) for name in names]
        expect(f"{before[0]} requests of {begun}", before[0] <= begun)
        kept = None
        for _ in range(QUIET_REQUESTS):
            kept = ask(kept, self.port, "/200")
        for _ in range(7):
            kept = ask(kept, self.port, "/503")
        kept.close()
        wanted = [QUIET_REQUESTS + 7, *[QUIET_REQUESTS] * 3, *[QUIET_REQUESTS + 7] * 2, 7]
        for number in range(2):
            self.wait_for_another_scrape()
            grown = [self.number(name) - old for name, old in zip(names, before)]
            expect(f"{grown} more, not {wanted}", grown == wanted)
            self.kill_a_worker(number)

    def wait_for_another_scrape(self):
        """One that has begun from now on."""
        now = time.time()
        eventually("it scrapes", lambda: (self.number("timestamp(weir_build_info)") or 0) > now)

    def queries_of_the_dashboard(self):
        """Each is taken, and those that ask for what there is have an answer."""
        # So that there is something to see of those who are turned away, and of what is done by hand.
        for _ in range(2):
            with socket.create_connection((HOST, self.port)) as one:
                one.sendall(b"nonsense\r\n\r\n")
                one.recv(100)
            self.wait_for_another_scrape()
        self.look("/drain?target=app/b1", "POST")
        self.wait_for_another_scrape()
        board = json.loads(DASHBOARD.read_text())
        texts = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
        empty = []
        for text in texts:
            asked = text.replace("$__rate_interval", "1m").replace('"$instance"', '".*"').replace('"$upstream"', '".*"')
            expect(f"{text} has a variable that nobody knows", "$" not in asked)
            if not self.query(asked):
                empty.append(text)
        # Certificates, handshakes, and what has to be above zero.
        surprising = [text for text in empty if not re.search("certificate|tls|> 0$", text)]
        expect(f"nothing to see of {surprising}", not surprising)
        return len(texts)


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
input(type="imuxsock" Socket="{folder}/syslog.sock" CreatePath="off" RateLimit.Interval="0"{parser})
input(type="imudp" address="{host}" port="{port}")
template(name="fields" type="string"
  string="%syslogfacility-text%|%syslogseverity-text%|%protocol-version%|%app-name%|%procid%|%timestamp:::date-rfc3339%|%hostname%|%msg%\\n")
action(type="omfile" file="{folder}/received" template="fields")
"""


class Rsyslog(Watched):
    """Takes the access log over its Unix socket, as it is by default and told to read RFC 5424, and over UDP, and is
    started anew meanwhile."""

    COUNT = 200
    READS_RFC5424 = ' UseSpecialParser="off" ParseHostname="on"'

    def run(self):
        self.daemon = find("rsyslogd")
        said = [self.over(name) for name in ["unix", "local", "udp"]]
        return "; ".join(said)

    def over(self, name):
        folder = self.folder / name
        folder.mkdir(mode=0o755)
        port = free_port()
        is_local = name == "local"
        parser = "" if is_local else self.READS_RFC5424
        (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder, host=HOST, port=port, parser=parser))
        where = f"udp://{HOST}:{port}" if name == "udp" else f"{folder}/syslog.sock"
        version, form = ("0", "local") if is_local else ("1", "rfc5424")
        server = self.start_server(name, folder)
        weir = self.start(
            f"access_log: {{format: json, syslog: '{where}', facility: local3, syslog_format: {form}}}\n"
        )
        self.requests(self.COUNT, "/200")
        first, workers = self.received(folder, self.COUNT), self.workers()
        for line in first:
            facility, severity, said, app, process, at, host, text = line.split("|", 7)
            expect(line, (facility, severity, said, app) == ("local3", "info", version, "weir"))
            expect(line, int(process) in workers)
            expect(line, "T" in at and host not in ["", "-"])
            expect(line, json.loads(text.strip())["status"] == 200)
        # It is away for a while: no request waits, and each line comes later or is counted as lost.
        server.terminate()
        server.wait(20)
        self.requests(20, "/404")
        self.start_server(name, folder)
        more = 0
        while '"status":201' not in (folder / "received").read_text():
            expect("lines come again", more < 600)
            self.requests(1, "/201")
            more += 1
            time.sleep(0.1)
        eventually("nothing is missing", lambda: self.there(folder) + self.lost() == self.COUNT + 20 + more)
        there, lost = self.there(folder), self.lost()
        self.no_complaint(weir)
        return f"{name}: {self.COUNT} lines in their fields; over a restart {there} came and {lost} were counted as lost"

    @staticmethod
    def there(folder):
        return len((folder / "received").read_text().splitlines())

    def lost(self):
        found = re.findall(r"^weir_access_log_lines_lost_total (\d+)$", self.look("/metrics"), re.M)
        return sum(map(int, found))

    def start_server(self, name, folder):
        (folder / "received").touch()
        server = self.spawn(f"rsyslogd-{name}", self.daemon, "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid")
        eventually("rsyslog listens", lambda: "start" in self.log(f"rsyslogd-{name}") or self.listens(folder))
        return server

    @staticmethod
    def listens(folder):
        # Root's own umask may keep others away from its socket.
        (folder / "syslog.sock").chmod(0o666)
        return True

    def requests(self, count, path):
        kept = None
        for _ in range(count):
            kept = ask(kept, self.port, path)
        kept.close()

    def received(self, folder, count):
        def look():
            lines = (folder / "received").read_text().splitlines()
            return lines if len(lines) >= count else None

        lines = eventually(f"{count} lines are there", look)
        expect(f"{len(lines)} lines of {count}", len(lines) == count)
        return lines


if __name__ == "__main__":
    main(__doc__, "metrics and logs", [Prometheus, Rsyslog])
