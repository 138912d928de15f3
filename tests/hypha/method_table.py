"""Calls every method of the service deno-app-engine with the official client, and compares what comes back with what the
service of the original answered.

Usage: method_table.py SERVICE_ID

Takes HYPHA_SERVER_URL, HYPHA_TOKEN (of the engine's own workspace) and HYPHA_USER_TOKEN (of another) from the
environment. The engine's model answers `<thoughts>…`, then code for a kernel, then `4`; its apps are those of seed.py.
Ends with all rows that are wrong, or prints how many there were.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shapes import AnyOf, Each, Has, Many, Mapping, Maybe, More, Time, different
from wire import connect, run

SERVICE = sys.argv[1]
OWN, USER = os.environ["HYPHA_WORKSPACE"], os.environ["HYPHA_USER_WORKSPACE"]
# As many as the original had.
METHODS = 61
# Seconds in which what takes its time is as it should be.
PATIENCE = 60


@dataclass
class Fails:
    """The message that a method is refused with, to the letter, unless it is a `Has`."""

    message: str


@dataclass
class Streams:
    """What a method yields, an item for each shape."""

    items: tuple


@dataclass
class Row:
    method: str
    # What is passed, or what makes it of the answers so far, by their methods.
    given: Any
    expected: Any
    # Who calls: the service's own workspace, or another.
    by: str = OWN
    # Whether it is tried until it is so.
    soon: bool = False


def fails(message: str) -> Fails:
    return Fails(message)


def permission(what: str) -> Fails:
    return Fails(f"Permission denied: Only {OWN} workspace can {what}")


DONE = {"success": True, "message": str, "timestamp": Time}


def done(message: str, **more) -> dict:
    return {**DONE, "message": message, **more}


# ---- the engine and kernels ------------------------------------------------------------------------

MEGABYTES = Has(" MB")
COUNTS = {"active": int, "stuck": int}
STATUS = {
    "systemStats": {
        "uptime": int,
        "uptimeFormatted": Has("0d 0h "),
        "memoryUsage": {"heapTotal": MEGABYTES, "heapUsed": MEGABYTES, "rss": MEGABYTES, "external": MEGABYTES},
        "avgMemoryPerKernel": MEGABYTES,
        "cpuUsage": Has("%"),
    },
    "kernelStats": {
        "total": int,
        "namespaceCount": int,
        "activeExecutions": {"total": int, "namespace": int},
        "executionsByStatus": {"total": COUNTS, "namespace": COUNTS},
    },
    "poolStats": {
        "config": {
            "enabled": bool, "poolSize": int, "autoRefill": bool, "preloadConfigs": Many(str), "isPreloading": bool,
        },
        "statistics": Mapping({"available": int, "total": int}),
    },
}
K = {"kernelId": "k"}
KERNEL = {"id": f"{OWN}:k", "mode": "worker", "language": "typescript", "created": Time, "name": "Kernel-k"}
NO_KERNEL = fails("Kernel not found or access denied")
NO_ID = fails("Invalid kernel ID: undefined")


def stream(text: str) -> dict:
    return {"type": "stream", "data": {"name": "stdout", "text": text}, "executionId": Has("exec-")}


def result(text: str) -> dict:
    data = {"execution_count": int, "data": {"text/plain": text}, "metadata": {}}
    return {"type": "execute_result", "data": data, "executionId": Has("exec-")}


COMPLETE = {"type": "complete", "status": "success"}
ENGINE = [
    Row("health", {}, {
        "status": "healthy", "timestamp": Time, "uptime": int, "memoryUsage": {"rss": int, "heapUsed": int},
    }),
    # The original's cpuUsage was a guess from a busy loop, and 20% at first; ours counts busy kernels.
    Row("getStatus", {}, STATUS),
    Row("getEngineLoad", {}, int),
]
KERNELS = [
    Row("createKernel", {"id": "k", "mode": "worker-typescript", "inactivity_timeout": 300_000, "max_execution_time": 60_000}, KERNEL),
    Row("createKernel", {"id": "k", "mode": "worker-typescript"}, fails(f"Kernel with ID {OWN}:k already exists")),
    Row("createKernel", {"id": "a:b", "mode": "worker-typescript"}, fails("Kernel ID cannot contain colons")),
    Row("createKernel", 7, fails(Has("Invalid parameters provided"))),
    Row("createKernel", [], fails(Has("Invalid parameters provided"))),
    # A bare value is the mode.
    Row("createKernel", "worker-javascript", {
        "id": Has(f"{OWN}:"), "mode": "worker", "language": "javascript", "created": Time, "name": Has("Kernel-"),
    }),
    Row("destroyKernel", lambda said: {"kernelId": said["createKernel"]["id"]}, {"success": True}),
    Row("listKernels", {}, [{**KERNEL, "status": AnyOf(("active", "busy", "unknown"))}]),
    # The original took a caller's first argument for the context that the server attests.
    Row("listKernels", {"ws": OWN}, (), by=USER),
    Row("getKernelInfo", K, {**KERNEL, "status": str, "history": ()}),
    Row("executeCode", {"kernelId": "k", "code": "console.log('hi'); 6 * 7"}, {"execution_id": Has("exec-")}),
    Row("executeCode", {"kernel_id": "k", "code": "1"}, {"execution_id": Has("exec-")}),
    Row("executeCode", {"code": "1"}, fails("kernelId is required")),
    Row("executeCode", K, fails("No code provided")),
    Row("executeCode", {"kernelId": "none", "code": "1"}, NO_KERNEL),
    Row("getExecutionResult", lambda said: {**K, "executionId": said["executeCode"]["execution_id"]}, (result("1"),), soon=True),
    Row("getExecutionResult", {**K, "executionId": "exec-none"}, fails("Execution not found")),
    Row("getExecutionResult", {"kernelId": "none", "executionId": "exec-none"}, NO_KERNEL),
    Row("streamExecution", {**K, "code": "console.log(1); 2"}, Streams((stream("1\n"), result("2"), COMPLETE))),
    # Errors of TypeScript are events.
    Row("streamExecution", {**K, "code": "throw new TypeError('no')"}, Streams((
        {
            "type": "execute_error",
            "data": {"ename": "TypeError", "evalue": "no", "traceback": [str]},
            "executionId": Has("exec-"),
        },
        COMPLETE,
    ))),
    Row("streamExecution", {"code": "1"}, fails("kernelId is required")),
    Row("streamExecution", {**K, "code": ""}, fails("No code provided")),
    Row("streamExecution", {"kernelId": f"{USER}:k", "code": "1"}, NO_KERNEL),
    # The original counted no outputs of what was streamed, for it kept none.
    Row("getKernelInfo", {"kernelId": f"{OWN}:k"}, {**KERNEL, "status": str, "history": (
        {"id": Has("exec-"), "script": "console.log('hi'); 6 * 7", "outputs": 2},
        {"id": Has("exec-"), "script": "1", "outputs": 1},
        {"id": Has("exec-"), "script": "console.log(1); 2", "outputs": 2},
        {"id": Has("exec-"), "script": "throw new TypeError('no')", "outputs": 1},
    )}),
    Row("getKernelInfo", {"kernelId": f"{OWN}:k"}, NO_KERNEL, by=USER),
    Row("pingKernel", K, done("Kernel activity timer reset")),
    Row("pingKernel", {"kernelId": "none"}, NO_KERNEL),
    Row("interruptKernel", K, done("Kernel execution interrupted")),
    Row("interruptKernel", {}, NO_ID),
    Row("restartKernel", K, done("Kernel restarted successfully")),
    Row("restartKernel", K, NO_KERNEL, by=USER),
    Row("getInactivityTimerStatus", K, {
        "lastActivityTime": int, "timeUntilShutdown": int, "inactivityTimeout": 300_000, "isTimeoutEnabled": True, "timestamp": Time,
    }),
    Row("setInactivityTimeout", {**K, "timeout": 90_000}, done("Inactivity timeout set to 90000ms", timeout=90_000)),
    Row("setInactivityTimeout", {**K, "timeout": 1}, permission("set kernel inactivity timeouts"), by=USER),
    Row("setInactivityTimeout", {**K, "timeout": 0}, done("Inactivity timeout set to 0ms", timeout=0)),
    Row("getInactivityTimerStatus", K, {
        "lastActivityTime": int, "timeUntilShutdown": Maybe(int), "inactivityTimeout": Maybe(int), "isTimeoutEnabled": False, "timestamp": Time,
    }),
    Row("getInactivityTimerStatus", {"kernelId": ""}, NO_ID),
    Row("resetInactivityTimer", K, done("Kernel activity timer reset", kernelId=f"{OWN}:k")),
    Row("resetInactivityTimer", {"kernelId": "none"}, NO_KERNEL),
    Row("destroyKernel", K, NO_KERNEL, by=USER),
    Row("destroyKernel", K, {"success": True}),
    Row("destroyKernel", K, NO_KERNEL),
    Row("destroyKernel", {}, NO_ID),
]

# ---- vector indices and providers ------------------------------------------------------------------

V = {"indexId": "v"}
INDEX = {"id": f"{OWN}:v", "name": "VectorDB-v", "created": Time}
NO_INDEX = fails("Vector index not found or access denied")
ACTIVITY = {"lastActivity": Maybe(Time), "timeUntilOffload": Maybe(int)}
LISTED_INDEX = {**INDEX, "documentCount": 2, "embeddingDimension": Maybe(int), "activityMonitoring": ACTIVITY}
FOUND = {"id": str, "score": float, "distance": More(float), "text": Maybe(str), "metadata": Maybe({"n": 1})}
QUERY = {"queryId": str, "results": [FOUND], "resultCount": int, "timestamp": Time}
DOCUMENTS = [
    {"id": "a", "vector": [1, 0, 0], "text": "one", "metadata": {"n": 1}},
    {"id": "b", "vector": [0, 1, 0]},
]
OFFLOADED = {**INDEX, "offloadedAt": Time, "documentCount": int, "embeddingDimension": Maybe(int)}
VECTORS = [
    Row("createVectorIndex", {"id": "v", "permission": "public_read"}, {
        **INDEX, "activityMonitoring": {"enabled": True, "timeout": int},
    }),
    Row("createVectorIndex", {"id": "v"}, fails(Has("already exists"))),
    Row("createVectorIndex", {"id": "x", "embeddingProviderName": "none"}, fails("Embedding provider none not found in registry")),
    Row("createVectorIndex", {"id": "x", "resume": True}, fails(Has("does not exist"))),
    Row("addDocuments", {**V, "documents": DOCUMENTS}, {"success": True, "addedCount": 2, "timestamp": Time}),
    Row("addDocuments", V, fails("No documents provided")),
    Row("addDocuments", {**V, "documents": [{"text": "x"}]}, fails("Document must have an id")),
    Row("addDocuments", {**V, "documents": [{"id": "x"}]}, fails("Document must have either text or vector")),
    # What is kept with a document is a date or bytes again when it is read; a function would be called by nobody.
    Row("addDocuments", {**V, "documents": [{"id": "x", "vector": [1, 0, 0], "metadata": {"deep": [print]}}]}, fails("Invalid parameters: documents: a function is not taken")),
    Row("addDocuments", {"indexId": "none", "documents": DOCUMENTS}, fails("Vector index not found")),
    Row("addDocuments", {"indexId": f"{OWN}:v", "documents": DOCUMENTS}, fails(Has("Access denied")), by=USER),
    Row("queryVectorIndex", {**V, "query": [1, 0, 0], "options": {"k": 1}}, {**QUERY, "results": ({"id": "a", "score": float, "distance": More(float), "text": "one", "metadata": {"n": 1}},), "resultCount": 1}),
    Row("queryVectorIndex", {"indexId": f"{OWN}:v", "query": [0, 1, 0]}, {**QUERY, "resultCount": 2}, by=USER),
    Row("queryVectorIndex", {**V, "query": [1, 0, 0], "options": {"includeMetadata": False}}, {**QUERY, "results": [{"id": str, "score": float, "distance": More(float), "text": Maybe(str)}]}),
    Row("queryVectorIndex", V, fails("No query provided")),
    Row("queryVectorIndex", {"indexId": "none", "query": [1]}, fails("Vector index not found")),
    Row("listVectorIndices", {}, ({**LISTED_INDEX, "isFromOffload": False, "activityMonitoring": {**ACTIVITY, "inactivityTimeout": int}},)),
    Row("listVectorIndices", {}, (), by=USER),
    # The original kept every query with its results, without bounds; ours keeps none.
    Row("getVectorIndexInfo", V, {
        **INDEX, "documentCount": 2, "embeddingDimension": 3, "isFromOffload": False, "history": Many({"id": str, "query": str, "results": int, "timestamp": Time}),
        "activityMonitoring": {**ACTIVITY, "inactivityTimeout": int, "enabled": True},
    }),
    Row("getVectorIndexInfo", {"indexId": "none"}, NO_INDEX),
    Row("getVectorDBStats", {}, {
        "overall": {
            "totalInstances": int, "totalDocuments": int, "embeddingModel": str, "maxInstances": int,
            "instancesByNamespace": Mapping(int),
            "activityMonitoring": {"enabled": bool, "defaultTimeout": int, "activeTimers": int, "offloadDirectory": Maybe(str)},
        },
        "namespace": {"totalIndices": 1, "totalDocuments": 2},
        "indices": (LISTED_INDEX,),
    }),
    Row("pingVectorIndex", V, done("Vector index activity timer reset")),
    Row("pingVectorIndex", V, NO_INDEX, by=USER),
    Row("setVectorIndexTimeout", {**V, "timeout": 90_000}, done("Inactivity timeout set to 90000ms", timeout=90_000)),
    Row("setVectorIndexTimeout", {**V, "timeout": -1}, fails("Invalid timeout value")),
    Row("setVectorIndexTimeout", V, fails("Invalid timeout value")),
    Row("saveVectorIndex", V, done("Vector index saved successfully")),
    Row("saveVectorIndex", {"indexId": "none"}, NO_INDEX),
    Row("removeDocuments", {**V, "documentIds": ["b"]}, {"success": True, "removedCount": 1, "timestamp": Time}),
    Row("removeDocuments", {**V, "documentIds": []}, fails("No document IDs provided")),
    Row("removeDocuments", {"indexId": f"{OWN}:v", "documentIds": ["a"]}, fails(Has("Access denied")), by=USER),
    Row("manualOffloadVectorIndex", V, done("Vector index offloaded successfully")),
    Row("listOffloadedVectorIndices", {}, ({**OFFLOADED, "documentCount": 1},)),
    Row("listOffloadedVectorIndices", {}, (), by=USER),
    Row("createVectorIndex", {"id": "v"}, fails(Has("resume"))),
    Row("createVectorIndex", {"id": "v", "resume": True}, {**INDEX, "activityMonitoring": {"enabled": True, "timeout": int}}),
    # In the original this one failed for what had been resumed.
    Row("getVectorIndexInfo", V, {
        **INDEX, "documentCount": 1, "embeddingDimension": 3, "isFromOffload": True, "history": (),
        "activityMonitoring": {**ACTIVITY, "inactivityTimeout": int, "enabled": True},
    }),
    Row("manualOffloadVectorIndex", V, DONE),
    Row("manualOffloadVectorIndex", {"indexId": "none"}, NO_INDEX),
    Row("deleteOffloadedVectorIndex", {"indexId": "none"}, fails(Has("not found"))),
    Row("deleteOffloadedVectorIndex", V, done("Offloaded vector index v deleted successfully")),
    Row("createVectorIndex", {"id": "w"}, {**INDEX, "id": f"{OWN}:w", "name": "VectorDB-w", "activityMonitoring": {"enabled": True, "timeout": int}}),
    Row("destroyVectorIndex", {"indexId": "w"}, NO_INDEX, by=USER),
    Row("destroyVectorIndex", {"indexId": "w"}, {"success": True}),
    Row("destroyVectorIndex", {"indexId": "w"}, NO_INDEX),
    Row("generateRandomDocuments", {"count": 3}, {
        "documents": ({
            "id": Has("doc-"), "text": str,
            "metadata": {"topic": str, "category": str, "priority": int, "created": Time, "randomId": str},
        },) * 3,
        "count": 3,
        "message": "Generated 3 random documents",
    }),
]
P = {"providerId": "p"}
OLLAMA = {"type": "ollama", "config": {"host": "http://127.0.0.1:9", "model": "nomic", "dimension": 3}}
SET = {"name": "p", "type": "ollama", "dimension": 3, "model": "nomic", "host": Has("http://127.0.0.1:9")}
PROVIDER = {"id": "p", "name": "p", "type": "ollama", "dimension": 3, "created": Time, "lastUsed": Maybe(Time)}
NO_PROVIDER = fails("Provider not found")
USAGE = {
    "id": str, "name": str, "type": str, "dimension": int, "instancesUsing": int, "lastUsed": Maybe(Time), "created": Time,
}
# In the original every caller could change the providers of all workspaces, which is a defect.
PROVIDERS = [
    # As over HTTP; the time is of the other methods over Hypha.
    Row("addEmbeddingProvider", {"name": "p", **OLLAMA}, {"success": True, "message": Has("p"), "provider": SET, "timestamp": More(Time)}),
    Row("addEmbeddingProvider", {"name": "p", **OLLAMA}, fails("Provider with this name already exists")),
    Row("addEmbeddingProvider", {"name": "p"}, fails("Name, type, and config are required")),
    Row("addEmbeddingProvider", {"name": "q", "type": "ollama", "config": {}}, fails("Failed to create Ollama provider: Ollama provider requires host, model, and dimension")),
    Row("addEmbeddingProvider", {"name": "q", "type": "cloud", "config": {"model": "m"}}, fails(Has("Unsupported provider type: cloud"))),
    Row("addEmbeddingProvider", {"name": "q", **OLLAMA}, permission("add embedding providers"), by=USER),
    Row("listEmbeddingProviders", {}, {
        "providers": [{**PROVIDER, "id": str, "name": str, "type": str, "dimension": int}],
        "stats": {"totalProviders": int, "providersByType": Mapping(int), "providersInUse": int},
    }),
    Row("getEmbeddingProvider", P, {**PROVIDER, "instancesUsing": 0, "instanceIds": ()}),
    Row("getEmbeddingProvider", {"providerId": "none"}, NO_PROVIDER),
    Row("updateEmbeddingProvider", {**P, **OLLAMA}, {"success": True, "message": Has("p"), "provider": SET, "timestamp": More(Time)}),
    Row("updateEmbeddingProvider", {**P, "type": "ollama"}, fails("Type and config are required")),
    Row("updateEmbeddingProvider", {**P, "type": "ollama", "config": {}}, fails("Failed to update Ollama provider: Ollama provider requires host, model, and dimension")),
    Row("updateEmbeddingProvider", {"providerId": "none", **OLLAMA}, NO_PROVIDER),
    # Nobody listens there.
    Row("testEmbeddingProvider", P, {"available": False, "message": str, "provider": "p"}),
    Row("testEmbeddingProvider", {"providerId": "none"}, NO_PROVIDER),
    Row("createVectorIndex", {"id": "p", "embeddingProviderName": "p"}, {**INDEX, "id": f"{OWN}:p", "name": "VectorDB-p", "activityMonitoring": {"enabled": True, "timeout": int}}),
    Row("getEmbeddingProvider", P, {**PROVIDER, "instancesUsing": 1, "instanceIds": (f"{OWN}:p",)}),
    Row("getEmbeddingProviderStats", {}, {
        "global": {"totalProviders": int, "providersByType": Mapping(int), "providersInUse": int, "providerUsage": [USAGE]},
        "workspace": {"totalInstances": 1, "providerUsage": [{**USAGE, "instancesInWorkspace": int}]},
    }),
    Row("removeEmbeddingProvider", P, fails("Cannot remove provider p: it is being used by 1 instance(s)")),
    Row("changeIndexEmbeddingProvider", {"indexId": "p", "providerId": "mock-model"}, done(str, indexId=f"{OWN}:p", providerId="mock-model")),
    Row("changeIndexEmbeddingProvider", {"indexId": "none", "providerId": "mock-model"}, NO_INDEX),
    Row("changeIndexEmbeddingProvider", {"indexId": "p", "providerId": "none"}, fails(Has("not found in registry"))),
    Row("destroyVectorIndex", {"indexId": "p"}, {"success": True}),
    Row("removeEmbeddingProvider", P, permission("remove embedding providers"), by=USER),
    Row("removeEmbeddingProvider", P, {"success": True, "message": Has("p"), "timestamp": More(Time)}),
    Row("removeEmbeddingProvider", P, NO_PROVIDER),
]

# ---- agents ----------------------------------------------------------------------------------------

A = {"agentId": "a"}
AGENT = {
    "id": "a", "name": "Ann", "description": "", "instructions": "Be brief.", "startupScript": Maybe(str),
    "kernelType": "typescript", "hasKernel": True, "hasStartupError": False, "startupError": Maybe(dict),
}
CODE = {"type": "function_call", "name": "runCode", "arguments": {"code": "console.log(2 + 2)"}, "call_id": str}
NEW, PIECES = {"type": "new_completion", "completion_id": str}, Each({"type": "text_chunk", "content": str})
TEXT = {"type": "text", "content": str}
ANSWER = {"type": "text", "content": "4", "commitIds": More([str])}
CHAT = Streams((
    NEW, PIECES, TEXT, CODE, {"type": "function_call_output", "content": "4", "call_id": str}, NEW, PIECES, TEXT, ANSWER,
))
ASKED = [{"role": "user", "content": "2+2?"}]
NO_AGENT = fails(Has("not found"))


def yields_error(message: str) -> Streams:
    """Failures of chats are yielded."""
    return Streams(({"type": "error", "error": message},))


AGENTS = [
    # The original attached a kernel twice.
    Row("createAgent", {**{name: AGENT[name] for name in ("id", "name", "instructions")}, "kernelType": "TYPESCRIPT", "startupScript": "globalThis.x = 1", "maxSteps": 5, "autoAttachKernel": True}, {**AGENT, "created": Time, "maxSteps": 5}),
    Row("createAgent", {"id": "a", "name": "Ann"}, fails(f'Agent with ID "{OWN}:a" already exists')),
    Row("createAgent", {"id": "a:b"}, fails("Agent ID cannot contain colons")),
    Row("createAgent", {"id": "bad", "kernelType": "TYPESCRIPT", "startupScript": "throw new Error('no start')", "autoAttachKernel": True}, fails(Has("Startup script failed: Error: no start"))),
    Row("agentExists", A, {"exists": True}),
    Row("agentExists", {"agentId": "bad"}, {"exists": False}),
    # Access denied is no error here.
    Row("agentExists", {"agentId": f"{OWN}:a"}, {"exists": False}, by=USER),
    Row("listAgents", {}, ({
        "id": "a", "name": "Ann", "description": "", "kernelType": "typescript", "hasKernel": True, "created": Time,
        "conversationLength": 0, "namespace": OWN,
    },)),
    Row("listAgents", {}, (), by=USER),
    # The original counted the agents of all workspaces.
    Row("getAgentStats", {}, {
        "totalAgents": 1, "agentsWithKernels": 1, "maxAgents": int, "agentsByKernelType": {"typescript": 1},
        "autoSaveConversations": bool, "dataDirectory": Maybe(str),
        "modelRegistry": {"totalModels": int, "modelsInUse": int, "allowCustomModels": bool, "allowedModels": Maybe([str])},
        "hyphaCore": {"enabled": False}, "activeRuns": More(int),
    }),
    # The original told the key of the model.
    Row("getAgentInfo", A, {
        **AGENT, "maxSteps": 5, "created": Time, "conversationLength": 0,
        "ModelSettings": {"baseURL": More(str), "model": More(str), "temperature": More(float), "apiKey": Maybe("***")},
        "kernelEnvirons": More(Many(str)), "kernelId": More(str), "maxTokensPerRun": More(int), "maxRunSeconds": More(int),
        "inactivityTimeout": More(int), "maxExecutionTime": More(int), "lastUsed": More(Time), "modelId": More(str),
        "enablePlanning": More(bool), "planningInterval": More(int), "toolMode": More(str), "sendHistory": More(bool),
        "namespace": More(str), "hyphaServices": More(dict), "knowledge": More(list), "mcpServers": More(list), "memory": More(bool),
    }),
    Row("getAgentInfo", {"agentId": "none"}, NO_AGENT),
    Row("getAgentInfo", {"agentId": f"{OWN}:a"}, fails(f"Access denied: Agent {OWN}:a is not in workspace {USER}"), by=USER),
    Row("updateAgent", {**A, "description": "Counts"}, {
        "success": True, "message": "Agent updated successfully", "agent": {**AGENT, "id": f"{OWN}:a", "description": "Counts"},
    }),
    Row("updateAgent", {"agentId": "none"}, NO_AGENT),
    Row("chatWithAgent", {**A, "message": "2+2?"}, CHAT),
    Row("chatWithAgent", A, yields_error("Message is required and must be a string")),
    Row("chatWithAgent", {"agentId": "none", "message": "hi"}, yields_error(Has("not found"))),
    Row("chatWithAgent", {"agentId": f"{OWN}:a", "message": "hi"}, yields_error(f"Access denied: Agent {OWN}:a is not in workspace {USER}"), by=USER),
    Row("getAgentConversation", A, {"conversation": ({"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}), "length": 2}),
    Row("chatWithAgentStateless", {**A, "messages": ASKED}, CHAT),
    Row("chatWithAgentStateless", {**A, "messages": []}, yields_error("Messages array is required and cannot be empty")),
    Row("chatWithAgentStateless", A, yields_error("Messages array is required and cannot be empty")),
    Row("getAgentConversation", A, {"conversation": [{"role": str, "content": str}], "length": 2}),
    Row("setAgentConversationHistory", {**A, "messages": ASKED}, {"success": True, "message": str, "messageCount": 1}),
    Row("setAgentConversationHistory", {**A, "messages": "hi"}, fails("Messages must be an array")),
    Row("clearAgentConversation", A, {"success": True, "message": str}),
    Row("getAgentConversation", A, {"conversation": (), "length": 0}),
    Row("clearAgentConversation", {"agentId": "none"}, NO_AGENT),
    Row("detachKernelFromAgent", A, {"success": True, "message": "Kernel detached successfully"}),
    # The original gave a kernel with Python for a name that it did not know.
    Row("attachKernelToAgent", {**A, "kernelType": "COBOL"}, fails("Invalid kernelType: COBOL")),
    Row("attachKernelToAgent", {**A, "kernelType": "JAVASCRIPT"}, {"success": True, "message": "Kernel attached successfully", "hasKernel": True, "kernelType": "javascript"}),
    Row("attachKernelToAgent", {"agentId": f"{OWN}:a"}, fails(f"Access denied: Agent {OWN}:a is not in workspace {USER}"), by=USER),
    Row("destroyAgent", {"agentId": f"{OWN}:a"}, fails(f"Access denied: Agent {OWN}:a is not in workspace {USER}"), by=USER),
    Row("destroyAgent", A, {"success": True, "message": "Agent a deleted successfully"}),
    Row("destroyAgent", A, NO_AGENT),
]

# ---- apps ------------------------------------------------------------------------------------------

TICKER, HELLO = f"{OWN}/ticker-app", f"{OWN}/hello-app"
T = {"appId": TICKER}
STATES = AnyOf(("stuck", "executing", "idle", "error", "unknown"))
APP = {"id": str, "status": STATES, "kernelId": str, "language": str, "created": Time}
USED = {"activeExecutions": int, "isStuck": bool, "historyCount": int, "uptime": Maybe(int)}
NAMED = {**APP, "name": str, "description": str}
INFO = {**NAMED, **USED, "uptimeFormatted": Maybe(str), "manifest": Maybe(dict), "mode": "worker", "timestamp": Time}
RUNNING = {**INFO, "id": TICKER, "name": "Ticker", "status": "executing", "language": "typescript", "activeExecutions": 1, "uptime": int}
NOT_RUNNING = fails("App none is not currently running (kernel not found)")
LOG = {
    "appId": TICKER, "kernelId": str, "totalLogEntries": int, "requestedLines": int, "kernelStatus": "executing",
    "currentExecution": Maybe({"activeExecutions": int, "isStuck": bool}), "timestamp": Time,
    "logs": [{"timestamp": Time, "type": AnyOf(("stream", "message", "error")), "stream": Maybe(str), "content": str, "executionId": Maybe(str)}],
}
SAID = {"timestamp": Time, "type": "stream", "stream": "stdout", "content": "from outside", "executionId": Maybe(str)}
ENDED = {"timestamp": Time, "type": "message", "content": Has(" has ended"), "executionId": Maybe(str)}
APPS = [
    Row("getAppInfo", T, RUNNING, by=USER, soon=True),
    Row("getAppInfo", {"appId": "none"}, fails(Has("not found"))),
    Row("listApps", {}, {"apps": [NAMED], "totalCount": int, "timestamp": Time}, by=USER),
    # What the operator's apps cost is not for others, unlike in the original.
    Row("getAppStats", {}, permission("get app stats"), by=USER),
    Row("getAppStats", {}, {
        **{f"{which}Apps": int for which in ("total", "running", "idle", "executing", "stuck", "error")},
        "totalExecutions": int, "memoryUsage": Maybe(int), "apps": [{**APP, **USED}], "timestamp": Time,
    }),
    Row("executeInApp", {**T, "code": "console.log('from outside')"}, {"executionId": Has("exec-"), "appId": TICKER, "message": Has(TICKER), "timestamp": Time}),
    Row("executeInApp", T, fails("No code provided")),
    Row("executeInApp", {"appId": "none", "code": "1"}, NOT_RUNNING),
    Row("executeInApp", {**T, "code": "1"}, permission("execute code in apps"), by=USER),
    Row("getAppKernelLogs", {**T, "lines": 2}, {**LOG, "requestedLines": 2, "logs": AnyOf(((SAID, ENDED), (ENDED, SAID)))}, soon=True),
    Row("getAppKernelLogs", {**T, "lines": 5000}, {**LOG, "requestedLines": 1000}),
    Row("getAppKernelLogs", T, permission("read logs of apps"), by=USER),
    Row("reloadApp", T, done(Has(TICKER), appId=TICKER, kernelId=str)),
    Row("reloadApp", {"appId": "none"}, NOT_RUNNING),
    Row("reloadApp", T, permission("reload apps"), by=USER),
    Row("getAppInfo", T, RUNNING, soon=True),
    Row("killApp", T, permission("kill apps"), by=USER),
    Row("killApp", T, done(Has(TICKER), appId=TICKER, kernelId=str)),
    Row("killApp", T, fails(f"App {TICKER} is not currently running (kernel not found)")),
    Row("killApp", {}, fails("appId is required")),
    Row("notifyAppUpdates", {}, {**DONE, "results": {
        "totalApps": int, "skippedApps": [str], "startedApps": [Has(OWN)], "failedApps": Many({"id": str, "error": str}),
    }}),
    Row("notifyAppUpdates", {"ws": OWN}, permission("notify app updates"), by=USER),
    Row("getAppInfo", T, RUNNING, soon=True),
]

ROWS = [*ENGINE, *KERNELS, *VECTORS, *PROVIDERS, *AGENTS, *APPS]


async def wrong_with(row: Row, engine, said: dict) -> str | None:
    given = row.given(said) if isinstance(row.given, Callable) else row.given
    try:
        answer = await engine[row.method](given)
        if isinstance(row.expected, Streams):
            answer = [item async for item in answer]
    except Exception as error:
        message = str(error).removeprefix("RemoteError:").strip()
        if not isinstance(row.expected, Fails):
            return f"it fails: {message}"
        return different(message, row.expected.message, "the message")
    if isinstance(row.expected, Fails):
        return f"it does not fail: {answer}"
    said[row.method] = answer
    return different(answer, row.expected.items if isinstance(row.expected, Streams) else row.expected)


async def tried(row: Row, engine, said: dict) -> str | None:
    deadline = time.monotonic() + (PATIENCE if row.soon else 0)
    while (wrong := await wrong_with(row, engine, said)) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return wrong


async def main() -> None:
    own, user = await connect(os.environ["HYPHA_TOKEN"]), await connect(os.environ["HYPHA_USER_TOKEN"])
    engines = {OWN: await own.get_service(SERVICE), USER: await user.get_service(SERVICE)}
    offered = set((await own.get_service_info(SERVICE)).service_schema)
    called = {row.method for row in ROWS if not isinstance(row.expected, Fails)}
    assert offered == called, f"not called: {offered - called}; not offered: {called - offered}"
    assert len(called) == METHODS, len(called)

    begun, said, wrong = time.monotonic(), {}, []
    for row in ROWS:
        found = await tried(row, engines[row.by], said)
        if found:
            wrong.append(f"{row.method}({row.given}) by {row.by}: {found}")
    assert not wrong, "\n" + "\n".join(wrong)
    print(f"{len(ROWS)} calls of {len(called)} methods in {time.monotonic() - begun:.1f} s")
    for server in (own, user):
        await server.disconnect()


run(main())
