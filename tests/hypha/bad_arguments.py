"""Calls every method of the service deno-app-engine with what it does not take: nothing, too much, and for each of its
parameters values of every wrong type. Whoever does that is told what is wrong, and the service lives on.

Usage: bad_arguments.py SERVICE_ID
"""

import asyncio
import os
import sys

from wire import connect, run

SERVICE = sys.argv[1]
CALLERS = 8
# What nobody but an operator may read, and what tells a caller nothing.
UNCLEAR = ("panic", "the method failed", "Internal", "timed out", "127.0.0.1", "/tmp/")


def deep(levels: int) -> list:
    return [] if levels == 0 else [deep(levels - 1)]


# A value of each JSON type by its name in a schema, and what JSON has no type for.
WRONG = {
    "integer": [7, -1, 2**63],
    "number": [1.5, float("nan")],
    "string": ["", "no such thing"],
    "array": [[], [1], deep(40)],
    "object": [{}, {"a": {"b": 1}}],
    "boolean": [False],
    "bytes": [b"\xff\x00"],
    "callback": [lambda *arguments: "called"],
}


def types_of(schema: dict) -> set[str]:
    """JSON types that a parameter takes; empty when its schema does not say."""
    found = schema.get("type", [])
    found = {found} if isinstance(found, str) else set(found)
    for part in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(part, []):
            found |= types_of(one)
    if "enum" in schema:
        found.add("string")
    # All numbers of JavaScript are one type.
    return found | ({"integer", "number"} if found & {"integer", "number"} else set())


# What undoes what a method makes: there is room for few agents, and kernels cost memory.
UNDO = {"createKernel": ("destroyKernel", "kernelId"), "createAgent": ("destroyAgent", "agentId"), "createVectorIndex": ("destroyVectorIndex", "indexId")}


async def outcome(engine, method: str, *arguments, **keywords) -> tuple[bool, str]:
    """Whether it succeeds, and what is said."""
    try:
        answer = await asyncio.wait_for(engine[method](*arguments, **keywords), 30)
        if hasattr(answer, "__aiter__"):
            items = [item async for item in answer]
            errors = [item for item in items if item.get("type") == "error"]
            return not errors, str(errors[0].get("error") if errors else items)
        if method in UNDO:
            undo, name = UNDO[method]
            await engine[undo]({name: answer["id"]})
        return True, str(answer)
    except Exception as error:
        return False, str(error).removeprefix("RemoteError:").strip()


async def main() -> None:
    server = await connect(os.environ["HYPHA_TOKEN"])
    engine = await server.get_service(SERVICE)
    schemas = (await server.get_service_info(SERVICE)).service_schema
    parameters = {name: it["function"]["parameters"].get("properties", {}) for name, it in schemas.items()}
    there = {
        "kernelId": (await engine.createKernel({"mode": "worker-typescript"}))["id"],
        "indexId": (await engine.createVectorIndex({}))["id"],
        "agentId": (await engine.createAgent({"kernelType": "TYPESCRIPT"}))["id"],
    }
    wrong, calls = [], 0

    async def tried(what: str, method: str, *arguments, must_fail: bool = False, **keywords) -> None:
        nonlocal calls
        calls += 1
        succeeds, said = await outcome(engine, method, *arguments, **keywords)
        if (not succeeds and not said) or (must_fail and succeeds) or any(word in said for word in UNCLEAR if not succeeds):
            wrong.append(f"{method} with {what}: {said[:300]!r}")

    async def swept(method: str) -> None:
        # What is there is given beside what is wrong. A kernel of its default language takes long to make.
        base = {name: id for name, id in there.items() if name in parameters[method]}
        if method == "createKernel":
            base["mode"] = "worker-typescript"
        await tried("nothing", method, *([] if method != "createKernel" else [base]))
        await tried("more than it takes", method, {"unknown": 1, **base}, "more", 7, other=[1])
        for name, schema in parameters[method].items():
            takes = types_of(schema)
            for kind, values in WRONG.items():
                for value in values:
                    if (method, name, kind) == ("createKernel", "mode", "string"):
                        continue
                    # Whether there is an agent of a name that is none has an answer; NaN is null in JSON.
                    must_fail = bool(takes) and kind not in takes and value == value and method != "agentExists"
                    await tried(f"{name}={value!r:.60}", method, {**base, name: value}, must_fail=must_fail)

    # These end what the others need.
    last = ["setInactivityTimeout", "setVectorIndexTimeout", "manualOffloadVectorIndex", "destroyKernel", "destroyAgent", "destroyVectorIndex"]
    queue = [method for method in schemas if method not in last]

    async def worker() -> None:
        while queue:
            await swept(queue.pop())

    await asyncio.gather(*(worker() for _ in range(CALLERS)))
    for method in last:
        await swept(method)
    assert not wrong, "\n" + "\n".join(wrong)

    assert (await engine.health())["status"] == "healthy"
    for kernel in await engine.listKernels():
        await engine.destroyKernel({"kernelId": kernel["id"]})
    made = await engine.createKernel("worker-typescript")
    stream = await engine.streamExecution({"kernelId": made["id"], "code": "6 * 7"})
    assert "42" in str([item async for item in stream])
    await engine.destroyKernel({"kernelId": made["id"]})
    print(f"{calls} calls")
    await server.disconnect()


run(main())
