"""Starts nginx, HAProxy and weir on each example of docs/moving.md, and compares what they answer.

usage: run.py WEIR DOCUMENT [PART OF A TITLE]

An example is a section with a block for each program and, in a comment, what is asked and what must
be alike. Its addresses stand for servers that are started here, ports for free ones, and files in
/etc/ssl for such in a folder. `name=value` must be that value, a name alone the same for all.
"""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"
START_S = 20


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Server(ThreadingHTTPServer):
    """A backend that says its name and what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name, context=None):
        super().__init__((HOST, 0), Handler)
        self.name = name
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        if self.path == "/slow":
            time.sleep(1.5)
        told = {
            "backend": self.server.name,
            "path": self.path,
            "seen": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Backend", self.server.name)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


class Echo:
    """A backend of TCP: sends back a line, behind the PROXY header that came before it, if any."""

    def __init__(self):
        self.socket = socket.create_server((HOST, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        try:
            with connection, connection.makefile("rwb") as lines:
                told = b""
                for line in lines:
                    told += line
                    if not line.startswith(b"PROXY "):
                        break
                lines.write(told)
        except OSError:
            pass


def certificates(folder):
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    ca = ["-subj", "/CN=authority", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem"]
    openssl("req", "-x509", *curve, *ca)
    for name in ["site", "other"]:
        pem, key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl("req", *curve, "-subj", f"/CN={name}.example", "-keyout", key.name, "-out", "csr")
        (folder / "extensions").write_text(f"subjectAltName=DNS:{name}.example\n")
        issued = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
        issued += ["-extfile", "extensions", "-out", pem.name]
        openssl("x509", "-req", "-in", "csr", *issued)
        both = folder / ("both.pem" if name == "site" else "bothother.pem")
        both.write_bytes(pem.read_bytes() + key.read_bytes())


class Program:
    """One of the three, on one example."""

    def __init__(self, name, text, stage, weir):
        self.name = name
        self.folder = Path(tempfile.mkdtemp(dir=stage.folder))
        self.ports = {port: free_port() for port in [80, 443, 5432]}
        text = stage.placed(text)
        file = self.folder / "conf"
        if name == "nginx":
            file.write_text(self.nginx(text))
            command = ["nginx", "-p", str(self.folder), "-e", "stderr", "-c", str(file)]
        elif name == "haproxy":
            file.write_text(self.haproxy(text))
            command = ["haproxy", "-db", "-f", str(file)]
        else:
            text = re.sub(r'":(80|443|5432)"', lambda m: f'"{self.listen(m)}"', text)
            file.write_text("user: root\nadmin: off\n" * (os.geteuid() == 0) + text)
            command = [weir, "-c", str(file)]
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def listen(self, match):
        return f"{HOST}:{self.ports[int(match[1])]}"

    def nginx(self, text):
        text = re.sub(r"(?<=listen )(80|443|5432)", self.listen, text)
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};"
            for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        is_stream = "stream {" in text
        rest = text if is_stream else f"http {{ access_log off; {temporary}\n{text} }}"
        return (
            (f"load_module {STREAM};\n" if is_stream else "")
            + ("user root;\n" if os.geteuid() == 0 else "")
            + f"daemon off; worker_processes 1; pid {self.folder}/pid;\n"
            + "events { worker_connections 256; }\n"
            + rest
        )

    def haproxy(self, text):
        text = re.sub(r"(?<=bind ):(80|443|5432)", self.listen, text)
        times = "timeout connect 2s\n timeout client 5s\n timeout server 5s\n"
        return f"global\n maxconn 256\ndefaults\n mode http\n {times}{text}"

    def wait(self, port):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection((HOST, port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"{self.name} does not listen: {self.said()}")

    def said(self):
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def end(self):
        self.process.send_signal(signal.SIGKILL if self.name == "weir" else signal.SIGTERM)
        self.process.wait()
        self.log.close()


class Stage:
    """The servers that the addresses of examples stand for."""

    def __init__(self, folder):
        self.folder = folder
        certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "site.pem", folder / "site.key")
        named = [Server(name) for name in ["one", "two", "three"]]
        echoes = [Echo(), Echo()]
        self.kept = (named, echoes)
        self.addresses = {
            f"10.0.0.{at}:8080": f"{HOST}:{it.server_port}" for at, it in enumerate(named, 1)
        }
        for at, echo in enumerate(echoes, 1):
            self.addresses[f"10.0.0.{at}:5432"] = f"{HOST}:{echo.port}"
        encrypted = Server("encrypted", context)
        self.addresses["10.0.0.1:8443"] = f"{HOST}:{encrypted.server_port}"
        # Bound for as long as this runs, and nobody listens.
        self.dead = socket.socket()
        self.dead.bind((HOST, 0))
        self.addresses["10.0.0.9:8080"] = f"{HOST}:{self.dead.getsockname()[1]}"

    def placed(self, text):
        for address, place in self.addresses.items():
            text = text.replace(address, place)
        return text.replace("/etc/ssl/", f"{self.folder}/")


class Example:
    def __init__(self, title, body):
        self.title = title
        blocks = dict(re.findall(r"```(\w+)\n(.*?)```", body, re.DOTALL))
        self.texts = {
            "nginx": blocks.get("nginx"),
            "haproxy": blocks.get("haproxy"),
            "weir": blocks.get("yaml"),
        }
        (script,) = re.findall(r"<!-- try\n(.*?)-->", body, re.DOTALL)
        self.over, self.server_name, self.keeps_cookies, self.before = "http", None, False, b""
        self.asked, self.alike = [], []
        for line in script.splitlines():
            self.read(line)
        assert self.asked and self.alike and self.texts["weir"], title

    def read(self, line):
        word, _, rest = line.partition(" ")
        if word == "over":
            self.over, _, name = rest.partition(" ")
            self.server_name = name or None
        elif word == "keep":
            self.keeps_cookies = True
        elif word == "behind":
            self.before = rest.encode() + b"\r\n"
        elif word == "alike:":
            # A value may have spaces: the next word with a `=` or a known name begins another.
            names = r"(status|backends|path|body|same|certificate|echo|first|header:[\w-]+|seen:[\w-]+)"
            found = re.findall(rf"(?:^| ){names}(?:=(.*?))?(?= {names}(?:=|$| )|$)", rest)
            self.alike = [(name, value or None) for name, value, _ in found]
        else:
            self.asked += [rest] * int(word)

    def port(self):
        return {"http": 80, "tls": 443, "tcp": 5432}[self.over]

    def try_on(self, program):
        port = program.ports[self.port()]
        program.wait(port)
        if self.over == "tcp":
            answers = [self.say(port, line) for line in self.asked]
            return {
                "echo": [lines[-1] for lines in answers],
                "first": [" ".join(lines[0].split()[:4]) for lines in answers],
            }
        jar = {}
        answers = [self.ask(port, line, jar) for line in self.asked]
        backends = Counter(it["told"].get("backend") for it in answers)
        seen = {
            "status": [str(it["status"]) for it in answers],
            "path": [it["told"].get("path") for it in answers],
            "body": [it["body"].strip() for it in answers],
            "backends": [",".join(f"{name}:{n}" for name, n in sorted(backends.items()))]
            if None not in backends
            else [None],
            "same": [str(len(backends) == 1 and None not in backends)],
            "certificate": [it["certificate"] for it in answers],
        }
        for name, _ in self.alike:
            kind, _, field = name.partition(":")
            if kind == "header":
                seen[name] = [it["headers"].get(field.lower(), "none") for it in answers]
            elif kind == "seen":
                told = [it["told"].get("seen", {}) for it in answers]
                seen[name] = [it.get(field.lower(), "none") for it in told]
        return seen

    def say(self, port, line):
        with socket.create_connection((HOST, port), 5) as connection:
            connection.sendall(line.encode() + b"\n")
            connection.settimeout(5)
            with connection.makefile("rb") as lines:
                return [line.decode().strip() for line in lines]

    def ask(self, port, line, jar):
        first, *fields = line.split(" | ")
        method, path, *size = first.split()
        headers = dict(field.split(": ", 1) for field in fields)
        headers.setdefault("Host", self.server_name or "example.com")
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        body = b"x" * int(size[0]) if size else None
        connection = socket.create_connection((HOST, port), 5)
        connection.sendall(self.before)
        certificate = None
        if self.over == "tls":
            context = ssl._create_unverified_context()
            connection = context.wrap_socket(connection, server_hostname=self.server_name)
            certificate = connection.getpeercert(binary_form=True).hex()
        client = http.client.HTTPConnection(HOST, port)
        client.sock = connection
        client.request(method, path, body=body, headers=headers)
        response = client.getresponse()
        text = response.read().decode()
        fields = {name.lower(): value for name, value in response.getheaders()}
        client.close()
        if self.keeps_cookies and "set-cookie" in fields:
            name, _, value = fields["set-cookie"].split(";")[0].partition("=")
            jar[name] = value
        told = json.loads(text) if text.startswith("{") else {}
        answer = {"status": response.status, "headers": fields, "body": text, "told": told}
        return answer | {"certificate": certificate}

    def run(self, stage, weir):
        """What is wrong with it."""
        told = {}
        for name, text in self.texts.items():
            if text is None:
                continue
            program = Program(name, text, stage, weir)
            try:
                told[name] = self.settled(program)
            except Exception as error:
                return [f"{name}: {error!r}; {program.said()}"]
            finally:
                program.end()
        wrong = []
        for name, value in self.alike:
            answers = {program: seen.get(name) for program, seen in told.items()}
            for program, answer in answers.items():
                known = answer and None not in answer
                right = known and (value is None or set(answer) == {value})
                if not right or answer != answers["weir"]:
                    wrong.append(f"{program}: {name} is {answer}, weir's {answers['weir']}")
        return wrong

    def settled(self, program):
        """What it answers once it knows its backends."""
        wanted = [(name, value) for name, value in self.alike if value is not None]
        deadline = time.monotonic() + START_S
        while True:
            seen = self.try_on(program)
            good = all(set(seen[name]) == {value} for name, value in wanted)
            if good or time.monotonic() > deadline or program.process.poll() is not None:
                return seen
            time.sleep(0.1)


def examples(document):
    parts = re.split(r"^### (.*)\n", document, flags=re.MULTILINE)[1:]
    for title, body in zip(parts[::2], parts[1::2]):
        yield Example(title, re.split(r"^## ", body, flags=re.MULTILINE)[0])


def main():
    weir, document, *only = sys.argv[1:]
    found = [it for it in examples(Path(document).read_text()) if not only or only[0] in it.title]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        for example in found:
            wrong = example.run(stage, weir)
            failed += bool(wrong)
            for line in wrong:
                print(f"{example.title}: {line}")
    print(f"{len(found)} examples, {failed} failed")
    sys.exit(1 if failed or not found else 0)


if __name__ == "__main__":
    main()
