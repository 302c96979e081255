"""A weir that was built for another machine serves, decrypts, reloads and drains.

usage: cross.py PROGRAM...

Each is run by qemu-user, as MACHINE/release/weir says, or as it is where this machine can; then as root
also where there is nothing else. Programs without TLS are tried without it. Exits with 1 if one fails.
"""

import contextlib
import http.server
import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

EMULATORS = {"arm": "arm", "armv7": "arm", "riscv64gc": "riscv64", "i686": "i386"}
PATIENCE_S = 60


def command(program):
    """How to run it here."""
    machine = program.parts[-3].split("-")[0]
    if machine == platform.machine():
        return [str(program)]
    name = f"qemu-{EMULATORS.get(machine, machine)}-static"
    emulator = shutil.which(name)
    if not emulator:
        sys.exit(f"cross-check: {name} is missing: please install qemu-user-static")
    return [emulator, str(program)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers at once, or after as many milliseconds as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(int(self.path.rpartition("/")[2] or 0) / 1000)
        body = b"backend"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(port, path="/", tls=None):
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain:
        client = tls.wrap_socket(plain, server_hostname="weir.test") if tls else plain
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: weir.test\r\nConnection: close\r\n\r\n".encode())
        parts = []
        while part := client.recv(65536):
            parts.append(part)
        return b"".join(parts).decode()


def expect(found, part, what):
    if part not in found:
        raise AssertionError(f"{what}: {found!r} has no {part!r}")


def eventually(what, look):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


def certificate(folder):
    """A certificate of its own making, with its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-subj", "/CN=weir.test", "-addext", "subjectAltName=DNS:weir.test"]
        + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "site.pem")],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    (folder / "key.pem").chmod(0o644)


def configuration(folder, ports, backend, has_tls, body):
    tls = f"\n    tls: {{certificate: {folder}/site.pem, key: {folder}/key.pem}}" if has_tls else ""
    return f"""
timeouts: {{drain: 30s}}
listeners:
  - name: plain
    listen: 127.0.0.1:{ports[0]}
    routes:
      - {{prefix: /told, respond: {{body: {body}}}}}
      - {{prefix: /, upstream: pool}}
  - name: sealed
    listen: 127.0.0.1:{ports[1]}{tls}
    routes: [{{prefix: /, upstream: pool}}]
upstreams:
  pool: {{backends: ["127.0.0.1:{backend}"]}}
"""


@contextlib.contextmanager
def running(words, log, ready):
    """A weir that has said so, and ends well once it is told to; what it said, where something fails."""
    with log.open("w") as stderr:
        weir = subprocess.Popen(words, stderr=stderr)
    try:
        eventually("it comes up", lambda: ready in log.read_text() or weir.poll() is not None)
        yield weir
        if (status := weir.wait(PATIENCE_S)) != 0:
            raise AssertionError(f"it ends with {status}")
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from error
    finally:
        weir.kill()
        weir.wait()


def trial(program, folder, backend):
    run = command(program)
    version = subprocess.run([*run, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    certificate(folder)
    ports = [free_port(), free_port()]
    file = folder / "weir.yaml"
    file.write_text(configuration(folder, ports, backend, True, "first"))
    checked = subprocess.run([*run, "-t", "-c", str(file)], stderr=subprocess.PIPE, text=True)
    has_tls = checked.returncode == 0
    if not has_tls:
        expect(checked.stderr, "without TLS", "a configuration is not taken")
    write = lambda body: file.write_text(configuration(folder, ports, backend, has_tls, body))
    write("first")
    with running([*run, "-c", str(file), "-p", str(folder / "pid")], folder / "log", "listening") as weir:
        expect(ask(ports[0]), "backend", "serving")
        if has_tls:
            tls = ssl.create_default_context(cafile=str(folder / "site.pem"))
            expect(ask(ports[1], tls=tls), "backend", "TLS")
        expect(ask(ports[0], "/told"), "first", "an answer of its own")
        write("second")
        weir.send_signal(signal.SIGHUP)
        eventually("the file is taken on", lambda: "second" in ask(ports[0], "/told"))
        slow = []
        client = threading.Thread(target=lambda: slow.append(ask(ports[0], "/2000")))
        client.start()
        time.sleep(0.5)
        weir.send_signal(signal.SIGTERM)
        client.join(PATIENCE_S)
        expect(slow[0] if slow else "", "backend", "draining")
    told = version.strip() + (", serves, TLS" if has_tls else ", without TLS, serves")
    if len(run) == 1 and os.geteuid() == 0:
        alone(program, folder / "root")
        told += ", with workers where there is nothing else"
    return told


def alone(program, root):
    """Serves with two workers in a folder with nothing but it: no /proc, no /etc, no /dev."""
    root.mkdir()
    shutil.copy(program, root / "weir")
    port = free_port()
    (root / "weir.yaml").write_text(f"""
workers: 2
listeners:
  - {{name: plain, listen: 127.0.0.1:{port}, routes: [{{respond: {{body: alone}}}}]}}
""")
    with running(["chroot", root, "/weir", "-c", "/weir.yaml"], root / "log", "2 workers") as weir:
        expect(ask(port), "alone", "serving")
        weir.send_signal(signal.SIGTERM)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    failed = 0
    for program in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            try:
                done = trial(program, Path(folder), backend.server_port)
                size = program.stat().st_size
                print(f"{program}: {done}, reloads, drains; {size} bytes", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"{program}: FAILED: {error}", flush=True)
    print(f"{len(sys.argv) - 1 - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
