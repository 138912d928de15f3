"""Calls the methods of the service deno-app-engine with the official client, and compares what comes back.

Usage: service_calls.py SERVICE_ID GROUP

GROUP is `kernels`, `tenants`, `http`, `least` (of two engines, the second is to be chosen), `crowd`, `tokens` (which live
for some seconds only), `agents` (whose kernels have such tokens) or `administrator` (whose token the engine has). Takes HYPHA_SERVER_URL, HYPHA_TOKEN (of the engine's own workspace) and HYPHA_USER_TOKEN
(of another) from the environment. Ends with what is wrong, or prints what it has called.
"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request

from wire import connect, finished, refused, run

SERVICE, GROUP = sys.argv[1], sys.argv[2]


def has(value: dict, *names: str) -> None:
    assert set(names) <= set(value), f"{set(names) - set(value)} missing in {value}"


async def kernels() -> None:
    server = await connect(os.environ["HYPHA_TOKEN"])
    workspace = server.config.workspace
    engine = await server.get_service(SERVICE)
    health = await engine.health()
    assert health["status"] == "healthy", health
    has(health, "timestamp", "uptime", "memoryUsage")
    assert isinstance(await engine.getEngineLoad(), int)

    made = await engine.createKernel({"id": "k1", "mode": "worker-typescript", "sessionId": "ignored"})
    assert (made["id"], made["mode"], made["language"]) == (f"{workspace}:k1", "worker", "typescript"), made
    assert made["name"] == "Kernel-k1", made
    # Keywords, and the options in a member of their own, mean the same.
    second = await engine.createKernel(mode="worker-typescript", id="k2")
    third = await engine.createKernel({"options": {"mode": "worker-typescript", "id": "k3"}})
    bare = await engine.createKernel("worker-typescript")
    assert bare["language"] == "typescript", bare
    listed = {kernel["id"] for kernel in await engine.listKernels()}
    assert {made["id"], second["id"], third["id"], bare["id"]} <= listed, listed
    for kernel in (second, third, bare):
        assert await engine.destroyKernel({"kernelId": kernel["id"]}) == {"success": True}

    started = await engine.executeCode({"kernelId": "k1", "code": "let a = 40; console.log('hi'); a + 2"})
    events = await finished(engine, "k1", started["execution_id"])
    assert [event["type"] for event in events] == ["stream", "execute_result"], events
    assert events[0]["data"] == {"name": "stdout", "text": "hi\n"}, events
    assert events[1]["data"]["data"]["text/plain"] == "42", events
    again = await engine.executeCode({"kernel_id": "k1", "code": "a"})
    assert (await finished(engine, "k1", again["execution_id"]))[0]["data"]["data"]["text/plain"] == "40"

    streamed = [event async for event in await engine.streamExecution({"kernelId": "k1", "code": "console.log(a); throw new Error('no')"})]
    assert streamed[0]["data"]["text"] == "40\n", streamed
    assert streamed[-1] == {"type": "complete", "status": "success"}, streamed
    assert "no" in str(streamed[1]), streamed

    info = await engine.getKernelInfo({"kernelId": "k1"})
    assert [entry["outputs"] for entry in info["history"]] == [2, 1, 2], info
    for method, message in [
        ("pingKernel", "Kernel activity timer reset"),
        ("interruptKernel", "Kernel execution interrupted"),
        ("restartKernel", "Kernel restarted successfully"),
    ]:
        done = await engine[method]({"kernelId": "k1"})
        assert (done["success"], done["message"]) == (True, message), done
        has(done, "timestamp")
    timer = await engine.getInactivityTimerStatus({"kernelId": "k1"})
    assert timer["isTimeoutEnabled"] and timer["inactivityTimeout"] == 600_000, timer
    assert timer["timeUntilShutdown"] <= 600_000 and timer["lastActivityTime"] > 1.7e12, timer
    done = await engine.setInactivityTimeout({"kernelId": "k1", "timeout": 90_000})
    assert done["timeout"] == 90_000, done
    assert (await engine.resetInactivityTimer({"kernelId": "k1"}))["kernelId"] == made["id"]
    status = await engine.getStatus()
    has(status, "systemStats", "kernelStats", "poolStats")
    assert status["kernelStats"]["namespaceCount"] == len(await engine.listKernels()), status

    # A long argument and a long result; a stream that is read slowly misses nothing.
    long = await engine.executeCode({"kernelId": "k1", "code": f"const s = '{'x' * 3_000_000}'; s.length"})
    assert (await finished(engine, "k1", long["execution_id"]))[0]["data"]["data"]["text/plain"] == "3000000"
    pieces = [event async for event in await engine.streamExecution({"kernelId": "k1", "code": "console.log('y'.repeat(3e6))"})]
    assert sum(len(piece["data"]["text"]) for piece in pieces if piece["type"] == "stream") == 3_000_001
    code = "for (let i = 0; i < 100000; i++) console.log(i)"
    lines, begun = "", time.monotonic()
    async for event in await engine.streamExecution({"kernelId": "k1", "code": code}):
        if event["type"] == "stream":
            lines += event["data"]["text"]
    assert lines == "".join(f"{i}\n" for i in range(100_000)), len(lines)
    print(f"100,000 lines in {time.monotonic() - begun:.1f} s")

    await refused(engine.executeCode({"code": "1"}), "kernelId is required")
    await refused(engine.executeCode({"kernelId": "k1"}), "No code provided")
    await refused(engine.executeCode({"kernelId": "none", "code": "1"}), "Kernel not found or access denied")
    await refused(engine.destroyKernel({"kernelId": "none"}), "Kernel not found or access denied")
    await refused(engine.destroyKernel({}), "Invalid kernel ID")
    await refused(engine.createKernel({"id": 7}), "Invalid parameters")
    await refused(engine.getExecutionResult({"kernelId": "k1", "executionId": "exec-1"}), "Execution not found")
    await engine.destroyKernel({"kernelId": "k1"})
    await server.disconnect()


async def tenants() -> None:
    """Workspaces see nothing of each other, and what a caller says of itself counts for nothing."""
    own, other, nobody = await connect(os.environ["HYPHA_TOKEN"]), await connect(os.environ["HYPHA_USER_TOKEN"]), await connect(None)
    mine, theirs = await own.get_service(SERVICE), await other.get_service(SERVICE)
    anonymous = await nobody.get_service(SERVICE)
    kernel = await mine.createKernel({"id": "mine", "mode": "worker-typescript"})
    assert not [it for it in await theirs.listKernels() if it["id"] == kernel["id"]]
    # Not the attested context, but an argument that looks like one.
    workspace = own.config.workspace
    assert not await theirs.listKernels({"ws": workspace, "from": f"{workspace}/x", "user": {"id": "root"}})
    for id in ("mine", kernel["id"]):
        await refused(theirs.getKernelInfo({"kernelId": id}), "Kernel not found or access denied")
        await refused(theirs.executeCode({"kernelId": id, "code": "1"}), "Kernel not found or access denied")
        await refused(theirs.destroyKernel({"kernelId": id}), "Kernel not found or access denied")
    made = await theirs.createKernel({"id": "mine", "mode": "worker-typescript"})
    assert made["id"] == f"{other.config.workspace}:mine", made
    await refused(theirs.setInactivityTimeout({"kernelId": "mine", "timeout": 1}), f"Permission denied: Only {workspace} workspace can")
    code = "Deno.env.get('HYPHA_WORKSPACE') + ' ' + Deno.env.get('HYPHA_SERVER_URL') + ' ' + typeof Deno.env.get('HYPHA_TOKEN')"

    async def environment(engine, id: str) -> str:
        started = await engine.executeCode({"kernelId": id, "code": code})
        return (await finished(engine, id, started["execution_id"]))[0]["data"]["data"]["text/plain"]

    assert other.config.workspace in await environment(theirs, "mine")
    named = await anonymous.createKernel({"id": "n", "mode": "worker-typescript"})
    assert named["id"] == f"{nobody.config.workspace}:n", named
    assert "undefined" in await environment(anonymous, "n")
    for engine, id in ((mine, "mine"), (theirs, "mine"), (anonymous, "n")):
        await engine.destroyKernel({"kernelId": id})
    for server in (own, other, nobody):
        await server.disconnect()


async def http() -> None:
    """Hypha's own HTTP face, as curl calls it."""

    def ask(method: str, body: dict | None):
        url = f"{os.environ['HYPHA_SERVER_URL']}/{SERVICE.replace('/', '/services/', 1)}/{method}"
        request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {os.environ['HYPHA_TOKEN']}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    made = ask("createKernel", {"mode": "worker-typescript", "id": "curl"})
    assert made["language"] == "typescript", made
    assert isinstance(ask("getEngineLoad", None), int)
    assert ask("pingKernel?kernelId=curl", None)["success"]
    assert ask("destroyKernel", {"kernelId": "curl"}) == {"success": True}
    try:
        ask("destroyKernel", {"kernelId": "curl"})
    except urllib.error.HTTPError as error:
        detail = error.read().decode()
        assert "Kernel not found or access denied" in detail, detail
    else:
        raise AssertionError("it is not refused")


