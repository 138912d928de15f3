"""What is published on the Hypha server of the tests.

Usage: seed.py seed ENV_FILE
       seed.py publish ALIAS SCRIPT [--type TYPE] [--lang LANG] [--manifest JSON] [--draft] [--count N]
       seed.py edit ALIAS SCRIPT [--draft]
       seed.py delete ALIAS [--count N]

  seed     makes two workspaces, the collection hypha-agents/agents and what is in it, and writes the
           environment of the server's clients to ENV_FILE
  publish  adds an app, or N of them, named ALIAS-0, ALIAS-1 and so on
  edit     publishes another start-up script as a new version of an app
  delete   removes an app, or N of them

A draft is staged and never committed, so it is not published. Edits are staged and then committed, as
Agent Lab does it.

Environment: HYPHA_SERVER_URL and HYPHA_TOKEN, as ENV_FILE has them. `seed` takes HYPHA_ROOT_TOKEN and
JWT_SECRET of the server instead of a token.
"""

import argparse
import asyncio
import datetime
import json
import logging
import os

logging.disable(logging.WARNING)

from hypha_rpc import connect_to_server  # noqa: E402

WORKSPACE = "hypha-agents"
COLLECTION = f"{WORKSPACE}/agents"
USER_WORKSPACE = "user-ws"
TOKEN_SECONDS = 30 * 24 * 3600
AT_A_TIME = 8

SEEDED = {  # alias: type, members of the manifest
    "hello-app": ("deno-app", dict(name="Hello app", lang="typescript", startup_script="""
const started: number = Date.now();
(globalThis as any).greet = (name: string): string => `hello ${name}`;
console.log("hello-app started", typeof started);
""")),
    "ticker-app": ("deno-app", dict(name="Ticker", lang="typescript", startup_script="""
let ticks = 0;
setInterval(() => { ticks++; (globalThis as any).ticks = ticks; }, 100);
console.log("ticker-app armed");
""")),
    "service-app": ("deno-app", dict(name="Service app", lang="typescript", startup_script="""
// Registers a service of its own from inside the kernel.
const url = Deno.env.get("HYPHA_SERVER_URL"), ws = Deno.env.get("HYPHA_WORKSPACE"), token = Deno.env.get("HYPHA_TOKEN");
const m = await import(`${url}/assets/hypha-rpc-websocket.mjs`);
const server = await m.connectToServer({ server_url: url, token });
const svc = await server.registerService({ id: "from-deno-app", type: "echo", config: { visibility: "public" },
  echo: (x: unknown) => x, engine: () => "deno-app" });
console.log("registered", svc.id, "for", ws);
""")),
    "js-app": ("deno-app", dict(name="JS app", lang="javascript", startup_script='console.log("js-app up");')),
    "failing-app": ("deno-app", dict(name="Failing app", lang="typescript", startup_script='throw new Error("boom at start");')),
    "syntax-error-app": ("deno-app", dict(name="Bad syntax", lang="typescript", startup_script="const = ;")),
    "no-script-app": ("deno-app", dict(name="No script", lang="typescript")),
    # Without a language an app is Python.
    "python-app": ("deno-app", dict(name="Python app", startup_script='print("python-app up")')),
    "some-agent": ("agent", dict(name="An agent, not an app", lang="python", welcomeMessage="hi", startup_script="print(1)")),
}
DRAFT = ("draft-app", "deno-app", dict(name="Draft, never committed", lang="typescript", startup_script="console.log(1)"))


async def connect(**config):
    return await connect_to_server({"server_url": os.environ["HYPHA_SERVER_URL"], **config})


async def artifact_manager(token):
    server = await connect(token=token)
    return server, await server.get_service("public/artifact-manager")


async def create(manager, alias, kind, members, draft=False):
    manifest = {
        "description": members["name"],
        "version": "0.1.0",
        "license": "MIT",
        "type": kind,
        "created_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        **members,
    }
    await manager.create(
        parent_id=COLLECTION, alias=alias, type=kind, manifest=manifest, stage=draft, overwrite=True
    )


