"""Calls the service deno-app-engine as two known programs in Python do.

Usage: known_clients.py SERVICE_ID
"""

import os
import sys
import uuid

from shapes import Has, different
from wire import connect, finished, refused, run

SERVICE = sys.argv[1]


def is_so(value, shape) -> None:
    wrong = different(value, shape)
    assert wrong is None, wrong


async def aria_tools(engine) -> None:
    """A tool of an agent that runs Python, in a kernel that it names itself."""
    name = f"aria-{uuid.uuid4()}"
    kernel = await engine.createKernel(
        {"id": name, "mode": "worker", "inactivity_timeout": 600_000, "max_execution_time": 300_000}
    )
    assert (kernel["id"].endswith(f":{name}"), kernel["language"]) == (True, "python"), kernel
    started = await engine.executeCode({"kernelId": kernel["id"], "code": "print('a')\nsum(range(10))"})
    events = await finished(engine, kernel["id"], started["execution_id"])
    text = "".join(event["data"]["text"] for event in events if event["type"] == "stream")
    assert (text, events[-1]["data"]["data"]["text/plain"]) == ("a\n", "45"), events
    failed = await engine.executeCode({"kernelId": kernel["id"], "code": "{}['missing']"})
    (event,) = await finished(engine, kernel["id"], failed["execution_id"])
    assert event["type"] == "error" and "KeyError" in event["data"]["ename"], event
    assert (await engine.interruptKernel({"kernelId": kernel["id"]}))["success"]
    assert (await engine.destroyKernel({"kernelId": kernel["id"]}))["success"]


async def ri_scale_proxy(engine) -> None:
    """A proxy that makes an agent of a published manifest when it is asked for, and keeps the conversation itself."""
    settings = {"baseURL": "https://model.example/v1/", "model": "m", "temperature": 0.2}
    manifest = {
        "name": "Ann", "description": "An agent", "version": "0.1.0", "license": "MIT", "type": "agent", "lang": "typescript",
        "created_at": "2026-01-01T00:00:00.000Z", "welcomeMessage": "Hi", "modelConfig": settings, "startup_script": "1",
        "chat_template": {"metadata": {}, "cells": []}, "instructions": "Be brief.",
    }
    agent = {"agentId": "ri-scale"}
    assert await engine.agentExists(agent) == {"exists": False}
    made = await engine.createAgent({**manifest, "id": "ri-scale"})
    assert made["id"] == "ri-scale", made
    assert await engine.agentExists(agent) == {"exists": True}
    asked = [{"role": "user", "content": "2+2?"}]
    stream = await engine.chatWithAgentStateless({**agent, "messages": asked, "modelConfig": settings})
    chunks = [chunk async for chunk in stream]
    assert "error" not in {chunk["type"] for chunk in chunks}, chunks
    is_so(chunks[-1]["content"], Has("4"))
    await refused(engine.createAgent({**manifest, "id": "ri-scale"}), "already exists")
    await engine.destroyAgent(agent)


async def main() -> None:
    server = await connect(os.environ["HYPHA_TOKEN"])
    engine = await server.get_service(SERVICE)
    await aria_tools(engine)
    await ri_scale_proxy(engine)
    await server.disconnect()


run(main())
