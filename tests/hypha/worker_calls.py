"""Lets a Hypha server install and run apps on an engine that is its worker, with the official client.

Usage: worker_calls.py ENGINE_URL GROUP

GROUP is `life`, `seeded`, `scale`, `killed`, `left`, `own` or `tenants`. Takes HYPHA_SERVER_URL, HYPHA_TOKEN (of the engine's
own workspace) and HYPHA_USER_TOKEN (of another) from the environment. Ends with what is wrong.
"""

import asyncio
import json
import os
import sys
import urllib.request

from wire import connect, refused, run

ENGINE, GROUP = sys.argv[1], sys.argv[2]
# Where an engine is no worker for a program, it would be waited for.
SECONDS = 30

GREETER = """
interface Name { first: string }
export async function greet(name: Name | string, options?: { loud?: boolean }): Promise<string> {
  const said = `hello ${typeof name === "string" ? name : name.first}`;
  return options?.loud ? said.toUpperCase() : said;
}
export const count = (list: number[]) => list.length;
export function fail() { throw new TypeError("not this way"); }
export const version = 1;
console.log("greeter", Deno.env.get("HYPHA_CLIENT_ID")?.length, Deno.env.get("COLOUR"));
console.error("to stderr");
"""
ADDER = """
__all__ = ["add", "later"]
import asyncio
def add(a, b=1): return a + b
async def later(n):
    await asyncio.sleep(0.01)
    return {"n": n}
def hidden(): return 1
print("adder is up")
"""


async def until(what: str, holds) -> None:
    for _ in range(600):
        if await holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within 30 s: {what}")


def manifest(lang: str | None = None, **more) -> dict:
    named = {"lang": lang} if lang else {}
    return {"name": "an app", "type": "deno-app", "version": "0.1.0", **named, **more}


def engine_apps() -> list:
    with urllib.request.urlopen(f"{ENGINE}/api/apps", timeout=30) as answer:
        apps = json.load(answer)
    return [app for app in apps if app["source"] == "session"]


class Controller:
    """Hypha's own interface to apps, for one user."""

    async def open(self, token: str):
        self.server = await connect(token)
        self.workspace = self.server.config.workspace
        self.apps = await self.server.get_service("public/server-apps")
        return self

    async def install(self, app: str, source: str | None, written: dict, **more):
        return await self.apps.install(
            source=source, manifest=written, app_id=app, overwrite=True, timeout=SECONDS, **more
        )

    async def worker(self):
        return await self.server.get_service("deno-app-worker")

    async def session(self, session):
        """The service `default` of a session."""
        return await self.server.get_service(f"{session['id']}:default")

    async def running(self, app: str) -> list:
        return [it for it in await self.apps.list_running() if it["app_id"] == app]


