"""What clients of TLS find: `checks.py CHECK PORT...` fails by an assertion, or says nothing."""

import contextlib
import hashlib
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import threading

from client import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    DATA,
    HANDSHAKE,
    PATIENCE_S,
    V1_0,
    V1_1,
    V1_2,
    V1_3,
    Client,
    connect,
    context,
    file,
    record,
    refused,
)

BULK_BYTES = 30 * 1024 * 1024
LONG_BYTES = 300_000
JUNK = record(DATA, os.urandom(500)) * 110
JUNKS = (
    b"x",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\njunk" * 9,
    JUNK,
    record(ALERT, b"\x02\x28"),
)
# More than a kernel keeps of what is sent.
LATE_BYTES = 8 * 1024 * 1024
BOTH = (V1_2, V1_3)


# Handshakes.


def versions(port, modern_port):
    for version in (V1_0, V1_1):
        got = refused(lambda: Client(port, of=context(version)))
        assert got == "TLSV1_ALERT_PROTOCOL_VERSION", (version, got)
    for version, word in ((V1_2, "TLSv1.2"), (V1_3, "TLSv1.3")):
        with Client(port, of=context(version)) as client:
            assert client.tls.version() == word
            assert client.get()[0] == 200
    got = refused(lambda: Client(modern_port, of=context(V1_2)))
    assert got == "TLSV1_ALERT_PROTOCOL_VERSION", got
    with Client(modern_port) as client:
        assert client.tls.version() == "TLSv1.3"


def suites(port, all_port):
    """The first listener has one suite of each version."""
    with Client(port, of=context(V1_3)) as client:
        assert client.tls.cipher()[0] == "TLS_AES_128_GCM_SHA256", client.tls.cipher()
    with Client(port, of=context(V1_2)) as client:
        assert client.tls.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305", client.tls.cipher()
    # The order is the server's.
    strong, short = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
    for ciphers in (f"{strong}:{short}", f"{short}:{strong}"):
        with Client(all_port, of=context(V1_2, ciphers)) as client:
            assert client.tls.cipher()[0] == strong, (ciphers, client.tls.cipher())
    for ciphers in ("ECDHE-ECDSA-AES128-GCM-SHA256", "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
        got = refused(lambda: Client(port, of=context(V1_2, ciphers)))
        assert got == "SSLV3_ALERT_HANDSHAKE_FAILURE", (ciphers, got)


def kinds_of_keys(port):
    """Of two certificates for a name, a client has the one that it can use."""
    ecdsa = {"site.example", "*.wild.example", "localhost", "127.0.0.1"}
    rsa = {"site.example", "localhost"}
    for ciphers, names in (
        ("ECDHE-ECDSA-AES128-GCM-SHA256", ecdsa),
        ("ECDHE-RSA-AES128-GCM-SHA256", rsa),
        ("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305", ecdsa),
    ):
        with Client(port, of=context(V1_2, ciphers)) as client:
            assert client.names() == names, (ciphers, client.names())
            assert client.get()[0] == 200
    for version, algorithms, kind in (
        ("-tls1_3", "rsa_pss_rsae_sha256", "RSA-PSS"),
        ("-tls1_3", "ecdsa_secp256r1_sha256", "ECDSA"),
        ("-tls1_3", "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", "ECDSA"),
        ("-tls1_2", "rsa_pkcs1_sha256", "RSA"),
        ("-tls1_2", "ecdsa_secp256r1_sha256", "ECDSA"),
    ):
        told = s_client(port, "site.example", version, "-sigalgs", algorithms)
        assert f"Peer signature type: {kind}\n" in told, (version, algorithms, told)
    for version, name, algorithms in (
        ("-tls1_3", "two.example", "ecdsa_secp256r1_sha256"),
        ("-tls1_2", "site.example", "ed25519"),
        ("-tls1_3", "site.example", "ed25519"),
        ("-tls1_2", "two.example", "rsa_pss_rsae_sha256"),
    ):
        told = s_client(port, name, version, "-sigalgs", algorithms)
        assert "alert handshake failure" in told, (version, algorithms, told)
    for version in ("-tls1_3", "-tls1_2"):
        told = s_client(port, "two.example", version)
        assert "Peer signature type: ed25519\n" in told, told
    for curve in ("X25519", "P-256"):
        told = s_client(port, "site.example", "-curves", curve)
        assert re.search(f"Server Temp Key: .*{curve[2:]}", told), told
    told = s_client(port, "site.example", "-curves", "P-521")
    assert "alert handshake failure" in told, told
    # A share that is not taken is asked for again.
    told = s_client(port, "site.example", "-curves", "P-384:P-256", "-tls1_3")
    assert "Verification: OK" in told, told


RETRY = "cf 21 ad 74"


def hello_retry():
    """A ClientHello whose share of a key the server does not take is said again: both of them go
    the same way, whoever decrypts it, and however it is cut. So does weir's own to a backend."""
    backend = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=particular_echo, args=(backend,), daemon=True).start()
    print(backend.getsockname()[1], flush=True)
    ports = [int(port) for port in sys.stdin.readline().split()]
    for port, own in zip(ports, ("ed25519", "ed25519", "ECDSA", "ECDSA")):
        for groups in ("X448:P-256", "secp521r1:prime256v1"):
            for size in (None, 1, 100):
                to = port if size is None else in_records(port, size)
                arguments = ("-tls1_3", "-msg", "-groups", groups, "-alpn", "x")
                client = Openssl(to, *arguments)
                try:
                    client.say("hello")
                    seen = client.wait("hello\n")
                finally:
                    client.close()
                assert RETRY in " ".join(seen.split()), seen
                assert seen.count(", ClientHello") == 2, seen
                assert f"Peer signature type: {own}\n" in seen, (port, groups, seen)