async def token_of(user, workspace, permission):
    """A token such as a log-in gives: its user is nobody special on the server. What the root token
    makes has the role of an administrator of the whole server."""
    from hypha.core import UserInfo
    from hypha.core.auth import create_scope, generate_auth_token

    scope = create_scope(f"{workspace}#{permission}", current_workspace=workspace)
    info = UserInfo(id=user, roles=[], is_anonymous=False, email=f"{user}@example.org", scope=scope)
    return await generate_auth_token(info, TOKEN_SECONDS)


async def seed(env_file):
    root = await connect(token=os.environ["HYPHA_ROOT_TOKEN"])
    for name, owner in ((WORKSPACE, "operator"), (USER_WORKSPACE, "user")):
        await root.create_workspace(
            {"name": name, "description": name, "persistent": True, "owners": [owner]}, overwrite=True
        )
    await root.disconnect()

    token = await token_of("operator", WORKSPACE, "a")
    server, manager = await artifact_manager(token)
    await manager.create(
        alias="agents",
        type="collection",
        overwrite=True,
        manifest={"name": "Hypha Agents", "description": "agents and deno-apps", "tags": [WORKSPACE]},
        config={"permissions": {"*": "r", "@": "rw+"}},
    )
    for alias, (kind, members) in SEEDED.items():
        await create(manager, alias, kind, members)
    await create(manager, *DRAFT, draft=True)
    await server.disconnect()

    environment = {
        "HYPHA_SERVER_URL": os.environ["HYPHA_SERVER_URL"],
        "HYPHA_WORKSPACE": WORKSPACE,
        "HYPHA_TOKEN": token,
        "HYPHA_USER_WORKSPACE": USER_WORKSPACE,
        "HYPHA_USER_TOKEN": await token_of("user", USER_WORKSPACE, "rw"),
    }
    # Complete or not there: who finds the file relies on all of it.
    partial = env_file + ".new"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in environment.items())
    os.replace(partial, env_file)


def aliases(options):
    if options.count is None:
        return [options.alias]
    return [f"{options.alias}-{i}" for i in range(options.count)]


async def for_each(names, action):
    slots = asyncio.Semaphore(AT_A_TIME)

    async def one(name):
        async with slots:
            await action(name)

    await asyncio.gather(*map(one, names))


async def change(options):
    server, manager = await artifact_manager(os.environ["HYPHA_TOKEN"])

    async def publish(alias):
        members = dict(name=alias, lang=options.lang, startup_script=options.script)
        members.update(json.loads(options.manifest))
        await create(manager, alias, options.type, members, draft=options.draft)

    async def edit(alias):
        artifact = await manager.read(f"{WORKSPACE}/{alias}", silent=True)
        manifest = {**artifact.manifest, "startup_script": options.script}
        await manager.edit(artifact.id, manifest=manifest, version="new", stage=True)
        if not options.draft:
            await manager.commit(artifact.id)

    async def delete(alias):
        await manager.delete(f"{WORKSPACE}/{alias}")

    await for_each(aliases(options), locals()[options.command])
    await server.disconnect()


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("Usage: "))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("seed").add_argument("env_file")
    publish, edit, delete = map(commands.add_parser, ("publish", "edit", "delete"))
    for command in (publish, edit, delete):
        command.add_argument("alias")
        command.set_defaults(count=None)
    for command in (publish, edit):
        command.add_argument("script")
        command.add_argument("--draft", action="store_true")
    for command in (publish, delete):
        command.add_argument("--count", type=int)
    publish.add_argument("--type", default="deno-app")
    publish.add_argument("--lang", default="typescript")
    publish.add_argument("--manifest", default="{}", help="JSON, laid over what it would be")
    return parser.parse_args()


def main():
    options = arguments()
    asyncio.run(seed(options.env_file) if options.command == "seed" else change(options))


main()