async def life() -> None:
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    workers = await own.apps.list_workers()
    assert any("deno-app-worker" in worker["id"] for worker in workers), workers
    said = []
    environment = {"COLOUR": "red", "HYPHA_CLIENT_ID": "not mine"}
    info = await own.install(
        "greeter", GREETER, manifest("typescript", env=environment), progress_callback=lambda it: said.append(it["message"])
    )
    # A program without a name gets that of its language; installing starts and stops the app once.
    assert info["entry_point"] == "main.ts", info
    assert any("Starting typescript" in message for message in said), said
    assert not engine_apps(), engine_apps()

    session = await own.apps.start("greeter", timeout=SECONDS)
    service = await own.session(session)
    assert await service.greet("you") == "hello you"
    assert await service.greet({"first": "me"}, {"loud": True}) == "HELLO ME"
    assert await service.count([1, 2, 3]) == 3
    assert "version" not in service, service
    await refused(service.fail(), "TypeError: not this way")

    logs = await own.apps.get_logs(session["id"])
    lines = [(item["type"], item["content"]) for item in logs["items"]]
    length = len(session["client_id"])
    assert ("stdout", f"greeter {length} red") in lines, lines
    assert ("stderr", "to stderr") in lines, lines
    assert logs["total"] == len(lines), logs
    page = await own.apps.get_logs(session["id"], type="stderr", offset=0, limit=1)
    assert [item["content"] for item in page["items"]] == ["to stderr"], page

    worker = await own.worker()
    done = await worker.execute(session["id"], "console.log('beside'); 6 * 7")
    assert done["status"] == "ok" and done["error"] is None, done
    assert [output["type"] for output in done["outputs"]] == ["stream", "execute_result"], done
    done = await worker.execute(session["id"], "throw new Error('inside')")
    assert done["status"] == "error" and "inside" in done["error"], done
    assert [it["id"] for it in await worker.list_sessions()] == [session["id"]]
    assert await worker.get_load() == 1

    assert [it["id"] for it in await own.running("greeter")] == [session["id"]]
    await own.apps.stop(session["id"])
    assert await own.running("greeter") == [] and engine_apps() == []
    # The controller asks more than once.
    await worker.stop(session["id"])
    await refused(worker.get_logs(session["id"]), "Session not found")
    await refused(worker.execute(session["id"], "1"), "Session not found")
    await refused(worker.execute(session["id"]), "missing field `script`")

    await own.install("adder", ADDER, manifest("python"))
    session = await own.apps.start("adder", timeout=SECONDS)
    service = await own.session(session)
    assert await service.add(2) == 3 and await service.add(2, b=5) == 7
    assert await service.later(4) == {"n": 4}
    assert "hidden" not in service, service
    await own.apps.stop(session["id"])

    # A file with a name is found by it, and tells its language; it finds the others where they are.
    files = [
        {"name": "main.js", "content": "export { one } from './lib/one.js';", "format": "text"},
        {"path": "lib/one.js", "content": "export const one = () => 1;", "format": "text"},
    ]
    await own.install("filed", None, manifest(entry_point="main.js"), files=files)
    session = await own.apps.start("filed", timeout=SECONDS)
    assert await (await own.session(session)).one() == 1
    await own.apps.stop(session["id"])

    await refused(own.install("none", None, manifest("typescript", entry_point="gone.ts")), "no file gone.ts")
    await refused(own.install("cobol", "1", manifest("cobol")), "`cobol` is not a language")
    wrong = "const a: number = 1;\nconst = 3;"
    await refused(own.install("wrong", wrong, manifest("typescript")), "main.ts:2:7: ")
    await refused(own.install("wrong-py", "def f(:\n  pass", manifest("python")), "main.py:1:")
    assert engine_apps() == []


async def seeded() -> None:
    """The apps of the collection, installed as they are."""
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    artifacts = await own.server.get_service("public/artifact-manager")
    published = await artifacts.list(parent_id="hypha-agents/agents", filters={"type": "deno-app"}, limit=100)
    seen = {}
    for artifact in published:
        alias, written = artifact["alias"], dict(artifact["manifest"])
        script = written.pop("startup_script", None)
        app = f"{alias}-installed"
        # This one registers under a name of its own, as a client of its own.
        more = {"wait_for_service": False} if alias == "service-app" else {}
        try:
            await own.install(app, script, written, **more)
        except Exception as error:
            seen[alias] = str(error)
            continue
        session = await own.apps.start(app, timeout=SECONDS)
        worker = await own.worker()

        async def logged():
            logs = await worker.get_logs(session["id"])
            return any(item["type"] == "stdout" for item in logs["items"])

        if alias != "ticker-app":
            await until(f"{alias} says something", logged)
        seen[alias] = "runs"
        await own.apps.stop(session["id"])
    assert len(seen) >= 8, seen
    runs = {alias for alias, outcome in seen.items() if outcome == "runs"}
    assert {"hello-app", "ticker-app", "js-app", "python-app"} <= runs, seen
    assert "boom at start" in seen["failing-app"], seen["failing-app"]
    assert "main.ts:1" in seen["syntax-error-app"], seen["syntax-error-app"]
    assert "no file source" in seen["no-script-app"], seen["no-script-app"]
    assert engine_apps() == [], engine_apps()