def particular_echo(listener):
    """Echoes over TLS; takes no group but one."""
    of = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of.load_cert_chain(file("site.pem"), file("site.key"))
    of.set_ecdh_curve("prime256v1")
    while True:
        raw = listener.accept()[0]
        threading.Thread(target=echo_over, args=(of, raw), daemon=True).start()


def echo_over(of, raw):
    try:
        with of.wrap_socket(raw, server_side=True) as tls:
            while part := tls.recv(65536):
                tls.sendall(part)
    except OSError:
        raw.close()


def in_records(port, size):
    """The port of what passes one connection on, its messages of the handshake in records of so
    many bytes each as long as they are not encrypted."""
    listener = socket.create_server(("127.0.0.1", 0))

    def up(client, server):
        kept = b""
        while part := client.recv(65536):
            kept += part
            while len(kept) >= 5 and len(kept) >= 5 + int.from_bytes(kept[3:5], "big"):
                whole = 5 + int.from_bytes(kept[3:5], "big")
                kind, payload = kept[0], kept[5:whole]
                pieces = [payload]
                if kind == HANDSHAKE:
                    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
                server.sendall(b"".join(record(kind, piece) for piece in pieces))
                kept = kept[whole:]

    def run():
        client, server = listener.accept()[0], connect(port)
        threading.Thread(target=up, args=(client, server), daemon=True).start()
        while part := server.recv(65536):
            client.sendall(part)

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def s_client(port, name, *arguments):
    """What openssl says of a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name]
    command += ["-CAfile", file("ca.pem"), *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def names(port, strict_port):
    """The certificates of `site` and `two`."""
    wild = "*.wild.example"
    for name, of in (
        ("site.example", wild),
        ("SITE.Example", wild),
        ("a.wild.example", wild),
        ("two.example", "two.example"),
        # Nobody's: the first.
        ("a.b.wild.example", wild),
        ("other.example", wild),
        (None, wild),
    ):
        for version in BOTH:
            with Client(port, name, of=context(version)) as client:
                assert of in client.names(), (name, client.names())
    for name in ("other.example", "a.b.wild.example", "wild.example", None):
        for version in BOTH:
            got = refused(lambda: Client(strict_port, name, of=context(version)))
            assert got == "TLSV1_UNRECOGNIZED_NAME", (name, got)
    # Some clients name the address that they connect to, which names nobody.
    for address in ("127.0.0.1", "::1"):
        for version in ("-tls1_2", "-tls1_3"):
            told = s_client(port, address, version)
            assert "Verification: OK" in told, (address, told)
            told = s_client(strict_port, address, version)
            assert "alert number 112" in told, (address, told)
    for name in ("site.example", "a.wild.example", "two.example"):
        with Client(strict_port, name) as client:
            assert client.get(host=name)[0] == 200


def protocols(port, tcp_port, own_port):
    for version in BOTH:
        for offered, chosen in (
            (["http/1.1"], "http/1.1"),
            (["h2", "http/1.1"], "http/1.1"),
            (["http/1.0", "http/1.1"], "http/1.1"),
            (["http/1.0"], "http/1.0"),
            (None, None),
        ):
            with Client(port, of=context(version, alpn=offered)) as client:
                assert client.tls.selected_alpn_protocol() == chosen, (offered, chosen)
                assert client.get()[0] == 200
        for offered in (["h2"], ["acme-tls/1", "h2c"], ["HTTP/1.1"]):
            got = refused(lambda: Client(port, of=context(version, alpn=offered)))
            assert "application protocol" in got, (offered, got)
        # What a TCP service speaks is not known.
        with Client(tcp_port, of=context(version, alpn=["redis"])) as client:
            assert client.tls.selected_alpn_protocol() is None
        # Unless that is said.
        for offered, chosen in (
            (["postgresql"], "postgresql"),
            (["h2", "x-own", "postgresql"], "postgresql"),
            (["x-own"], "x-own"),
            (None, None),
        ):
            with Client(own_port, of=context(version, alpn=offered)) as client:
                assert client.tls.selected_alpn_protocol() == chosen, (offered, chosen)
        for offered in (["http/1.1"], ["Postgresql", "x"]):
            got = refused(lambda: Client(own_port, of=context(version, alpn=offered)))
            assert "application protocol" in got, (offered, got)


def client_certificates(required_port, optional_port):
    for version in BOTH:
        for port in (required_port, optional_port):
            with Client(port, of=context(version, identity="client")) as client:
                assert client.get()[0] == 200
            for identity, alert in (
                ("client-revoked", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
                ("client-other", "TLSV1_ALERT_UNKNOWN_CA"),
            ):
                got = without_certificate(port, context(version, identity=identity))
                assert got == alert, (port, identity, version, got)
        got = without_certificate(required_port, context(version))
        of_version = {
            ssl.TLSVersion.TLSv1_2: "SSLV3_ALERT_HANDSHAKE_FAILURE",
            ssl.TLSVersion.TLSv1_3: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        }
        assert got == of_version[version], (version, got)
        with Client(optional_port, of=context(version)) as client:
            assert client.get()[0] == 200
    # A certificate that was shown once is shown again: what is revoked since must be found.
    for version in BOTH:
        of = context(version, identity="client")
        with Client(required_port, of=of) as client:
            client.get()
            session = client.tls.session
        with Client(required_port, of=of, session=session) as client:
            assert not client.tls.session_reused


def without_certificate(port, of):
    """The alert; in TLS 1.3 the server tells it after the client's part is done."""

    def ask():
        with Client(port, of=of) as client:
            client.run(lambda: client.tls.read(1))

    return refused(ask)


