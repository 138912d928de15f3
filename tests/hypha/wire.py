"""What the scripts of the tests share that call the service of an engine with the official client."""

import asyncio
import logging
import os
import sys

# The folder is the repository's.
sys.dont_write_bytecode = True
logging.disable(logging.CRITICAL)

from hypha_rpc import connect_to_server  # noqa: E402


async def connect(token: str | None):
    return await connect_to_server({"server_url": os.environ["HYPHA_SERVER_URL"], "token": token})


async def message_of(call) -> str:
    """What a call is refused with."""
    try:
        answer = await call
    except Exception as error:
        return str(error).removeprefix("RemoteError:").strip()
    raise AssertionError(f"it is not refused: {answer}")


async def refused(call, *words: str) -> None:
    message = await message_of(call)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


async def finished(engine, kernel: str, execution: str) -> list:
    """What a cell came to: clients ask until it has ended."""
    for _ in range(400):
        try:
            return await engine.getExecutionResult({"kernelId": kernel, "executionId": execution})
        except Exception as error:
            assert "Execution not found" in str(error), error
            await asyncio.sleep(0.02)
    raise AssertionError("the cell does not end")


def run(main) -> None:
    """Ends the process with what is wrong."""
    try:
        asyncio.run(main)
    except Exception as error:
        if os.environ.get("TRACE"):
            raise
        sys.exit(f"{type(error).__name__}: {str(error).strip()[-4000:]}")