async def least() -> None:
    """Several engines share a name: the one with the fewest kernels is chosen."""
    server = await connect(os.environ["HYPHA_TOKEN"])
    workspace = server.config.workspace
    first = await server.get_service(SERVICE)
    kernels = [await first.createKernel({"mode": "worker-typescript"}) for _ in range(2)]
    await refused(server.get_service(f"{workspace}/deno-app-engine"), "Multiple services")
    for _ in range(3):
        chosen = await server.get_service(f"{workspace}/deno-app-engine", {"mode": "select:min:getEngineLoad"})
        assert chosen.id != first.id and await chosen.getEngineLoad() == 0, chosen.id
    for kernel in kernels:
        await first.destroyKernel({"kernelId": kernel["id"]})
    await server.disconnect()


async def crowd() -> None:
    """A hundred callers at once, five slow readers of one long output, and one that leaves in the middle."""
    server = await connect(os.environ["HYPHA_TOKEN"])
    engine = await server.get_service(SERVICE)
    kernel = (await engine.createKernel({"mode": "worker-typescript"}))["id"]
    started = await asyncio.gather(*(engine.executeCode({"kernelId": kernel, "code": f"{i} * 2"}) for i in range(100)))
    for i, one in enumerate(started):
        events = await finished(engine, kernel, one["execution_id"])
        assert events[0]["data"]["data"]["text/plain"] == str(2 * i), events

    leaver = await connect(os.environ["HYPHA_TOKEN"])
    theirs = await leaver.get_service(SERVICE)
    endless = await theirs.streamExecution({"kernelId": kernel, "code": "for (let i = 0; i < 20; i++) { console.log(i); await new Promise(r => setTimeout(r, 50)) }"})
    await endless.__anext__()
    await leaver.disconnect()

    async def read_slowly() -> str:
        reader = await connect(os.environ["HYPHA_TOKEN"])
        engine = await reader.get_service(SERVICE)
        own = (await engine.createKernel({"mode": "worker-typescript"}))["id"]
        text = ""
        stream = await engine.streamExecution({"kernelId": own, "code": "for (let i = 0; i < 20000; i++) console.log(i)"})
        async for event in stream:
            if event["type"] == "stream":
                text += event["data"]["text"]
                await asyncio.sleep(0.01)
        await engine.destroyKernel({"kernelId": own})
        await reader.disconnect()
        return text

    expected = "".join(f"{i}\n" for i in range(20_000))
    assert all(text == expected for text in await asyncio.gather(*(read_slowly() for _ in range(5))))
    again = await engine.executeCode({"kernelId": kernel, "code": "'still there'"})
    assert "still there" in str(await finished(engine, kernel, again["execution_id"]))
    await engine.destroyKernel({"kernelId": kernel})
    await server.disconnect()