# Resumption.


def session_of(port, version, name="site.example"):
    """A session, and what it agreed to."""
    of = context(version)
    with Client(port, name, of=of) as client:
        # In TLS 1.3 the ticket comes behind the handshake.
        assert client.get(host=name)[0] == 200
        assert client.tls.session.has_ticket
        return client.tls.session, of


def is_resumed(port, session, of, name="site.example"):
    with Client(port, name, of=of, session=session) as client:
        assert client.get(host=name)[0] == 200
        return client.tls.session_reused


def resumption(port, times):
    for version in BOTH:
        session, of = session_of(port, version)
        for _ in range(int(times)):
            assert is_resumed(port, session, of), version


def resumption_over_events(port):
    """The sessions outlive what the test does to the server between two lines."""
    sessions = [session_of(port, version) for version in BOTH]
    for session, of in sessions:
        assert is_resumed(port, session, of)
    print("ready", flush=True)
    for _ in sys.stdin:
        for session, of in sessions:
            for _ in range(8):
                assert is_resumed(port, session, of)
        print("resumed", flush=True)


def foreign_tickets(port, other_port):
    for version in BOTH:
        session, of = session_of(port, version)
        for to, name in ((other_port, "site.example"), (port, "two.example"), (port, None)):
            host = name or "site.example"
            with Client(to, name, of=of, session=session) as client:
                assert client.get(host=host)[0] == 200
                assert not client.tls.session_reused, (version, to, name)
        session, of = session_of(port, version, "a.wild.example")
        assert not is_resumed(port, session, of, "b.wild.example"), version


# What openssl does by a command.


class Openssl:
    def __init__(self, port, *arguments):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
        command += ["-servername", "site.example", "-CAfile", file("ca.pem")]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.seen = b""

    def say(self, line):
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def wait(self, text):
        fd = self.child.stdout.fileno()
        while text.encode() not in self.seen:
            assert select.select([fd], [], [], 30)[0], self.seen
            part = os.read(fd, 65536)
            assert part, self.seen
            self.seen += part
        before, self.seen = self.seen.split(text.encode(), 1)
        return before.decode(errors="replace")

    def close(self):
        self.child.kill()
        self.child.wait()


def key_update(port):
    """Of both directions and of one, between lines that are echoed."""
    client = Openssl(port, "-tls1_3", "-quiet", "-no_ign_eof", "-verify_quiet")
    try:
        for number, command in enumerate("KkKKk"):
            client.say(f"line {number}")
            client.wait(f"line {number}\n")
            client.say(command)
            client.wait("KEYUPDATE\n")
        client.say("last")
        client.wait("last\n")
    finally:
        client.close()


def renegotiation(port):
    client = Openssl(port, "-tls1_2", "-quiet", "-no_ign_eof", "-verify_quiet")
    try:
        client.say("line")
        client.wait("line\n")
        client.say("R")
        client.wait("RENEGOTIATING\n")
        client.wait("no renegotiation")
    finally:
        client.close()


# Ends.


