"""Comms: messages between widgets on a page and the objects here that they show.

Libraries use the package `comm`. Whoever imports it finds it connected with the frontend; a kernel
where nobody does pays nothing for it.
"""

import base64
import importlib
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .frontend import Frontend

_PACKAGE = "comm"


class Comms:
    """Both directions of comm messages."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        self._manager: Any = None
        self._looking = False
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        """Finds the package as others do, and connects it once it is loaded."""
        if name != _PACKAGE or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Connecting(spec.loader, self._connect)
        return spec

    def deliver(self, kind: str, body: str) -> None:
        """Hands a message from the page to those who listen for it."""
        message = json.loads(body)
        message["header"] = {"msg_type": kind}
        message["buffers"] = [memoryview(base64.b64decode(text)) for text in message["buffers"]]
        if self._manager is not None:
            getattr(self._manager, kind)(None, None, message)
        elif kind == "comm_open":
            # Nobody has registered a target.
            content = {"comm_id": message["content"].get("comm_id"), "data": {}}
            self._frontend.comm("comm_close", content, None, None)

    def open(self, target_name: str | None) -> dict[str, dict[str, str]]:
        """The comms that are open, by their ids."""
        comms = self._manager.comms if self._manager is not None else {}
        return {
            str(comm_id): {"target_name": str(comm.target_name)}
            for comm_id, comm in list(comms.items())
            if target_name is None or comm.target_name == target_name
        }

    def _connect(self, package: ModuleType) -> None:
        base = importlib.import_module(f"{_PACKAGE}.base_comm")
        frontend = self._frontend

        class FrontendComm(base.BaseComm):
            """A comm to the page."""

            def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
                content = {"comm_id": self.comm_id, "data": {} if data is None else data, **keys}
                frontend.comm(msg_type, content, metadata, buffers)

        manager = self._manager = base.CommManager()
        package.create_comm = FrontendComm
        package.get_comm_manager = lambda: manager


class _Connecting:
    """A loader that tells when its module is loaded."""

    def __init__(self, loader: Any, loaded: Any) -> None:
        self._loader = loader
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._loaded(module)