TOKEN = {"worker-typescript": "Deno.env.get('HYPHA_TOKEN')", "worker-python": "import os; os.environ['HYPHA_TOKEN']"}
RENEWED = {
    "worker-typescript": """const held = Deno.env.get('HYPHA_TOKEN');
        while (Deno.env.get('HYPHA_TOKEN') === held) await new Promise((done) => setTimeout(done, 20));
        const { HYPHA_TOKEN } = Deno.env.toObject(); HYPHA_TOKEN === ENVIRONS.HYPHA_TOKEN && HYPHA_TOKEN""",
    "worker-python": """import asyncio, os
held = os.environ["HYPHA_TOKEN"]
while os.environ["HYPHA_TOKEN"] == held:
    await asyncio.sleep(0.02)
os.environ["HYPHA_TOKEN"]""",
}


async def value(engine, kernel: str, code: str) -> str:
    """The text that a cell comes to."""
    started = await engine.executeCode({"kernelId": kernel, "code": code})
    events = await finished(engine, kernel, started["execution_id"])
    assert events and events[-1]["type"] == "execute_result", events
    return events[-1]["data"]["data"]["text/plain"].strip("'\"")


async def serves(token: str, workspace: str) -> None:
    """A token registers services in its workspace, and makes no other tokens."""
    server = await connect(token)
    assert server.config.workspace == workspace, server.config.workspace
    service = await server.register_service({"id": "own", "config": {"visibility": "public"}, "echo": lambda x: x})
    assert await (await server.get_service(service.id)).echo("hello") == "hello"
    await refused(server.generate_token(), "Only admin")
    await server.disconnect()