def silent_ends(port):
    """Clients that say nothing when they have what they want."""
    for version in BOTH:
        for closes in (False, True):
            with Client(port, of=context(version)) as client:
                client.get(fields="Connection: close\r\n" if closes else "")
                if closes:
                    assert client.rest() == (b"", "end")


def relay_ends(echo_port, last_port, first_port):
    """Backends that echo, that answer after the end, and that end first."""
    for version in BOTH:
        of = context(version)
        with Client(echo_port, of=of) as client:
            client.send(b"hello")
            client.expect(b"hello")
            client.finish()
            assert client.rest() == (b"", "end")
        with Client(last_port, of=of) as client:
            client.send(b"x" * 1000)
            client.finish()
            assert client.rest() == (b"1000 bytes", "end")
        with Client(first_port, of=of) as client:
            assert client.rest() == (b"bye", "end")
            for _ in range(100):
                client.send(b"y" * 1000)
            client.finish()
            assert client.raw.recv(1) == b""


def cut_up(port):
    """The client's end has no mark; the backend must not take it for one."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"half of it")
            client.expect(b"seen")
            client.cut()
            assert client.rest()[1] != "end"


def cut_down(port):
    """The backend resets within what it sends."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"go\n")
            got, end = client.rest()
            assert end != "end", (got, end)


def answers_by_close(port):
    for version in BOTH:
        for path, body in (("/whole", b"by close"), ("/closing", b"a length")):
            with Client(port, of=context(version)) as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                got, end = client.rest()
                assert got.startswith(b"HTTP/1.1 200"), got
                assert body in got and end == "end", (path, got, end)
        for path in ("/reset", "/short", "/short-chunked", "/short-reset"):
            with Client(port, of=context(version)) as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                got, end = client.rest()
                assert got.startswith(b"HTTP/1.1 200"), got
                assert end != "end", (path, got, end)
        for request, status in (
            (b"GET / HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /whole HTTP/1.0\r\n\r\n", b"200"),
        ):
            with Client(port, of=context(version)) as client:
                client.send(request)
                got, end = client.rest()
                assert got.startswith(b"HTTP/1.1 " + status), got
                assert end == "end", (request, got, end)


