#!/usr/bin/env python3
"""Check one call of each kind that clients make: does a server answer with the right status and shape?

    scripts/bench/conformance.py --base http://127.0.0.1:8000
    scripts/bench/conformance.py --binary PATH

Everything that is created is deleted. Fails if a call does, and prints which. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

sys.dont_write_bytecode = True

from client import PATIENCE, PATIENCE_OF_STARTS, Client  # noqa: E402
from server import Server  # noqa: E402

# No server: what asks it fails at once.
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Call:
    """A request, and what its answer must be."""

    method: str
    # `{name}` is a value that an earlier call has learnt.
    path: str
    body: object = None
    status: int = 200
    check: Callable[[object], bool] = lambda _answer: True
    # A name, and the member of the answer that it stands for from then on.
    learns: tuple[str, str] | None = None
    timeout: float = PATIENCE


def has(*members: str) -> Callable[[object], bool]:
    return lambda answer: all(member in answer for member in members)


def is_list(answer: object) -> bool:
    return isinstance(answer, list)


def finds_a(answer: object) -> bool:
    return answer["results"][0]["id"] == "a"


def kernel_calls(language: str, tag: str) -> list[Call]:
    kernel, code = "/api/kernels/{kernel}", {"code": "1+1"}
    return [
        Call("POST", "/api/kernels", {"id": f"api-{tag}", "lang": language}, learns=("kernel", "id"), timeout=PATIENCE_OF_STARTS),
        Call("GET", "/api/kernels", check=lambda kernels: any(kernel["id"].endswith(f"api-{tag}") for kernel in kernels)),
        Call("GET", f"{kernel}/info", check=has("id", "history")),
        Call("POST", f"{kernel}/execute", code),
        Call("POST", f"{kernel}/execute", {}, 400),
        Call("POST", f"{kernel}/execute/stream", code),
        Call("POST", f"{kernel}/execute/submit", code, learns=("session", "session_id")),
        Call("GET", f"{kernel}/execute/result/{{session}}", check=is_list),
        Call("GET", f"{kernel}/execute/stream/{{session}}"),
        Call("POST", f"{kernel}/ping", {}),
        Call("POST", f"{kernel}/restart", {}, timeout=PATIENCE_OF_STARTS),
        Call("POST", f"{kernel}/interrupt", {}),
        Call("DELETE", kernel),
        Call("GET", f"{kernel}/info", status=404),
        Call("DELETE", "/api/kernels/nope", status=404),
        Call("POST", "/api/kernels", status=400),
    ]


def vector_calls(tag: str) -> list[Call]:
    index, provider = "/api/vectordb/indices/{index}", f"/api/vectordb/providers/p-{tag}"
    config = {"host": NOWHERE, "model": "m", "dimension": 8}
    documents = [
        {"id": "a", "vector": [1.0, 0.0, 0.0], "metadata": {"x": 1}},
        {"id": "b", "vector": [0.0, 1.0, 0.0]},
    ]
    query = Call("POST", f"{index}/query", {"query": [1.0, 0.1, 0.0], "k": 1}, check=finds_a)
    return [
        Call("GET", "/api/vectordb/providers", check=has("providers")),
        Call("POST", "/api/vectordb/providers", {"name": f"p-{tag}", "type": "ollama", "config": config}),
        Call("GET", provider),
        Call("PUT", provider, {"type": "ollama", "config": {**config, "model": "m2"}}),
        Call("POST", "/api/vectordb/providers/test", {"provider": f"p-{tag}"}),
        Call("DELETE", provider),
        Call("GET", "/api/vectordb/stats"),
        Call("POST", "/api/vectordb/indices", {"id": f"api-{tag}", "namespace": "bench"}, learns=("index", "id")),
        Call("POST", f"{index}/documents", {"documents": documents}),
        query,
        Call("POST", f"{index}/query", {"query": [1.0], "k": 1}, 400),
        Call("GET", f"{index}/info"),
        Call("POST", f"{index}/ping", {}),
        Call("POST", f"{index}/timeout", {"timeout": 60_000}),
        Call("DELETE", f"{index}/documents", {"documentIds": ["b"]}),
        Call("POST", f"{index}/offload", {}),
        Call("GET", "/api/vectordb/offloaded"),
        # It opens the index again.
        query,
        Call("GET", "/api/vectordb/instances?namespace=bench", check=is_list),
        Call("DELETE", index),
        Call("POST", "/api/vectordb/generate-documents", {"count": 3}, check=lambda answer: answer["count"] == 3),
    ]


def agent_calls(tag: str) -> list[Call]:
    agent = "/api/agents/{agent}"
    named = {"id": f"api-{tag}", "name": "n", "instructions": "i", "kernelType": "TYPESCRIPT"}
    return [
        Call("POST", "/api/agents", named, learns=("agent", "id")),
        Call("GET", "/api/agents", check=is_list),
        Call("GET", "/api/agents/stats"),
        Call("GET", agent),
        Call("PUT", agent, {"name": "n2"}),
        Call("POST", f"{agent}/kernel", {"kernelType": "TYPESCRIPT"}, check=lambda answer: answer["hasKernel"]),
        Call("DELETE", f"{agent}/kernel"),
        Call("POST", f"{agent}/set-conversation", {"messages": [{"role": "user", "content": "hi"}]}),
        Call("GET", f"{agent}/conversation", check=lambda answer: answer["messageCount"] == 1),
        Call("DELETE", f"{agent}/conversation"),
        # Without a model this ends with an error event.
        Call("POST", f"{agent}/chat", {"message": "hi"}, timeout=30),
        Call("DELETE", agent),
    ]


def calls(language: str, tag: str) -> list[Call]:
    unknown = Call("GET", "/api/nothing", status=404)
    return [*kernel_calls(language, tag), *vector_calls(tag), *agent_calls(tag), unknown]


def failure(client: Client, call: Call, known: dict[str, str]) -> dict | None:
    """What is wrong with an answer; `known` takes what the call learns."""
    path = call.path
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    try:
        status, data = client.raw(call.method, path, call.body, call.timeout)
    except OSError as error:
        client.close()
        return {"error": str(error)[:160]}
    try:
        if status != call.status:
            raise ValueError("another status")
        # A stream of events is not one JSON value, and has nothing to check or to learn.
        if call.learns or call.check is not Call.check:
            answer = json.loads(data)
            if not call.check(answer):
                raise ValueError("another shape")
            if call.learns:
                name, member = call.learns
                known[name] = answer[member]
    except (ValueError, LookupError, TypeError) as error:
        return {"status": status, "error": str(error), "body": data[:160].decode("utf-8", "replace")}
    return None


def check(client: Client, language: str, tag: str) -> dict:
    all_calls = calls(language, tag)
    known: dict[str, str] = {}
    failed = []
    for call in all_calls:
        if found := failure(client, call, known):
            failed.append({"call": f"{call.method} {call.path} -> {call.status}", **found})
    return {"pass": len(all_calls) - len(failed), "total": len(all_calls), "failed": failed}


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    return name.strip(), value.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--base", help="address of a server that runs")
    which.add_argument("--binary", help="starts a server of this build")
    parser.add_argument("--header", type=header, action="append", default=[], metavar="NAME:VALUE", help="of each request, for tokens")
    parser.add_argument("--lang", default="typescript", help="language of the kernels (%(default)s)")
    options = parser.parse_args()
    tag = f"{time.time_ns() % 2**24:06x}"
    if options.base:
        found = check(Client(options.base, dict(options.header)), options.lang, tag)
    else:
        with Server(options.binary) as server:
            found = check(Client(server.base), options.lang, tag)
    for call in found["failed"]:
        print(json.dumps(call))
    print(f"{found['pass']} of {found['total']} calls pass.")
    if found["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
