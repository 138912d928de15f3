"""An MCP server with a few tools, made with the official SDK.

Usage: server.py TOKEN

Prints its port, and takes only requests that bring the token.
"""

import socket
import sys

import uvicorn
from mcp.server.fastmcp import FastMCP
from starlette.responses import PlainTextResponse

server = FastMCP("tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(name="fail.always")
def fail() -> str:
    """Fails."""
    raise ValueError("as it must")


def guarded(app, token):
    async def guard(scope, receive, send):
        headers = dict(scope.get("headers", []))
        if scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {token}".encode():
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


if __name__ == "__main__":
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # Who connects from here on waits until it is served.
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    app = guarded(server.streamable_http_app(), sys.argv[1])
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