def junk_behind_the_end(http_port, tcp_port):
    """What comes behind a close_notify is no one's, and costs nobody an answer."""
    for version in BOTH:
        for port, asked in (
            (http_port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (tcp_port, b"go\n"),
        ):
            for junk in (b"x", b"GET / HTTP/1.1\r\n\r\n" * 99, JUNK):
                with Client(port, of=context(version)) as client:
                    client.send_last(asked, junk)
                    got, end = client.rest()
                    assert got.endswith(b"x" * LONG_BYTES) and end == "end", (port, len(got), end)


def late_junk(*ports):
    """The same where it comes when the answer has left weir and has not come yet."""
    for version in BOTH:
        for port, asked in zip(ports, (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"go\n")):
            raw = socket.socket()
            raw.settimeout(PATIENCE_S)
            # Little is on its way, so that much of it is in the kernel of weir.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            raw.connect(("127.0.0.1", port))
            with Client(port, of=context(version), raw=raw) as client:
                client.send_last(asked, b"")
                got = 0
                while got < LATE_BYTES - 1_500_000:
                    part = client.read()
                    assert isinstance(part, bytes), part
                    got += len(part)
                for _ in range(3):
                    client.raw.sendall(b"junk")
                    select.select([], [], [], 0.05)
                rest, end = client.rest()
                assert got + len(rest) >= LATE_BYTES and end == "end", (port, got, len(rest), end)


def junk_of_a_backend():
    """A backend marks its end and sends on: the answer is whole, the rest is no one's, and its
    connection is not used again."""
    answers = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na whole",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\na whole\r\n0\r\n\r\n",
        "empty": b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
        "closed": b"HTTP/1.1 200 OK\r\nA: b\r\n\r\na whole",
        "old": b"HTTP/1.0 200 OK\r\n\r\na whole",
    }
    listener = socket.create_server(("127.0.0.1", 0))
    seen = []
    arguments = (listener, answers, seen)
    threading.Thread(target=junk_backend, args=arguments, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    plain_port, tls_port, tcp_port = (int(port) for port in sys.stdin.readline().split())
    asked = 0
    for name in answers:
        body = b"" if name == "empty" else b"a whole"
        for junk in range(len(JUNKS)):
            get = f"GET /{name}/{junk} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            raw = connect(plain_port)
            with Client(tls_port, of=context(BOTH[junk % 2])) as client:
                for _ in range(2):
                    for send, read in ((raw.sendall, raw.recv), (client.send, client.read)):
                        send(get)
                        asked += 1
                        got = one_answer(read)
                        assert got[1] == body, (name, junk, got)
                client.finish()
                assert client.rest() == (b"", "end")
            end(raw)
            assert raw.recv(65536) == b"", (name, junk)
        # Whoever relays bytes marks the end that was marked.
        with Client(tcp_port) as client:
            client.send(f"GET /{name}/0 HTTP/1.1\r\n\r\n".encode())
            asked += 1
            assert client.rest() == (answers[name], "end"), name
    assert len(seen) == asked, (len(seen), asked)


# Of what goes both ways, the last part: a kernel keeps it.
LAST_BYTES = 400_000


def late_both_ways():
    """Both sides of a relay have marked their ends while much is on its way in both directions,
    and the backend sends on: each gets all of it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    port = int(sys.stdin.readline())
    served, go_on = [], threading.Event()
    arguments = (listener, served, go_on)
    backend = threading.Thread(target=late_backend, args=arguments, daemon=True)
    backend.start()
    raw = socket.socket()
    raw.settimeout(PATIENCE_S)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    raw.connect(("127.0.0.1", port))
    with Client(port, raw=raw) as client:
        client.send_last(b"x" * LATE_BYTES, b"")
        got = some_of(client.read, LATE_BYTES - LAST_BYTES)
        # Weir has both ends by then.
        select.select([], [], [], 0.3)
        rest, end = client.rest()
        assert (got + len(rest), end) == (LATE_BYTES, "end"), (got, len(rest), end)
        # It has closed, unless it waits for the backend.
        select.select([client.raw], [], [], 0.5)
        go_on.set()
        backend.join(PATIENCE_S)
    assert served == [LATE_BYTES], served


def some_of(read, count):
    got = 0
    while got < count:
        part = read()
        assert isinstance(part, bytes) and part, (part, got)
        got += len(part)
    return got


def late_backend(listener, served, go_on):
    of = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of.load_cert_chain(file("site.pem"), file("site.key"))
    raw = listener.accept()[0]
    raw.settimeout(PATIENCE_S)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = of.wrap_bio(into, out, server_side=True)

    def run(act):
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                raw.sendall(out.read())
                into.write(raw.recv(65536))

    try:
        run(tls.do_handshake)
        got = some_of(lambda: run(lambda: tls.read(65536)), LATE_BYTES - LAST_BYTES)
        tls.write(b"y" * LATE_BYTES)
        with contextlib.suppress(ssl.SSLWantReadError):
            # What is there is read before the mark is made.
            while part := tls.read(65536):
                got += len(part)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        raw.sendall(out.read())
        go_on.wait(PATIENCE_S)
        for _ in range(3):
            raw.sendall(b"junk")
            select.select([], [], [], 0.05)
        served.append(got + some_of(lambda: run(lambda: tls.read(65536)), LATE_BYTES - got))
    except (OSError, AssertionError) as error:
        served.append(error)
    raw.close()


def one_answer(read):
    """The head of an answer and its body, by what frames it."""
    got = bytearray()
    while b"\r\n\r\n" not in got:
        part = read(1)
        assert isinstance(part, bytes) and part, (part, bytes(got))
        got += part
    head = bytes(got).lower()
    got.clear()
    if b"\r\ntransfer-encoding: chunked" in head:
        body = bytearray()
        while True:
            size = bytearray()
            while not size.endswith(b"\r\n"):
                size += read(1)
            count = int(size, 16)
            chunk = bytearray()
            while len(chunk) < count + 2:
                chunk += read(count + 2 - len(chunk))
            body += chunk[:-2]
            if count == 0:
                return head, bytes(body)
    length = 0
    if b"\r\ncontent-length: " in head:
        length = int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
    while len(got) < length:
        got += read(length - len(got))
    return head, bytes(got)


def junk_backend(listener, answers, seen):
    """Answers what the path says, marks its end, and sends junk until the other side has gone."""
    of = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of.load_cert_chain(file("site.pem"), file("site.key"))
    while True:
        raw = listener.accept()[0]
        threading.Thread(target=junk_of, args=(of, raw, answers, seen), daemon=True).start()


def junk_of(of, raw, answers, seen):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = of.wrap_bio(into, out, server_side=True)

    def run(act):
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                raw.sendall(out.read())
                into.write(raw.recv(65536))

    try:
        run(tls.do_handshake)
        asked = run(lambda: tls.read(65536))
        seen.append(asked)
        _, name, junk = asked.split(b" ")[1].decode().split("/")
        tls.write(answers[name])
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        raw.sendall(out.read() + JUNKS[int(junk)])
        while raw.recv(65536):
            raw.sendall(JUNKS[int(junk)])
    except OSError:
        pass
    raw.close()


def cut_answers():
    """A backend of TLS cuts its answers at every byte: none of them is ever whole."""
    answers = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na whole",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\na whole\r\n0\r\n\r\n",
        "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
        "informed": b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        "empty": b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
        "closed": b"HTTP/1.1 200 OK\r\nA: b\r\n\r\na whole",
        "old": b"HTTP/1.0 200 OK\r\n\r\na whole",
    }
    by_close = ("closed", "old")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=cut_backend, args=(listener, answers), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    plain_port, tls_port = (int(port) for port in sys.stdin.readline().split())
    for name, answer in answers.items():
        for at in range(len(answer) + (name in by_close)):
            minor = at // 2 % 2
            asked = f"GET /{name}/{at} HTTP/1.{minor}\r\nHost: a\r\n"
            asked = f"{asked}Connection: close\r\n\r\n".encode()
            got, end = plain_answer(plain_port, asked)
            assert_cut(got, end, (name, at, minor, "plain"))
            with Client(tls_port, of=context(BOTH[at % 2])) as client:
                client.send(asked)
                got, end = client.rest()
            assert_cut(got, end, (name, at, minor, "TLS"))


def cut_backend(listener, answers):
    """Answers as much as the path says, and ends without a mark."""
    of = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of.load_cert_chain(file("site.pem"), file("site.key"))
    while True:
        raw = listener.accept()[0]
        try:
            with of.wrap_socket(raw, server_side=True, suppress_ragged_eofs=True) as tls:
                _, name, at = tls.recv(65536).split(b" ")[1].decode().split("/")
                part = answers[name][: int(at)]
                if part:
                    tls.sendall(part)
                os.close(tls.detach())
        except OSError:
            raw.close()


def plain_answer(port, asked):
    with connect(port) as raw:
        raw.sendall(asked)
        got = bytearray()
        try:
            while part := raw.recv(65536):
                got += part
            return bytes(got), "end"
        except ConnectionResetError:
            return bytes(got), "reset"


def assert_cut(got, end, what):
    """It is an error of weir's own, or its reader sees that it is not whole."""
    while got.startswith(b"HTTP/1.1 103 "):
        got = got.split(b"\r\n\r\n", 1)[1]
    if got.startswith(b"HTTP/1.1 502 "):
        return
    head, _, body = got.partition(b"\r\n\r\n")
    head = head.lower()
    if b"\r\ncontent-length: " in head:
        assert len(body) < int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]), (what, got)
    elif b"\r\ntransfer-encoding: chunked" in head:
        assert not body.endswith(b"\r\n\r\n") and not body.startswith(b"0\r\n"), (what, got)
    else:
        assert end != "end", (what, got, end)


