"""Run a cell on an engine that is a service of a Hypha server.

Usage: pip install hypha-rpc
       HYPHA_SERVER_URL=… HYPHA_TOKEN=… python client.py [SERVICE]

SERVICE is `workspace/deno-app-engine`, or `deno-app-engine` for one in the token's own workspace.
"""

import asyncio
import os
import sys

from hypha_rpc import connect_to_server

CODE = """
for (let i = 1; i <= 3; i++) {
  console.log(`step ${i}`);
  await new Promise((done) => setTimeout(done, 300));
}
Deno.version.typescript
"""


async def main() -> None:
    server = await connect_to_server(
        {"server_url": os.environ["HYPHA_SERVER_URL"], "token": os.environ.get("HYPHA_TOKEN")}
    )
    name = sys.argv[1] if len(sys.argv) > 1 else "deno-app-engine"
    # Of several engines, the one that has least to do.
    engine = await server.get_service(name, {"mode": "select:min:getEngineLoad"})
    kernel = await engine.createKernel({"mode": "worker-typescript"})
    try:
        async for event in await engine.streamExecution({"kernelId": kernel["id"], "code": CODE}):
            if event["type"] == "stream":
                print(event["data"]["text"], end="")
            elif event["type"] == "execute_result":
                print("=>", event["data"]["data"]["text/plain"])
    finally:
        await engine.destroyKernel({"kernelId": kernel["id"]})
        await server.disconnect()


asyncio.run(main())
