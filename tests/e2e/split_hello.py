"""`PORT NAME BYTES PACE`: a TLS client whose ClientHello comes in records of at most so many bytes,
and byte by byte if PACE is `slowly`. Says what it was answered to `hello`."""

import socket
import ssl
import sys

HEAD_BYTES = 5


def records(message, bytes_max):
    pieces = (message[at : at + bytes_max] for at in range(0, len(message), bytes_max))
    return b"".join(b"\x16\x03\x01" + len(it).to_bytes(2, "big") + it for it in pieces)


def main(port, name, bytes_max, pace):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(came, goes, server_hostname=name)
    stream = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def drive(step):
        while True:
            try:
                result = step()
                stream.sendall(goes.read())
                return result
            except ssl.SSLWantReadError:
                stream.sendall(goes.read())
                came.write(stream.recv(65536))

    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = records(goes.read()[HEAD_BYTES:], int(bytes_max))
    step = 1 if pace == "slowly" else len(hello)
    for at in range(0, len(hello), step):
        stream.sendall(hello[at : at + step])
    drive(client.do_handshake)
    drive(lambda: client.write(b"hello\n"))
    print(drive(lambda: client.read(100)).decode().strip())
    stream.close()


main(*sys.argv[1:])