def keep_alive(port):
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            for number in range(20):
                status, body = client.get(f"/{number}")
                assert status == 200 and body.startswith(f"GET /{number} ".encode()), body
            many = range(50)
            client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in many))
            for number in many:
                status, body = client.answer()
                assert status == 200 and body.startswith(f"GET /{number} ".encode()), body
            # Each in a record of its own, all of them in one segment, and each in many records.
            client.raw.sendall(
                b"".join(client.sealed(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n) for n in many)
            )
            for number in many:
                assert client.answer()[1].startswith(f"GET /{number} ".encode())
            for byte in b"GET /bytes HTTP/1.1\r\nHost: a\r\n\r\n":
                client.send(bytes([byte]))
            assert client.answer()[0] == 200
            client.finish()
            assert client.rest() == (b"", "end")


def ahead_of_bodies(port):
    """What comes with the end of a body is in records of its own, which are no other event."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n")
            client.send(b"Expect: 100-continue\r\n\r\n")
            client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
            get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
            parts = [b"he", b"llo" + get % 2, *(get % number for number in range(3, 9))]
            client.raw.sendall(b"".join(client.sealed(part) for part in parts))
            for path in ("one", *range(2, 9)):
                status, body = client.answer()
                assert status == 200 and f"/{path} ".encode() in body, (path, body)


# Much.


def bulk_bytes():
    block = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * 8
    return block * (BULK_BYTES // len(block))


def bulk_http(port):
    """Up and down, mirrored by the backend."""
    data = bulk_bytes()
    digest = hashlib.sha256(data).digest()
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"POST /mirror HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data))
            client.send(data)
            status, body = client.answer()
            assert status == 200 and len(body) == len(data), (status, len(body))
            assert hashlib.sha256(body).digest() == digest
            assert client.get("/")[0] == 200


def bulk_tcp(port):
    """Through an echo, with a client that reads nothing until it cannot write any more."""
    data = bulk_bytes()
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            sent, got = 0, bytearray()
            waits = b""
            client.raw.setblocking(False)
            while len(got) < len(data):
                if not waits and sent < len(data):
                    waits = client.sealed(data[sent : sent + 65536])
                    sent += 65536
                try:
                    waits = waits[client.raw.send(waits) :] if waits else waits
                    continue_writing = bool(waits) or sent < len(data)
                    if continue_writing:
                        continue
                except BlockingIOError:
                    pass
                writes = [client.raw] if waits else []
                readable, _, _ = select.select([client.raw], writes, [], 30)
                if readable:
                    client.fill()
                    got += read_available(client)
                else:
                    assert writes, "it stalls"
            assert bytes(got) == data
            client.raw.setblocking(True)
            client.finish()
            assert client.rest() == (b"", "end")


def read_available(client):
    got = bytearray()
    while True:
        try:
            got += client.tls.read(65536)
        except ssl.SSLWantReadError:
            return got


def slow_reader(port):
    """An answer that says it is the last, read late and slowly, comes whole and with its end."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got, count = bytearray(), 0
            while isinstance(part := client.read(16384), bytes):
                got += part
                count += 1
                if count % 512 == 0:
                    select.select([], [], [], 0.001)
            assert part == "end" and len(got) > BULK_BYTES, (part, len(got))