async def tokens() -> None:
    """Kernels have tokens of their caller's, which are renewed while they live; what a caller gives stays."""
    server = await connect(os.environ["HYPHA_TOKEN"])
    workspace = server.config.workspace
    engine = await server.get_service(SERVICE)

    async def of(mode: str) -> None:
        kernel = (await engine.createKernel({"mode": mode}))["id"]
        first = await value(engine, kernel, TOKEN[mode])
        assert first.startswith("eyJ") and first != os.environ["HYPHA_TOKEN"]
        await serves(first, workspace)
        second = await value(engine, kernel, RENEWED[mode])
        assert second.startswith("eyJ") and second != first, second
        await serves(second, workspace)
        assert (await engine.restartKernel({"kernelId": kernel}))["success"]
        third = await value(engine, kernel, TOKEN[mode])
        assert third not in (first, second)
        await serves(third, workspace)
        assert "eyJ" not in str(await engine.getKernelInfo({"kernelId": kernel}))
        await engine.destroyKernel({"kernelId": kernel})

    async def own() -> None:
        env = {"HYPHA_TOKEN": "mine", "HYPHA_SERVER_URL": "http://mine.example"}
        kernel = (await engine.createKernel({"mode": "worker-typescript", "env": env}))["id"]
        code = "Deno.env.get('HYPHA_TOKEN') + ' ' + Deno.env.get('HYPHA_SERVER_URL') + ' ' + Deno.env.get('HYPHA_WORKSPACE')"
        expected = f"mine http://mine.example {workspace}"
        assert await value(engine, kernel, code) == expected
        renewed = await engine.createKernel({"mode": "worker-typescript"})
        await value(engine, renewed["id"], RENEWED["worker-typescript"])
        assert await value(engine, kernel, code) == expected, "a renewal has overwritten it"

    await asyncio.gather(of("worker-typescript"), of("worker-python"), own())
    await server.disconnect()


async def agents() -> None:
    """Kernels of agents have such tokens too, also those that come again; nothing shows or keeps them."""
    server = await connect(os.environ["HYPHA_TOKEN"])
    workspace = server.config.workspace
    engine = await server.get_service(SERVICE)
    read = TOKEN["worker-typescript"]

    async def kernel_of(agent: str) -> str:
        info = await engine.getAgentInfo({"agentId": agent})
        assert "eyJ" not in json.dumps(info) and "environment" not in info, info
        return info["kernelId"]

    await engine.createAgent({"id": "a", "kernelType": "TYPESCRIPT", "autoAttachKernel": True, "kernelEnvirons": {"X": "1"}})
    kernel = await kernel_of("a")
    first = await value(engine, kernel, read)
    await serves(first, workspace)
    second = await value(engine, kernel, RENEWED["worker-typescript"])
    assert second != first
    # It goes, as after its time-out, and comes again when it is needed.
    await engine.destroyKernel({"kernelId": kernel})
    await engine.attachKernelToAgent({"agentId": "a", "kernelType": "TYPESCRIPT"})
    again = await kernel_of("a")
    third = await value(engine, again, read)
    assert again != kernel and third not in (first, second)
    await serves(third, workspace)
    # What the agent was made with wins, from the next kernel on.
    await engine.updateAgent({"agentId": "a", "kernelEnvirons": {"HYPHA_TOKEN": "mine"}})
    await engine.destroyKernel({"kernelId": again})
    await engine.attachKernelToAgent({"agentId": "a", "kernelType": "TYPESCRIPT"})
    assert await value(engine, await kernel_of("a"), read) == "mine"
    await engine.updateAgent({"agentId": "a", "kernelEnvirons": {}})

    nobody = await connect(None)
    theirs = await nobody.get_service(SERVICE)
    await theirs.createAgent({"id": "n", "kernelType": "TYPESCRIPT", "autoAttachKernel": True})
    info = await theirs.getAgentInfo({"agentId": "n"})
    code = f"typeof {read} + Deno.env.get('HYPHA_WORKSPACE')"
    assert await value(theirs, info["kernelId"], code) == f"undefined{nobody.config.workspace}"
    await nobody.disconnect()
    await server.disconnect()


async def administrator() -> None:
    """An engine with the token of the server's administrator makes tokens for every caller's workspace."""
    server = await connect(os.environ["HYPHA_USER_TOKEN"])
    engine = await server.get_service(SERVICE)
    kernel = (await engine.createKernel({"mode": "worker-typescript"}))["id"]
    theirs = await connect(await value(engine, kernel, TOKEN["worker-typescript"]))
    assert theirs.config.workspace == server.config.workspace, theirs.config.workspace
    await theirs.disconnect()
    await server.disconnect()


groups = {
    "kernels": kernels,
    "tenants": tenants,
    "http": http,
    "least": least,
    "crowd": crowd,
    "tokens": tokens,
    "agents": agents,
    "administrator": administrator,
}
run(groups[GROUP]())
