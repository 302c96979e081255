"""A client of TLS of which every record can be held back, cut or forged.

Python's `ssl` makes and opens the records; what becomes of them on the way is up to the test.
"""

import os
import socket
import ssl

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "certificates")
PATIENCE_S = 30

V1_0, V1_1 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# Types of records.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23


def file(name):
    """The path of one of the certificates or keys of the tests."""
    return os.path.join(CERTIFICATES, name)


def context(version=None, ciphers=None, alpn=None, identity=None):
    """What a connection agrees to; `version` is the only one, if given."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(file("ca.pem"))
    made.check_hostname = False
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if version in (V1_0, V1_1):
        made.set_ciphers("ALL:@SECLEVEL=0")
    if ciphers is not None:
        made.set_ciphers(ciphers)
    if alpn is not None:
        made.set_alpn_protocols(alpn)
    if identity is not None:
        made.load_cert_chain(file(identity + ".pem"), file(identity + ".key"))
    return made


def connect(port):
    """A connection without TLS."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def record(kind, payload, version=b"\x03\x03"):
    return bytes([kind]) + version + len(payload).to_bytes(2, "big") + payload


class Client:
    """A connection over TLS, after its handshake unless `shakes` says otherwise."""

    def __init__(
        self, port, name="site.example", of=None, session=None, pace=None, shakes=True, raw=None
    ):
        self.raw = raw or connect(port)
        self.pace = pace
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (of or context()).wrap_bio(
            self.into, self.out, server_hostname=name, session=session
        )
        if shakes:
            self.run(self.tls.do_handshake)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def flush(self):
        """Sends the records that are made, in pieces if there is a pace."""
        data = self.out.read()
        pace = self.pace or max(len(data), 1)
        for at in range(0, len(data), pace):
            self.raw.sendall(data[at : at + pace])

    def fill(self):
        """Receives once."""
        data = self.raw.recv(65536)
        if data:
            self.into.write(data)
        else:
            self.into.write_eof()

    def run(self, act):
        """Does something of which the library says what it needs first."""
        while True:
            try:
                found = act()
                self.flush()
                return found
            except ssl.SSLWantReadError:
                self.flush()
                self.fill()
            except ssl.SSLError:
                # There may be an alert to be sent; the other side may not take it any more.
                try:
                    self.flush()
                except OSError:
                    pass
                raise

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[self.run(lambda: self.tls.write(view)) :]

    def sealed(self, data):
        """The records that would carry these bytes."""
        self.tls.write(data)
        return self.out.read()

    def read(self, count=65536):
        """Some bytes, or how the connection has ended: by its mark, without it, or by a reset."""
        try:
            return self.run(lambda: self.tls.read(count)) or "end"
        except ssl.SSLZeroReturnError:
            return "end"
        except ssl.SSLEOFError:
            return "cut"
        except ConnectionResetError:
            return "reset"

    def rest(self):
        """All that comes, and how it ends."""
        got = bytearray()
        while isinstance(part := self.read(), bytes):
            got += part
        return bytes(got), part

    def expect(self, data):
        got = bytearray()
        while len(got) < len(data):
            part = self.read(len(data) - len(got))
            assert isinstance(part, bytes), (part, bytes(got)[-100:])
            got += part
        assert got == data, (bytes(got)[:200], data[:200])

    def send_last(self, data, junk):
        """Sends bytes, the mark of the end and junk, all at once."""
        last = self.sealed(data)
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.raw.sendall(last + self.out.read() + junk)

    def finish(self):
        """Marks the end of this direction and goes on with the other."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def cut(self):
        """Ends this direction without its mark."""
        self.raw.shutdown(socket.SHUT_WR)

    def get(self, path="/", host="site.example", fields=""):
        """Sends a request; the answer, which has a length."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
        return self.answer()

    def answer(self):
        """The status and the body of an answer that has a length."""
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            part = self.read(1)
            assert isinstance(part, bytes), (part, bytes(head))
            head += part
        lines = head.decode().split("\r\n")
        lengths = [line.split(":")[1] for line in lines if line.lower().startswith("content-length:")]
        body = bytearray()
        while len(body) < int(lengths[0]):
            part = self.read(int(lengths[0]) - len(body))
            assert isinstance(part, bytes), (part, bytes(body)[-100:])
            body += part
        return int(lines[0].split(" ")[1]), bytes(body)

    def names(self):
        """The names in the certificate of the other side."""
        return {name for _, name in self.tls.getpeercert().get("subjectAltName", ())}


def refused(act):
    """The alert by which something is refused."""
    try:
        act()
    except ssl.SSLError as error:
        return error.reason or str(error)
    except ConnectionResetError:
        return "reset"
    raise AssertionError("it was not refused")