# Abuse.


def not_tls(port):
    raw = connect(port)
    raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    got = bytearray()
    while part := raw.recv(65536):
        got += part
    assert got.startswith(b"HTTP/1.1 400 ") and b"plain HTTP" in got, got
    for junk in (b"\x00" * 100, b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02" + b"\x00" * 60):
        raw = connect(port)
        raw.sendall(junk)
        end(raw)
        assert_closed(raw)
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            assert client.get()[0] == 200


def end(raw):
    """Ends this direction, unless the other side has closed."""
    try:
        raw.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def assert_closed(raw):
    """Whatever comes, the end does."""
    try:
        while raw.recv(65536):
            pass
    except ConnectionResetError:
        pass


def in_pieces(port):
    """Handshakes and requests of single bytes, and a ClientHello in records of few bytes."""
    for version in BOTH:
        with Client(port, of=context(version), pace=1) as client:
            assert client.get()[0] == 200
        for size in (1, 5, 100):
            with Client(port, of=context(version), shakes=False) as client:
                try:
                    client.tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                hello = client.out.read()[5:]
                for at in range(0, len(hello), size):
                    client.raw.sendall(record(HANDSHAKE, hello[at : at + size], b"\x03\x01"))
                client.run(client.tls.do_handshake)
                assert client.get()[0] == 200


def broken_records(port):
    """Each is told by an alert, and closed."""
    for version in BOTH:
        for what, data, alert in (
            ("garbage", record(DATA, os.urandom(100)), "SSLV3_ALERT_BAD_RECORD_MAC"),
            ("empty", record(DATA, b""), "SSLV3_ALERT_BAD_RECORD_MAC"),
            ("too short", record(DATA, b"12345"), "SSLV3_ALERT_BAD_RECORD_MAC"),
            ("too long", record(DATA, b"x" * 18500), "TLSV1_ALERT_DECODE_ERROR"),
            ("unknown type", record(99, b"hello"), "TLSV1_ALERT_DECODE_ERROR"),
            ("unknown version", b"\x17\x09\x09\x00\x05hello", "TLSV1_ALERT_DECODE_ERROR"),
            ("plain alert", record(ALERT, b"\x01\x00"), "SSLV3_ALERT_BAD_RECORD_MAC"),
            ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "TLSV1_ALERT_DECODE_ERROR"),
        ):
            with Client(port, of=context(version)) as client:
                assert client.get()[0] == 200
                client.raw.sendall(data)
                got = refused(lambda: client.run(lambda: client.tls.read(1)))
                assert got == alert, (what, version, got)
                assert_closed(client.raw)


