"""The official client as the other side of tests.

Usage: peer.py [WORKSPACE]

Connects to HYPHA_SERVER_URL with HYPHA_TOKEN, prints its address, and then runs what comes on stdin: each
line is a JSON text with the body of an async function, which sees `server` and the names that earlier ones
left in `state`. Prints {"ok": value} or {"error": text} for each.
"""

import asyncio
import json
import logging
import os
import sys
import textwrap
import time
from types import SimpleNamespace

logging.disable(logging.CRITICAL)

from hypha_rpc import connect_to_server  # noqa: E402


async def run(body, names):
    source = "async def body():\n" + textwrap.indent(textwrap.dedent(body), "  ")
    exec(source, names)
    return await names["body"]()


async def main():
    config = {"server_url": os.environ["HYPHA_SERVER_URL"], "token": os.environ.get("HYPHA_TOKEN") or None}
    if len(sys.argv) > 1:
        config["workspace"] = sys.argv[1]
    server = await connect_to_server(config)
    names = dict(server=server, state=SimpleNamespace(), asyncio=asyncio, time=time)
    print(json.dumps({"ok": f"{server.config.workspace}/{server.config.client_id}"}), flush=True)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        try:
            answer = {"ok": await run(json.loads(line), names)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=repr), flush=True)


asyncio.run(main())
