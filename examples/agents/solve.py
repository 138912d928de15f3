#!/usr/bin/env python3
"""Makes an agent, gives it a task, and prints what it does.

    examples/agents/solve.py "How many primes are there below 1000?"

ENGINE_URL names the server (http://127.0.0.1:8000), ENGINE_TOKEN is its token. The model is the server's, see
AGENT_MODEL_BASE_URL in docs/configuration.md. Needs Python 3.9 and nothing else.
"""

import json
import os
import sys
import urllib.error
import urllib.request

SERVER = os.environ.get("ENGINE_URL", "http://127.0.0.1:8000").rstrip("/")


def call(method, path, body=None):
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("ENGINE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, data, headers, method=method)
    try:
        return urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {json.load(error)['error']}")
    except urllib.error.URLError as error:
        sys.exit(f"{SERVER}: {error.reason}. Start the server, or name another with ENGINE_URL.")


def events(stream):
    for line in stream:
        if line.startswith(b"data: "):
            yield json.loads(line[len(b"data: ") :])


def main():
    task = " ".join(sys.argv[1:]) or sys.exit(__doc__)
    agent = json.load(
        call(
            "POST",
            "/api/agents",
            {
                "name": "Solver",
                "instructions": "You solve tasks by computing. Be brief.",
                "kernelType": "typescript",
                "autoAttachKernel": True,
            },
        )
    )
    path = f"/api/agents/{agent['id']}"
    try:
        for event in events(call("POST", f"{path}/chat", {"message": task})):
            kind = event["type"]
            if kind == "text_chunk":
                print(event["content"], end="", flush=True)
            elif kind == "function_call":
                print(f"\n--- runs\n{event['arguments'].get('code', event['arguments'])}")
            elif kind == "function_call_output":
                print(f"--- gives\n{event['content']}\n---")
            elif kind == "error":
                sys.exit(f"\n{event.get('content') or event['error']}")
        print()
    finally:
        call("DELETE", path)


if __name__ == "__main__":
    main()