def flipped(port):
    """A bit of a good record, anywhere in it."""
    for version in BOTH:
        for at in (5, 20, -1):
            with Client(port, of=context(version)) as client:
                sealed = bytearray(client.sealed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
                sealed[at] ^= 1
                client.raw.sendall(sealed)
                got = refused(lambda: client.run(lambda: client.tls.read(1)))
                assert got == "SSLV3_ALERT_BAD_RECORD_MAC", got


def cut_handshakes(port):
    """The client leaves after any byte of what it says in its handshake, or says it wrongly."""
    for version in BOTH:
        with Client(port, of=context(version), shakes=False) as client:
            length = len(handshake_bytes(client))
        for at in range(length):
            with Client(port, of=context(version), shakes=False) as client:
                leave(client, at)
            with Client(port, of=context(version), shakes=False) as client:
                damage(client, at)
    with Client(port) as client:
        assert client.get()[0] == 200


def handshake_bytes(client):
    """What a client says until its handshake is done."""
    said = bytearray()
    while True:
        try:
            client.tls.do_handshake()
            return bytes(said + client.out.read())
        except ssl.SSLWantReadError:
            part = client.out.read()
            said += part
            client.raw.sendall(part)
            client.fill()


def flight(client):
    """What a client says next in its handshake, and whether that is done for it."""
    try:
        client.tls.do_handshake()
    except ssl.SSLWantReadError:
        return client.out.read(), False
    return client.out.read(), True


def in_header(said, at):
    """Whether a byte is one of those in front of a record."""
    while at >= 5:
        behind = 5 + int.from_bytes(said[3:5], "big")
        if at < behind:
            return False
        said, at = said[behind:], at - behind
    return True


def leave(client, at):
    first, _ = flight(client)
    client.raw.sendall(first[:at])
    if at >= len(first):
        client.fill()
        client.raw.sendall(flight(client)[0][: at - len(first)])
    end(client.raw)
    assert_closed(client.raw)


def damage(client, at):
    """Nothing is answered under a handshake that was not the one of the client."""
    said, is_done = flight(client)
    if at >= len(said):
        client.raw.sendall(said)
        at -= len(said)
        client.fill()
        said, is_done = flight(client)
    at = min(at, len(said) - 1)
    if in_header(said, at):
        # Not all of it is looked at: RFC 8446 section 5.1.
        return
    client.raw.sendall(said[:at] + bytes([said[at] ^ 0xFF]) + said[at + 1 :])
    if not is_done:
        got = refused(lambda: client.run(client.tls.do_handshake))
        assert client.tls.version() is None, (at, got)
        return
    client.raw.sendall(client.sealed(b"GET / HTTP/1.1\r\nHost: site.example\r\n\r\n"))
    got = refused(lambda: client.run(lambda: client.tls.read(1)))
    # In front of the Finished there is a change of ciphers, which has no meaning any more.
    known = "SSLV3_ALERT_BAD_RECORD_MAC" if at > 5 else "SSLV3_ALERT_UNEXPECTED_MESSAGE"
    assert got == known, (at, got)
    assert_closed(client.raw)


def crowd(port, count):
    """Handshakes of which each has begun and none goes on, while others are answered."""
    hello = Client(port, shakes=False)
    try:
        hello.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    said = hello.out.read()
    waiting = [hello.raw]
    for number in range(int(count)):
        raw = connect(port)
        # Nothing, a part of the first record, or all of it.
        raw.sendall((b"", said[: 3 + number % 200], said)[number % 3])
        waiting.append(raw)
    for version in BOTH:
        for _ in range(20):
            with Client(port, of=context(version)) as client:
                assert client.get()[0] == 200
    print("ready", flush=True)
    for raw in waiting:
        assert_closed(raw)


def debtors(path, is_encrypted, readers, heads, hellos):
    """Clients that cost what a client may: of answers nothing is read, heads and handshakes stop
    half-way. All are held until the test says otherwise."""
    held = []
    for number in range(readers + heads + hellos):
        # What its reader leaves the kernel keeps little of, as opposed to TCP's.
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE_S)
        raw.connect(path)
        held.append(raw)
        if number >= readers + heads:
            raw.sendall(record(HANDSHAKE, b"\x01\x00\x20\x00" + b"h" * 4000))
            continue
        ask = b"GET /file HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 2000
        ask += b"\r\n\r\n" if number < readers else b""
        if is_encrypted:
            held.append(Client(0, raw=raw))
            held[-1].send(ask)
        else:
            raw.sendall(ask)
    print("held", flush=True)
    sys.stdin.readline()


def bursts(port):
    """Records that come at once, of every size and many of them, and an answer to all of them."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            for size in (*range(1, 300_000, 9_999), 16384, 32768, 49152, 65536, 131072):
                data = os.urandom(size)
                client.raw.sendall(client.sealed(data))
                client.expect(data)
            for size, count in ((1, 1000), (100, 600), (5000, 30)):
                data = os.urandom(size)
                client.raw.sendall(b"".join(client.sealed(data) for _ in range(count)))
                client.expect(data * count)


def after_the_end(port):
    """What comes behind a close_notify is not read as anything."""
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            client.send(b"hello")
            client.expect(b"hello")
            client.finish()
            try:
                for _ in range(300):
                    client.raw.sendall(record(DATA, os.urandom(1000)))
            except OSError:
                pass
            got, end = client.rest()
            assert got == b"" and end != "cut", (got, end)


# Life.


def held_open(port):
    """A connection that is used before and after what the test does."""
    clients = [Client(port, of=context(version)) for version in BOTH]
    for client in clients:
        assert client.get()[0] == 200
    print("ready", flush=True)
    for line in sys.stdin:
        for client in clients:
            if line == "get\n":
                assert client.get()[0] == 200
            else:
                assert client.rest() == (b"", "end")
        print("done", flush=True)


def certificate(port, *wanted):
    for version in BOTH:
        with Client(port, of=context(version)) as client:
            assert client.names() == set(wanted), client.names()
            assert client.get()[0] == 200


def requests(port, count):
    """New connections while something happens; each is served."""
    for number in range(int(count)):
        with Client(port, of=context(BOTH[number % 2])) as client:
            assert client.get()[0] == 200
        if number == 5:
            print("ready", flush=True)


def main():
    name, *arguments = sys.argv[1:]
    check = globals()[name]
    check(*(int(it) if it.isdigit() else it for it in arguments))


if __name__ == "__main__":
    main()
