"""A Hypha client that registers a service and calls it, or calls the service of another.

Usage: client.py [WORKSPACE]
       client.py call SERVICE METHOD ARGUMENT

Takes HYPHA_SERVER_URL and HYPHA_TOKEN from the environment; without HYPHA_TOKEN it is anonymous. Prints
the id of the service, or what the method returned, or ends with the server's reason.
"""

import asyncio
import logging
import os
import sys

logging.disable(logging.CRITICAL)

from hypha_rpc import connect_to_server  # noqa: E402


async def call(service, method, argument):
    config = {"server_url": os.environ["HYPHA_SERVER_URL"], "token": os.environ.get("HYPHA_TOKEN")}
    async with connect_to_server(config) as server:
        print(await (await server.get_service(service))[method](argument))


async def main():
    config = {"server_url": os.environ["HYPHA_SERVER_URL"], "token": os.environ.get("HYPHA_TOKEN")}
    if len(sys.argv) > 1:
        config["workspace"] = sys.argv[1]
    async with connect_to_server(config) as server:
        service = await server.register_service(
            {"id": "echo", "type": "echo", "config": {"visibility": "public"}, "echo": lambda x: x}
        )
        assert await (await server.get_service(service.id)).echo("hello") == "hello"
        print(service.id)


try:
    asyncio.run(call(*sys.argv[2:]) if sys.argv[1:2] == ["call"] else main())
except Exception as error:
    sys.exit(str(error).strip().splitlines()[-1])