async def scale() -> None:
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    autoscaling = {"enabled": True, "min_instances": 1, "max_instances": 3}
    script = "const id = Deno.env.get('HYPHA_CLIENT_ID'); export const who = () => id;"
    await own.install("scaled", script, manifest("typescript", autoscaling=autoscaling))
    sessions = await asyncio.gather(*(own.apps.start("scaled", timeout=SECONDS) for _ in range(3)))
    services = [await own.session(session) for session in sessions]
    who = [await service.who() for service in services]
    assert sorted(who) == sorted(session["client_id"] for session in sessions), who
    assert len(engine_apps()) == 3 and len(await own.running("scaled")) == 3
    await asyncio.gather(*(own.apps.stop(session["id"]) for session in sessions))
    assert engine_apps() == []


async def killed() -> None:
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    await own.install("restless", "let n = 0; export const next = () => ++n;", manifest("typescript"))
    session = await own.apps.start("restless", timeout=SECONDS)
    service = await own.session(session)
    assert [await service.next() for _ in range(2)] == [1, 2]
    [app] = engine_apps()
    os.kill(app["pid"], 9)

    async def anew():
        try:
            return await service.next() == 1
        except Exception:
            return False

    # The engine starts it again; Hypha's session, and its service, are the same.
    await until("the app is there again", anew)
    assert [it["id"] for it in await own.running("restless")] == [session["id"]]
    await own.apps.stop(session["id"])
    # One that ends itself with an error again and again is not kept for ever, nor registered when it does not start.
    await refused(own.install("dies", "Deno.exit(3)", manifest("typescript")), "dies")
    assert engine_apps() == [], engine_apps()


async def left() -> None:
    """An app that runs when this ends."""
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    await own.install("left", "export const one = () => 1;", manifest("typescript"))
    await own.apps.start("left", timeout=SECONDS)
    assert len(engine_apps()) == 1


async def own() -> None:
    """An app that registers itself, with the name and the token that it was given."""
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    script = """
    const env = (name: string) => Deno.env.get(`HYPHA_${name}`)!;
    const { connectToServer } = await import(env("SERVER_URL") + "/assets/hypha-rpc-websocket.mjs");
    const server = await connectToServer({
      server_url: env("SERVER_URL"), workspace: env("WORKSPACE"), client_id: env("CLIENT_ID"), token: env("TOKEN"),
    });
    await server.registerService({ id: "default", twice: (n: number) => 2 * n });
    """
    permissions = {"net": True, "import": True}
    await own.install("own", script, manifest("typescript", permissions=permissions))
    session = await own.apps.start("own", timeout=SECONDS)
    assert await (await own.session(session)).twice(21) == 42
    await own.apps.stop(session["id"])
    assert engine_apps() == []


async def tenants() -> None:
    own = await Controller().open(os.environ["HYPHA_TOKEN"])
    await own.install("mine", "export const one = () => 1;", manifest("typescript"))
    session = await own.apps.start("mine", timeout=SECONDS)
    worker = await own.worker()
    # Another workspace has no worker, and neither sees this one nor reaches it by its name.
    other = await Controller().open(os.environ["HYPHA_USER_TOKEN"])
    await refused(other.install("theirs", "1", manifest("typescript")), "worker")
    await refused(other.server.get_service(worker.id), "ermission")
    engine = await other.server.get_service(worker.id.replace("deno-app-worker", "deno-app-engine"))
    assert session["id"] not in json.dumps(await engine.listApps()), await engine.listApps()
    await refused(engine.getAppInfo({"appId": session["id"]}), "not found")
    # What a caller says of a session counts for nothing.
    config = {
        "id": "user-ws/x", "app_id": "x", "workspace": "user-ws", "client_id": "x",
        "artifact_id": "user-ws/x", "manifest": {"startup_script": "1"},
    }
    await refused(worker.start(config), "Permission denied")
    await refused(worker.start({**config, "workspace": own.workspace}), "config.id")
    await refused(worker.stop("user-ws/x"), "Permission denied")
    await refused(worker.get_logs("user-ws/x"), "Permission denied")
    await refused(worker.execute("user-ws/x", "1"), "Permission denied")
    await refused(worker.start(), "missing field `config`")
    await own.apps.stop(session["id"])


groups = {"life": life, "seeded": seeded, "scale": scale, "killed": killed, "left": left, "own": own, "tenants": tenants}
run(asyncio.wait_for(groups[GROUP](), 240))
