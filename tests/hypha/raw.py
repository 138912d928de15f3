"""Sends the service deno-app-engine what no client sends, on sockets of its own, and looks after each whether the service
still answers another client, and whether the engine gives back the memory.

Usage: raw.py SERVICE_ID PID

PID is the engine's process.
"""

import asyncio
import io
import json
import os
import sys
import time
import uuid

import msgpack
import websockets
from wire import connect, run

SERVICE, PID = sys.argv[1], int(sys.argv[2])
ENGINE = SERVICE.split(":")[0]
METHOD = f"services.{SERVICE.split(':')[1]}."
PIECE = 256 << 10
MEGABYTE = 1 << 20
# Bytes that the engine may keep of all that.
KEPT = 64 * MEGABYTE


def resident() -> int:
    with open(f"/proc/{PID}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Raw:
    """A client of a name of its own, that knows frames and nothing else."""

    async def __aenter__(self):
        url = os.environ["HYPHA_SERVER_URL"].replace("http", "ws", 1) + "/ws"
        self.socket = await websockets.connect(url, max_size=None, max_queue=None)
        self.id = f"raw-{uuid.uuid4().hex[:8]}"
        await self.socket.send(json.dumps({"client_id": self.id, "workspace": None, "token": os.environ["HYPHA_USER_TOKEN"]}))
        self.info = json.loads(await self.socket.recv())
        assert self.info["type"] == "connection_info", self.info
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    def envelope(self, method: str, session: str | None = None, **more) -> bytes:
        main = {"type": "method", "from": f"{self.info['workspace']}/{self.id}", "to": ENGINE, "method": method}
        return msgpack.packb({**main, **({"session": session} if session else {}), **more})

    async def send(self, frame: bytes) -> None:
        await self.socket.send(frame)

    async def answer(self, session: str):
        """What a call is answered: resolved with a value, or rejected with a message."""
        while True:
            frame = await asyncio.wait_for(self.socket.recv(), 30)
            if isinstance(frame, str):
                continue
            parts = list(msgpack.Unpacker(io.BytesIO(frame), raw=False, strict_map_key=False, max_buffer_size=0))
            method = parts[0].get("method", "")
            # The official clients beat at once; this one is not kept waiting.
            if method in (f"{session}.resolve", f"{session}.reject"):
                value = (parts[1].get("args") or [None])[0] if len(parts) > 1 else None
                is_error = method.endswith(".reject")
                return is_error, value["_rvalue"] if is_error and isinstance(value, dict) else value

    async def call(self, method: str, *arguments, **main):
        session = uuid.uuid4().hex
        extra = {"args": list(arguments), "promise": "*", "t": 15}
        await self.send(self.envelope(method, session, **main) + msgpack.packb(extra))
        return await self.answer(session)


async def frames_that_are_no_messagepack(raw: Raw) -> None:
    for rest in (b"\xc1", b"garbage", b"\xff" * 1000, b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", os.urandom(10_000)):
        await raw.send(raw.envelope(METHOD + "health", uuid.uuid4().hex) + rest)
    # What the server itself cannot read ends at the server; it may cut the connection.
    await raw.send(b"\xc1 no frame at all")


async def frames_that_are_cut(raw: Raw) -> None:
    session = uuid.uuid4().hex
    extra = msgpack.packb({"args": [{"id": "x", "text": "y" * 100}], "promise": "*", "t": 15})
    for end in range(1, len(extra), 3):
        await raw.send(raw.envelope(METHOD + "createKernel", session) + extra[:end])
    is_error, message = await raw.answer(session)
    assert is_error and "cannot be read" in message, message


async def ten_thousand_levels(raw: Raw) -> None:
    for open_, levels in ((b"\x91", 10_000), (b"\x81\xa1k", 10_000), (b"\x91", 100_000)):
        session = uuid.uuid4().hex
        deep = b"\x81\xa4args\x91" + open_ * levels + b"\xc0"
        await raw.send(raw.envelope(METHOD + "health", session) + deep)
        is_error, message = await raw.answer(session)
        assert is_error and "cannot be read" in message, message


async def a_hundred_megabytes_in_pieces(raw: Raw) -> None:
    """The engine takes no message of that size, and says so to whoever sends it."""
    cache, piece = "services.built-in.message_cache.", b"x" * PIECE
    before, key, sent = resident(), uuid.uuid4().hex, 0
    refused = await raw.call(cache + "create", key, False)
    assert not refused[0], refused
    highest = 0
    while sent < 100 * MEGABYTE:
        is_error, message = await raw.call(cache + "set", key, sent // PIECE, piece, False)
        sent += PIECE
        highest = max(highest, resident() - before)
        if is_error:
            break
    assert is_error and "at most" in message, f"{sent} bytes are taken: {message}"
    is_error, message = await raw.call(cache + "process", key, False)
    assert is_error, message
    print(f"refused after {sent / MEGABYTE:.0f} MB, at most {highest / MEGABYTE:.0f} MB more were in use")


async def pieces_that_are_no_message(raw: Raw) -> None:
    cache = "services.built-in.message_cache."
    for whole in (b"", b"\xc1", b"\x91" * 50_000, msgpack.packb({"type": "method", "method": "services.default.x"})):
        key = uuid.uuid4().hex
        await raw.call(cache + "create", key, False)
        await raw.call(cache + "set", key, 0, whole, False)
        await raw.call(cache + "process", key, False)
    # Pieces without an end, which are dropped with their sender.
    for number in range(50):
        await raw.call(cache + "create", f"open-{number}", False)
        await raw.call(cache + "set", f"open-{number}", 0, b"x" * 100_000, False)


async def forged_senders(raw: Raw) -> None:
    own = os.environ["HYPHA_WORKSPACE"]
    forged = {"from": f"{own}/root", "ws": own, "user": {"id": "root", "roles": ["admin"], "is_anonymous": False}}
    # The server writes the sender into the frame. Where it refuses to carry one, there is no answer.
    await raw.send(raw.envelope(METHOD + "notifyAppUpdates", "forged", **forged) + msgpack.packb({"args": [], "promise": "*", "t": 15, **forged}))
    is_error, message = await raw.answer("forged")
    assert is_error and "Permission denied" in message, message
    is_error, listed = await raw.call(METHOD + "listKernels", {"ws": own}, {"context": {"ws": own}})
    assert (is_error, listed) == (False, []), listed
    # In pieces, the message says whatever it likes; the sender is who sent the pieces.
    cache, key, session = "services.built-in.message_cache.", uuid.uuid4().hex, uuid.uuid4().hex
    main = {"type": "method", "to": ENGINE, "method": METHOD + "notifyAppUpdates", "session": session, **forged}
    whole = msgpack.packb(main) + msgpack.packb({"args": [], "promise": "*", "t": 15})
    await raw.call(cache + "create", key, False)
    await raw.call(cache + "set", key, 0, whole, False)
    await raw.send(raw.envelope(cache + "process", "process") + msgpack.packb({"args": [key, False], "promise": "*", "t": 15}))
    is_error, message = await raw.answer(session)
    assert is_error and "Permission denied" in message, message


async def methods_that_are_none(raw: Raw) -> None:
    for method in ("", ".", "services", "services.", METHOD, METHOD + "nothing", METHOD + "health.more", "services.default.register_service", "a" * 10_000, "__proto__.x", "x.resolve"):
        session = uuid.uuid4().hex
        await raw.send(raw.envelope(method, session) + msgpack.packb({"args": [], "promise": "*", "t": 15}))
        if method and method != "x.resolve":
            is_error, message = await raw.answer(session)
            assert is_error and message, (method, message)


async def callers_that_ask_and_go(raw: Raw) -> None:
    """A stream that nobody pulls, answers for nobody, and promises that name others."""
    _, made = await raw.call(METHOD + "createKernel", {"mode": "worker-typescript"})
    endless = {"kernelId": made["id"], "code": "for (;;) { console.log('x'.repeat(1000)); await new Promise((done) => setTimeout(done, 1)) }"}
    for _ in range(5):
        is_error, stream = await raw.call(METHOD + "streamExecution", endless)
        assert not is_error and stream["_rtype"] == "generator", stream
    victim = {"_rtype": "method", "_rtarget": f"{os.environ['HYPHA_WORKSPACE']}/victim", "_rmethod": "services.default.x"}
    for promise in ({"resolve": victim, "reject": victim, "interval": 0.000001}, [], 7, {"resolve": 7}):
        await raw.send(raw.envelope(METHOD + "health", uuid.uuid4().hex) + msgpack.packb({"args": [], "promise": promise}))
    is_error, ended = await raw.call(METHOD + "destroyKernel", {"kernelId": made["id"]})
    assert (is_error, ended) == (False, {"success": True}), ended


ATTACKS = [
    frames_that_are_no_messagepack, frames_that_are_cut, ten_thousand_levels, a_hundred_megabytes_in_pieces,
    pieces_that_are_no_message, forged_senders, methods_that_are_none, callers_that_ask_and_go,
]


async def main() -> None:
    server = await connect(os.environ["HYPHA_TOKEN"])
    engine = await server.get_service(SERVICE)
    kernel = await engine.createKernel({"mode": "worker-typescript"})
    before = resident()
    for attack in ATTACKS:
        begun = time.monotonic()
        async with Raw() as raw:
            try:
                await attack(raw)
            except Exception as error:
                raise AssertionError(f"{attack.__name__}: {type(error).__name__} {error}") from error
        assert (await asyncio.wait_for(engine.health(), 10))["status"] == "healthy", attack.__name__
        stream = await engine.streamExecution({"kernelId": kernel["id"], "code": "6 * 7"})
        assert "42" in str([item async for item in stream]), attack.__name__
        print(f"{attack.__name__}: {time.monotonic() - begun:.1f} s, {(resident() - before) / MEGABYTE:.0f} MB more")
    deadline = time.monotonic() + 30
    while (kept := resident() - before) > KEPT and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    assert kept <= KEPT, f"{kept / MEGABYTE:.0f} MB are not given back"
    await engine.destroyKernel({"kernelId": kernel["id"]})
    await server.disconnect()


run(main())
