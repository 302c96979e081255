"""Both ends of a WebSocket: `server` tells its port and how each connection ended, `client URL`
says what it has checked. Neither knows of anything between them."""

import asyncio
import os
import sys

import websockets

LARGE = 1 << 20


async def serve():
    async def echo(socket):
        try:
            async for message in socket:
                if message == "leave":
                    await socket.close(4001, "the server leaves")
                elif message == "ping":
                    await asyncio.wait_for(await socket.ping(b"from the server"), 20)
                    await socket.send("ponged")
                else:
                    await socket.send(message)
        except websockets.ConnectionClosed:
            pass
        await socket.wait_closed()
        print("closed", socket.close_code, socket.close_reason, flush=True)

    server = await websockets.serve(echo, "127.0.0.1", 0, max_size=None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()


async def echoes(socket, message):
    await socket.send(message)
    answer = await asyncio.wait_for(socket.recv(), 20)
    assert answer == message, "the echo is another message"


async def talk(url):
    socket = await websockets.connect(url, max_size=None)
    await echoes(socket, "text, and \u00fcml\u00e4ut")
    await echoes(socket, "")
    await echoes(socket, bytes(range(256)))
    await echoes(socket, os.urandom(LARGE))
    await echoes(socket, "x" * LARGE)
    await asyncio.wait_for(await socket.ping(b"from the client"), 20)
    await socket.send("ping")
    assert await asyncio.wait_for(socket.recv(), 20) == "ponged"
    # In pieces, and several under way at once.
    await socket.send(["one ", "message ", "in parts"])
    for n in range(100):
        await socket.send(str(n))
    assert await socket.recv() == "one message in parts"
    for n in range(100):
        assert await asyncio.wait_for(socket.recv(), 20) == str(n)
    await asyncio.wait_for(socket.close(4000, "the client leaves"), 20)
    assert socket.close_code == 4000, socket.close_code

    socket = await websockets.connect(url)
    await socket.send("leave")
    try:
        await asyncio.wait_for(socket.recv(), 20)
        raise AssertionError("a message after the end")
    except websockets.ConnectionClosed:
        pass
    assert socket.close_code == 4001, socket.close_code
    assert socket.close_reason == "the server leaves", socket.close_reason
    print("all is well")


if sys.argv[1] == "server":
    asyncio.run(serve())
else:
    asyncio.run(talk(sys.argv[2]))
