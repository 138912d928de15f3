"""Starts an engine without a token in a terminal, and logs in where it says, as the page there does.

Usage: log_in.py BINARY FOLDER

Takes HYPHA_SERVER_URL and HYPHA_TOKEN, which the page would have of the user, from the environment. Ends with what is wrong.
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request

binary, folder = sys.argv[1:]
server, token = os.environ["HYPHA_SERVER_URL"], os.environ["HYPHA_TOKEN"]

terminal, inside = pty.openpty()
environment = {**os.environ, "NO_COLOR": "1"}
del environment["HYPHA_TOKEN"]
engine = subprocess.Popen(
    [binary, "hypha", "--data-dir", folder], stdin=inside, stdout=inside, stderr=inside, env=environment, close_fds=True
)
os.close(inside)
said = ""


def until(pattern: str) -> re.Match:
    global said
    deadline = time.monotonic() + 60
    while not (found := re.search(pattern, said)):
        left = deadline - time.monotonic()
        assert left > 0 and engine.poll() is None, f"no {pattern} in:\n{said}"
        if select.select([terminal], [], [], left)[0]:
            said += os.read(terminal, 65536).decode()
    return found


try:
    address = until(r"Log in with a browser: (\S+)\r?\n")[1]
    assert address.startswith(server + "/"), address
    with urllib.request.urlopen(address, timeout=30) as page:
        assert page.status == 200 and "html" in page.headers["content-type"], page.headers
    key = re.search(r"[?&]key=([^&]+)", address)[1]
    report = urllib.request.Request(
        f"{server}/public/services/hypha-login/report",
        json.dumps({"key": key, "token": token}).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(report, timeout=30).read()
    until(r"registered at Hypha as \S+:deno-app-engine")
    assert token not in said, "the token is shown"
finally:
    engine.send_signal(signal.SIGTERM)
    engine.wait(30)
