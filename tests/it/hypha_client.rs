//! The clients of Hypha that come with the engine: imported without a network, and only when nothing else is meant.

use serde_json::json;

use crate::support::Kernel;
use crate::support::shared_server;

/// A kernel that reaches and imports nothing.
async fn closed(lang: &str) -> Kernel {
  let permissions = json!({"net": false, "import": false});
  let client = shared_server().client();
  client
    .create(json!({"lang": lang, "permissions": permissions}))
    .await
}

async fn result(kernel: &Kernel, code: &str) -> String {
  let events = kernel.execute(code).await;
  let result = events.result().map(str::to_owned);
  result.unwrap_or_else(|| panic!("{code}: {events:?}"))
}

#[tokio::test]
async fn hypha_rpc_is_imported_in_javascript_without_a_network() {
  let kernel = closed("ts").await;
  for code in [
    "import { connectToServer, hyphaWebsocketClient } from 'hypha-rpc'; \
     typeof connectToServer + typeof hyphaWebsocketClient.connectToServer",
    "import type { Nothing } from 'hypha-rpc'; \
     const { connectToServer: connect, login } = await import('hypha-rpc'); typeof connect + typeof login",
  ] {
    assert_eq!(
      result(&kernel, code).await,
      "\"functionfunction\"",
      "{code}"
    );
  }
  let file = "const text = `export { RPC } from 'hypha-rpc'; export const url = import.meta.resolve('hypha-rpc')`;
    await Deno.writeTextFile('mod.ts', text); const { RPC, url } = await import('./mod.ts'); typeof RPC + ' ' + url";
  let expected = "\"function engine:hypha-rpc\"";
  assert_eq!(result(&kernel, file).await, expected);
}

#[tokio::test]
async fn a_web_worker_imports_hypha_rpc_too() {
  let kernel = closed("ts").await;
  let code = "const source = `import { connectToServer } from 'hypha-rpc'; postMessage(typeof connectToServer)`;
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const worker = new Worker(url, { type: 'module' });
    const answer = await new Promise((yes, no) => { worker.onmessage = (e) => yes(e.data); worker.onerror = (e) => no(new Error(e.message)) });
    worker.terminate(); answer";
  assert_eq!(result(&kernel, code).await, "\"function\"");
}

#[tokio::test]
async fn an_import_map_has_the_last_word() {
  let kernel = closed("ts").await;
  let code = "const imports = { 'hypha-rpc': 'data:text/javascript,export default 42' };
    await Deno.writeTextFile('deno.json', JSON.stringify({ imports }));
    (await import('hypha-rpc')).default";
  assert_eq!(result(&kernel, code).await, "42");
}

#[tokio::test]
async fn other_bare_names_are_as_unknown_as_before() {
  let kernel = closed("ts").await;
  for name in ["hypha-rpc/dist/x.js", "hypha_rpc", "engine:nothing"] {
    let events = kernel.execute(&format!("await import('{name}')")).await;
    assert!(events.error().is_some(), "{name}: {events:?}");
  }
}

#[tokio::test]
async fn hypha_rpc_is_imported_in_python_without_a_network() {
  let kernel = closed("python").await;
  let code =
    "from hypha_rpc import connect_to_server, api\nimport hypha_rpc, munch\nhypha_rpc.__version__";
  assert_eq!(result(&kernel, code).await, "'0.21.47'");
  // What it needs for its other transport is asked for when that is used.
  let events = kernel
    .execute("from hypha_rpc import http_client; http_client.httpx.Timeout(1)")
    .await;
  assert_eq!(events.ename(), Some("ModuleNotFoundError"), "{events:?}");
}

#[tokio::test]
async fn a_server_that_may_not_be_reached_is_refused_to_both_clients() {
  for (lang, code) in [
    (
      "ts",
      "const { connectToServer } = await import('hypha-rpc'); \
       await connectToServer({ server_url: 'http://127.0.0.1:9', timeout: 1 }).catch(e => String(e))",
    ),
    (
      "python",
      "from hypha_rpc import connect_to_server\ntry:\n  await connect_to_server({'server_url': 'http://127.0.0.1:9'})\n\
       except BaseException as error:\n  said = str(error)\nsaid",
    ),
  ] {
    let kernel = closed(lang).await;
    let events = kernel.execute(code).await;
    let said = format!("{events:?}");
    assert!(
      said.contains("Requires net access") || said.contains("NotCapable"),
      "{lang}: {said}"
    );
  }
}

#[tokio::test]
async fn what_is_not_imported_is_not_loaded() {
  let kernel = shared_server()
    .client()
    .create(json!({"lang": "python"}))
    .await;
  let loaded = "import sys; [name for name in ('hypha_rpc', 'msgpack', 'munch', 'shortuuid') if name in sys.modules]";
  assert_eq!(result(&kernel, loaded).await, "[]");
  let found = "import importlib.util; importlib.util.find_spec('msgpack')";
  let events = kernel.execute(found).await;
  assert_eq!(events.result(), None, "{events:?}");
}
