//! Modules that cells import from elsewhere: npm and JSR registries, web sites, files. The sources
//! are the tests' own, on 127.0.0.1; real packages are those of `tests/npm-packages.txt`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::support::ADD_WASM;
use crate::support::Kernel;
use crate::support::Loopback;
use crate::support::Reply;
use crate::support::Request;
use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::Sources;
use crate::support::eventually;
use crate::support::in_time;

// ------------------------------------------------------------ servers and kernels

struct World {
  sources: Sources,
  server: Server,
}

/// A server whose kernels may import from this machine, and nowhere else.
fn engine(sources: &Sources) -> ServerBuilder {
  plain_engine(sources).env(
    "KERNEL_PERMISSIONS_MAX",
    r#"{"net": true, "import": ["127.0.0.1", "localhost"]}"#,
  )
}

/// One whose kernels have the permissions that an operator gives who says nothing about them.
fn plain_engine(sources: &Sources) -> ServerBuilder {
  Server::builder()
    .env("NPM_CONFIG_REGISTRY", sources.npm.url())
    .env("JSR_URL", sources.jsr.url())
}

impl World {
  fn of(sources: Sources) -> Self {
    let server = engine(&sources).start();
    Self { sources, server }
  }

  async fn kernel(&self) -> Kernel {
    self.server.client().typescript().await
  }

  fn site(&self, path: &str) -> String {
    self.sources.site.url(path)
  }
}

/// For every test that counts no requests and needs no empty cache.
fn world() -> &'static World {
  static WORLD: LazyLock<World> = LazyLock::new(|| World::of(Sources::start()));
  &WORLD
}

async fn kernel() -> Kernel {
  world().kernel().await
}

fn site(path: &str) -> String {
  world().site(path)
}

/// Runs cells one after the other; each must have its result, or, without one, no error.
async fn cells(kernel: &Kernel, cells: &[(&str, Option<&str>)]) {
  for (code, expected) in cells {
    let events = kernel.execute(code).await;
    assert!(events.error().is_none(), "{code}: {events:?}");
    assert_eq!(events.result(), *expected, "{code}: {events:?}");
  }
}

/// An expression that imports a module, by a specifier that nothing can know in advance.
fn import(specifier: &str) -> String {
  format!("(await import([{}].join('')))", json!(specifier))
}

/// Checks that an import fails with these words in its message, which name what was asked for and the
/// reason, and that the kernel imports other modules afterwards.
async fn fails(kernel: &Kernel, specifier: &str, words: &[&str]) {
  refused(kernel, &format!("{}; 'imported'", import(specifier)), words).await;
  cells(
    kernel,
    &[
      ("1 + 1", Some("2")),
      (&format!("{}.n", import(&site("/typed"))), Some("5")),
      ("(await import('npm:uses-node@1')).path", Some("\"a/b\"")),
    ],
  )
  .await;
}

async fn refused(kernel: &Kernel, code: &str, words: &[&str]) {
  let events = kernel.execute(code).await;
  assert!(
    events.error().is_some() && events.ename() != Some("KernelDied"),
    "{code}: {events:?}"
  );
  for word in words {
    assert!(
      events.evalue().contains(word),
      "{code}: `{word}` is missing in `{}`",
      events.evalue()
    );
  }
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
  let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
  entries
    .flat_map(|entry| match entry.file_type() {
      Ok(kind) if kind.is_dir() => files_below(&entry.path()),
      _ => vec![entry.path()],
    })
    .collect()
}

fn names_below(folder: &Path) -> Vec<String> {
  let files = files_below(folder).into_iter();
  files
    .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
    .collect()
}

// ------------------------------------------------------------ npm

#[tokio::test]
async fn lodash_is_imported_as_a_whole_and_by_part() {
  cells(
    &kernel().await,
    &[
      ("import _ from 'npm:lodash@4';", None),
      ("_.sum([1, 2, 3])", Some("6")),
      (
        "import chunk from 'npm:lodash@4/chunk.js'; chunk([1, 2, 3], 2)",
        Some("[ [ 1, 2 ], [ 3 ] ]"),
      ),
      ("chunk([1, 2], 1).length", Some("2")),
      (
        "import { default as latest } from 'npm:lodash'; latest === _",
        Some("true"),
      ),
      (
        "import * as everything from 'npm:lodash'; everything.default === _",
        Some("true"),
      ),
      (
        "import pkg from 'npm:lodash@4/package.json' with { type: 'json' }; pkg.name",
        Some("\"lodash\""),
      ),
    ],
  )
  .await;
}

#[tokio::test]
async fn zod_parses_and_says_what_is_wrong() {
  let kernel = kernel().await;
  cells(
    &kernel,
    &[
      ("import { z } from 'npm:zod@4'; const User = z.object({ name: z.string(), age: z.number() });", None),
      ("type User = z.infer<typeof User>; const user: User = User.parse({ name: 'a', age: 1 }); user", Some("{ name: \"a\", age: 1 }")),
      ("User.safeParse({ name: 1, age: 1 }).success", Some("false")),
    ],
  )
  .await;
  let events = kernel.execute("User.parse({ name: 1, age: 1 })").await;
  assert_eq!(events.ename(), Some("ZodError"), "{events:?}");
  assert!(events.evalue().contains("expected string"), "{events:?}");
}

const HONO_APP: &str = "import { Hono } from 'npm:hono@4';
  const app = new Hono();
  app.get('/hello/:name', (c) => c.json({ hello: c.req.param('name') }));
  app.post('/echo', async (c) => c.text((await c.req.text()).toUpperCase()));
  void 0;";

#[tokio::test]
async fn a_hono_app_answers_requests_that_a_cell_makes() {
  cells(
    &kernel().await,
    &[
      (HONO_APP, None),
      (
        "const r = await app.request('/hello/you'); [r.status, await r.text()]",
        Some("[ 200, '{\"hello\":\"you\"}' ]"),
      ),
      (
        "await (await app.request('/echo', { method: 'POST', body: 'loud' })).text()",
        Some("\"LOUD\""),
      ),
      ("(await app.request('/none')).status", Some("404")),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_hono_app_serves_a_port() {
  let kernel = kernel().await;
  let serve = "const server = Deno.serve({ port: 0, hostname: '127.0.0.1', onListen() {} }, app.fetch); server.addr.port";
  cells(&kernel, &[(HONO_APP, None)]).await;
  let events = kernel.execute(serve).await;
  let port = events
    .result()
    .unwrap_or_else(|| panic!("no port: {events:?}"));
  let client = reqwest::Client::builder()
    .no_proxy()
    .build()
    .expect("a client can be made");
  let response = client
    .get(format!("http://127.0.0.1:{port}/hello/host"))
    .send();
  let response = in_time("the answer", response).await.expect("it answers");
  assert_eq!(
    response.text().await.expect("a whole answer"),
    r#"{"hello":"host"}"#
  );
  cells(
    &kernel,
    &[("await server.shutdown(); 'down'", Some("\"down\""))],
  )
  .await;
}

/// What a chat model answers, as one completion or as a stream of it.
fn chat(request: &Request) -> Reply {
  let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
  if request.path != "/v1/chat/completions" || asked["messages"][0]["content"] != "hi" {
    return Reply::Status(400);
  }
  let choice = |name: &str, content: &str| json!([{"index": 0, name: {"role": "assistant", "content": content}}]);
  if asked["stream"] == true {
    let chunk = |content: &str| {
      let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                         "choices": choice("delta", content)});
      format!("data: {chunk}\n\n")
    };
    return Reply::Parts {
      content_type: "text/event-stream",
      parts: vec![chunk("Hel"), chunk("lo"), "data: [DONE]\n\n".to_owned()],
    };
  }
  Reply::json(
    &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": choice("message", "Hello")}),
  )
}

#[tokio::test]
async fn the_openai_client_talks_to_a_compatible_endpoint() {
  let endpoint = Loopback::start(chat);
  let url = json!(endpoint.url("/v1"));
  cells(
    &kernel().await,
    &[
      (&format!("import OpenAI from 'npm:openai@7'; const client = new OpenAI({{ apiKey: 'none', baseURL: {url} }});"), None),
      ("const ask = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };", None),
      ("(await client.chat.completions.create(ask)).choices[0].message.content", Some("\"Hello\"")),
      ("const parts = []; for await (const p of await client.chat.completions.create({ ...ask, stream: true })) parts.push(p.choices[0].delta.content); parts", Some("[ \"Hel\", \"lo\" ]")),
      ("await client.chat.completions.create({ model: 'm', messages: [] }, { maxRetries: 0 }).catch((e) => e.status)", Some("400")),
    ],
  )
  .await;
  assert_eq!(endpoint.requests("/v1/chat/completions"), 3);
}

#[tokio::test]
async fn hypha_rpc_offers_its_connections() {
  cells(
    &kernel().await,
    &[
      (
        "import { connectToServer, hyphaWebsocketClient } from 'npm:hypha-rpc';",
        None,
      ),
      (
        "[typeof connectToServer, typeof hyphaWebsocketClient.connectToServer]",
        Some("[ \"function\", \"function\" ]"),
      ),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_commonjs_package_is_imported_by_default_by_name_and_by_part() {
  cells(
    &kernel().await,
    &[
      (
        "import semver, { gt } from 'npm:semver@7'; [semver.valid('1.2.3'), gt('2.0.0', '1.0.0')]",
        Some("[ \"1.2.3\", true ]"),
      ),
      (
        "import satisfies from 'npm:semver@7/functions/satisfies.js'; satisfies('1.2.3', '^1.0.0')",
        Some("true"),
      ),
      (
        "import { all } from 'npm:calls-require'; all",
        Some("\"part 3 main.cjs object\""),
      ),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_peer_dependency_is_the_copy_that_the_cell_imports() {
  cells(
    &kernel().await,
    &[
      ("import { h, options } from 'npm:preact@10'; import { render } from 'npm:preact-render-to-string@6';", None),
      ("import { useState } from 'npm:preact@10/hooks'; const App = ({ name }) => { const [n] = useState(2); return h('p', null, name, n) };", None),
      ("render(h(App, { name: 'hi ' }))", Some("\"<p>hi 2</p>\"")),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_package_uses_node_with_and_without_the_prefix() {
  let sum = "import { sum, path } from 'npm:uses-node'; [sum('a').slice(0, 8), path]";
  cells(&kernel().await, &[(sum, Some("[ \"ca978112\", \"a/b\" ]"))]).await;
}

#[tokio::test]
async fn versions_of_a_package_live_side_by_side() {
  cells(
    &kernel().await,
    &[
      (
        "import { version as latest } from 'npm:@engine/scoped'; latest",
        Some("\"2.1.0\""),
      ),
      (
        "import { version as old } from 'npm:@engine/scoped@^1'; old",
        Some("\"1.0.0\""),
      ),
      (
        "(await import('npm:@engine/scoped@1.0.0')).version",
        Some("\"1.0.0\""),
      ),
      ("[old, latest]", Some("[ \"1.0.0\", \"2.1.0\" ]")),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_package_may_do_no_more_than_its_kernel() {
  let kernel = kernel().await;
  let code = "import { host } from 'npm:reads-host'; host()";
  let events = kernel.execute(code).await;
  assert_eq!(events.ename(), Some("NotCapable"), "{events:?}");
}

#[tokio::test]
async fn nothing_of_a_package_runs_while_it_is_installed() {
  let data = TempDir::new().expect("a folder");
  let sources = Sources::small();
  let server = engine(&sources).data_dir(data.path()).start();
  let kernel = server.client().typescript().await;
  cells(
    &kernel,
    &[("(await import('npm:runs-script')).loaded", Some("true"))],
  )
  .await;
  let names = names_below(data.path());
  assert!(
    names.contains(&"install.js".to_owned()),
    "the package is elsewhere: {names:?}"
  );
  assert!(!names.contains(&"script-has-run".to_owned()));
}

#[tokio::test]
async fn an_import_can_be_computed() {
  cells(
    &kernel().await,
    &[
      ("const names = ['chunk', 'sum']; const parts = await Promise.all(names.map((n) => import(`npm:lodash@4/${n}.js`)));", None),
      ("[parts[0].default([1], 1), parts[1].default([1, 2])]", Some("[ [ [ 1 ] ], 3 ]")),
      (&format!("await {}.later('counter').then((m) => m.up())", import(&site("/lazy.ts"))), Some("1")),
    ],
  )
  .await;
}

#[tokio::test]
async fn require_loads_nodes_modules_and_own_files() {
  cells(
    &kernel().await,
    &[
      ("Deno.writeTextFileSync('mine.cjs', \"exports.n = 4; exports.name = require('path').basename(__filename)\")", None),
      ("import { createRequire } from 'node:module'; const require = createRequire(Deno.cwd() + '/');", None),
      ("[require('node:path').join('a', 'b'), require('./mine.cjs').n, require('./mine.cjs').name]", Some("[ \"a/b\", 4, \"mine.cjs\" ]")),
      ("import mine from './mine.cjs'; mine === require('./mine.cjs')", Some("true")),
      ("let code; try { require('./none.cjs') } catch (e) { code = e.code } code", Some("\"MODULE_NOT_FOUND\"")),
    ],
  )
  .await;
}

// ------------------------------------------------------------ JSR

#[tokio::test]
async fn a_jsr_package_is_imported_with_its_dependency_and_by_part() {
  cells(
    &kernel().await,
    &[
      ("import { square } from 'jsr:@engine/shapes@^1.0.0';", None),
      ("square(3)", Some("9")),
      (
        "import { unit } from 'jsr:@engine/shapes@1/units'; unit",
        Some("\"cm\""),
      ),
      (
        "(await import('jsr:@engine/numbers')).times(2, 3)",
        Some("6"),
      ),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_jsr_package_that_is_not_there_is_named() {
  let kernel = kernel().await;
  fails(&kernel, "jsr:@engine/none", &["@engine/none", "not found"]).await;
  fails(
    &kernel,
    "jsr:@engine/shapes@9",
    &["@engine/shapes", "version", "9"],
  )
  .await;
  fails(
    &kernel,
    "jsr:@engine/shapes@1/none",
    &["./none", "@engine/shapes@1.2.0"],
  )
  .await;
}

#[tokio::test]
async fn a_jsr_file_that_is_not_the_published_one_is_refused() {
  let kernel = kernel().await;
  let url = world()
    .sources
    .jsr
    .server
    .url("/@engine/tampered/1.0.0/inner.ts");
  fails(
    &kernel,
    "jsr:@engine/tampered",
    &["Integrity check failed", &url],
  )
  .await;
}

// ------------------------------------------------------------ web sites

#[tokio::test]
async fn a_tree_of_every_kind_of_module_is_imported_from_a_site() {
  let url = site("/main.ts");
  cells(
    &kernel().await,
    &[
      (&format!("import {{ all, url }} from {};", json!(url)), None),
      ("all", Some("\"8 HÉLLO 21\"")),
      ("url", Some(&json!(url).to_string())),
    ],
  )
  .await;
}

#[tokio::test]
async fn the_media_type_of_a_module_counts_and_not_its_name() {
  cells(
    &kernel().await,
    &[
      (&format!("{}.n", import(&site("/typed"))), Some("5")),
      (&format!("{}.n", import(&site("/typed.js"))), Some("6")),
    ],
  )
  .await;
}

#[tokio::test]
async fn imports_of_a_module_that_has_moved_are_relative_to_its_new_place() {
  let kernel = kernel().await;
  let moved = format!(
    "import {{ beside, url }} from {}; [beside, url]",
    json!(site("/moved.ts"))
  );
  let here = format!(
    "[ \"beside the real one\", {} ]",
    json!(site("/real/here.ts"))
  );
  let events = kernel.execute(&moved).await;
  // A long array is printed on several lines.
  let printed = events.result().map(|r| {
    r.split_whitespace()
      .collect::<Vec<_>>()
      .join(" ")
      .replace(", ]", " ]")
  });
  assert_eq!(printed, Some(here), "{events:?}");
}

#[tokio::test]
async fn modules_may_import_each_other() {
  let code = format!("{}.odd(7)", import(&site("/cycle/odd.ts")));
  cells(&kernel().await, &[(&code, Some("true"))]).await;
}

#[tokio::test]
async fn types_of_a_module_are_not_fetched() {
  let code = format!("{}.n", import(&site("/with-types.js")));
  cells(&kernel().await, &[(&code, Some("7"))]).await;
  assert_eq!(world().sources.site.server.requests("/with-types.d.ts"), 0);
}

#[tokio::test]
async fn a_module_is_one_for_all_cells_until_the_kernel_restarts() {
  let kernel = kernel().await;
  let url = json!(site("/counter.ts"));
  let first = format!("import {{ count, up }} from {url}; up(); up()");
  let again = format!("import * as again from {url}; again.up()");
  cells(&kernel, &[(&first, Some("2")), (&again, Some("3"))]).await;
  let other = format!("(await import({}))", json!(site("/counter.ts?other")));
  cells(&kernel, &[(&format!("{other}.up()"), Some("1"))]).await;
  kernel.restart().await.ok();
  cells(&kernel, &[(&first, Some("2"))]).await;
}

#[tokio::test]
async fn what_a_module_throws_while_it_loads_is_the_cells_error() {
  let kernel = kernel().await;
  let url = site("/broken/throws.ts");
  let events = kernel.execute(&import(&url)).await;
  assert_eq!(events.ename(), Some("RangeError"), "{events:?}");
  assert_eq!(events.evalue(), "thrown while loading 1");
  assert!(
    events.traceback().contains(&format!("{url}:2:7")),
    "{}",
    events.traceback()
  );
}

// ------------------------------------------------------------ JSON, text, WebAssembly, data, files

#[tokio::test]
async fn json_is_imported_with_its_type_only() {
  let kernel = kernel().await;
  let url = json!(site("/data.json"));
  cells(
    &kernel,
    &[
      (
        &format!("import data from {url} with {{ type: 'json' }};"),
        None,
      ),
      ("data", Some("{ n: 4 }")),
      (
        &format!("(await import({url}, {{ with: {{ type: 'json' }} }})).default.n"),
        Some("4"),
      ),
      ("Deno.writeTextFileSync('own.json', '[1]')", None),
      (
        "import own from './own.json' with { type: 'json' }; own",
        Some("[ 1 ]"),
      ),
    ],
  )
  .await;
  refused(&kernel, &import(&site("/data.json")), &["json"]).await;
  let typed = |path: &str| {
    format!(
      "await import({}, {{ with: {{ type: 'json' }} }})",
      json!(site(path))
    )
  };
  let broken = kernel.execute(&typed("/broken.json")).await;
  assert_eq!(broken.ename(), Some("SyntaxError"), "{broken:?}");
  refused(&kernel, &typed("/note.txt"), &[&site("/note.txt")]).await;
  refused(
    &kernel,
    &typed("/none.json"),
    &[&site("/none.json"), "not found"],
  )
  .await;
}

#[tokio::test]
async fn text_is_imported_whatever_it_is() {
  let kernel = kernel().await;
  let note = json!(site("/note.txt"));
  let page = json!(site("/page.ts"));
  cells(
    &kernel,
    &[
      (
        &format!("import note from {note} with {{ type: 'text' }};"),
        None,
      ),
      ("note", Some("\"héllo\\n\"")),
      (
        &format!("(await import({page}, {{ with: {{ type: 'text' }} }})).default.slice(0, 9)"),
        Some("\"<!doctype\""),
      ),
      (
        "import said from 'data:text/plain,hi' with { type: 'text' }; said",
        Some("\"hi\""),
      ),
      ("Deno.writeTextFileSync('own.sql', 'select 1')", None),
      (
        "import own from './own.sql' with { type: 'text' }; own",
        Some("\"select 1\""),
      ),
    ],
  )
  .await;
  let unknown = format!("await import({note}, {{ with: {{ type: 'poem' }} }})");
  refused(&kernel, &unknown, &["poem"]).await;
}

#[tokio::test]
async fn webassembly_is_imported_like_any_module() {
  let kernel = kernel().await;
  let write = format!("Deno.writeFileSync('own.wasm', new Uint8Array({ADD_WASM:?}))");
  cells(
    &kernel,
    &[
      (
        &format!("import {{ add }} from {};", json!(site("/add.wasm"))),
        None,
      ),
      ("add(20, 1)", Some("21")),
      (&write, None),
      (
        "import * as own from './own.wasm'; own.add(1, 2)",
        Some("3"),
      ),
    ],
  )
  .await;
  let broken = site("/broken.wasm");
  fails(&kernel, &broken, &["Wasm", &broken]).await;
}

#[tokio::test]
async fn data_and_blob_modules_import_from_everywhere() {
  let site = json!(site("/times.ts")).to_string().replace('"', "'");
  let source = format!(
    "export {{ default as chunk }} from 'npm:lodash@4/chunk.js'; export * from {site}; export {{ unit }} from 'jsr:@engine/shapes/units'"
  );
  let data = json!(format!("data:text/javascript,{source}"));
  let blob = format!(
    "const blob = URL.createObjectURL(new Blob([{}], {{ type: 'text/javascript' }}))",
    json!(source)
  );
  let names = "[ \"chunk\", \"times\", \"unit\" ]";
  cells(
    &kernel().await,
    &[
      (
        &format!("import * as data from {data}; Object.keys(data)"),
        Some(names),
      ),
      (&blob, None),
      ("Object.keys(await import(blob))", Some(names)),
    ],
  )
  .await;
}

#[tokio::test]
async fn own_files_import_each_other_and_packages() {
  let write = "Deno.mkdirSync('lib');
    Deno.writeTextFileSync('lib/part.ts', 'import chunk from \"npm:lodash@4/chunk.js\"; export const n: number = chunk([1, 2, 3], 2).length;');
    Deno.writeTextFileSync('main.ts', 'export * from \"./lib/part.ts\"; export const here: string = import.meta.filename!;')";
  cells(
    &kernel().await,
    &[
      (write, None),
      (
        "import { n, here } from './main.ts'; [n, here === Deno.cwd() + '/main.ts']",
        Some("[ 2, true ]"),
      ),
    ],
  )
  .await;
}

// ------------------------------------------------------------ import maps

#[tokio::test]
async fn a_deno_json_in_a_mounted_folder_maps_the_imports_of_its_modules_and_of_cells_there() {
  let dir = TempDir::new().expect("a folder");
  let config = json!({"imports": {
    "own": "./own.ts",
    "lodash/": "npm:/lodash@4/",
    "shapes": "jsr:@engine/shapes@1",
    "site/": site("/"),
  }});
  let main = "import { n } from 'own'; import sum from 'lodash/sum.js'; import { square } from 'shapes'; import { times } from 'site/times.ts';
    export const all: number = sum([n, square(2), times(2, 3)]);";
  for (name, text) in [
    ("deno.json", config.to_string().as_str()),
    ("own.ts", "export const n: number = 1;"),
    ("main.ts", main),
  ] {
    std::fs::write(dir.path().join(name), text).expect("is written");
  }
  let server = engine(&world().sources)
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let filesystem = json!({"root": dir.path(), "mountPoint": "/data"});
  let kernel = server
    .client()
    .create(json!({"filesystem": filesystem}))
    .await;
  cells(
    &kernel,
    &[
      ("(await import('file:///data/main.ts')).all", Some("11")),
      ("Deno.chdir('/data')", None),
      (
        "import { n } from 'own'; import { square } from 'shapes'; n + square(3)",
        Some("10"),
      ),
    ],
  )
  .await;
  refused(
    &kernel,
    "import 'not-mapped'",
    &["not-mapped", "not a dependency"],
  )
  .await;
}

#[tokio::test]
async fn a_deno_json_that_a_cell_writes_maps_the_imports_of_the_next_cells() {
  let kernel = kernel().await;
  refused(
    &kernel,
    "import chunk from 'chunk'",
    &["chunk", "not a dependency"],
  )
  .await;
  cells(
    &kernel,
    &[
      ("Deno.writeTextFileSync('deno.json', JSON.stringify({ imports: { chunk: 'npm:lodash@4/chunk.js' } }))", None),
      ("import chunk from 'chunk'; chunk([1, 2], 1).length", Some("2")),
    ],
  )
  .await;
}

// ------------------------------------------------------------ web workers

#[tokio::test]
async fn a_web_worker_is_loaded_from_a_site_and_imports_packages() {
  let answer = |url: &str| {
    format!(
      "{{ const w = new Worker({url}, {{ type: 'module' }}); globalThis.told = await new Promise((yes, no) => {{ w.onmessage = (e) => yes(e.data); w.onerror = (e) => {{ e.preventDefault(); no(new Error(e.message)) }} }}).finally(() => w.terminate()) }} told"
    )
  };
  let source = json!(
    "import chunk from 'npm:lodash@4/chunk.js'; import { unit } from 'jsr:@engine/shapes/units'; postMessage(chunk([1, 2], 1).length + unit)"
  );
  let blob = format!("URL.createObjectURL(new Blob([{source}], {{ type: 'text/javascript' }}))");
  let kernel = kernel().await;
  cells(
    &kernel,
    &[
      (&answer(&json!(site("/worker.ts")).to_string()), Some("42")),
      (&answer(&blob), Some("\"2cm\"")),
    ],
  )
  .await;
  let missing = json!("data:text/javascript,import 'npm:is-not-there'").to_string();
  refused(&kernel, &answer(&missing), &["is-not-there"]).await;
  cells(&kernel, &[("1", Some("1"))]).await;
}

// ------------------------------------------------------------ the cache

#[tokio::test]
async fn kernels_restarts_and_servers_share_what_was_fetched() {
  let data = TempDir::new().expect("a folder");
  let sources = Sources::start();
  let main = format!("{}.all", import(&sources.site.url("/main.ts")));
  let all = [
    (
      "(await import('npm:lodash@4')).default.sum([1, 2])",
      Some("3"),
    ),
    (
      "(await import('jsr:@engine/shapes@1')).square(2)",
      Some("4"),
    ),
    (main.as_str(), Some("\"8 HÉLLO 21\"")),
  ];
  for _ in 0..2 {
    let server = engine(&sources).data_dir(data.path()).start();
    let kernels = [
      server.client().typescript().await,
      server.client().typescript().await,
    ];
    cells(&kernels[0], &all).await;
    cells(&kernels[1], &all).await;
    kernels[0].restart().await.ok();
    cells(&kernels[0], &all).await;
  }
  assert_eq!(sources.npm.archives("lodash", "4.18.1"), 1);
  for path in ["/main.ts", "/lib/double.ts", "/add.wasm", "/note.txt"] {
    assert_eq!(sources.site.server.requests(path), 1, "{path}");
  }
  let module = "/@engine/shapes/1.2.0/mod.ts";
  assert_eq!(sources.jsr.server.requests(module), 1);
  assert!(data.path().join("deno").is_dir());
}

#[tokio::test]
async fn kernels_that_import_the_same_new_modules_at_once_all_get_them() {
  let sources = Sources::start();
  let world = World::of(sources);
  let site = import(&world.site("/main.ts"));
  let code = format!(
    "const all = await Promise.all([import('npm:slow-archive'), import('npm:lodash@4'), import('jsr:@engine/shapes')]);
     [all[0].default, all[1].default.sum([1]), all[2].square(2), {site}.all].join()"
  );
  let kernels = [
    world.kernel().await,
    world.kernel().await,
    world.kernel().await,
  ];
  let runs = kernels.iter().map(|kernel| kernel.execute(&code));
  for events in futures::future::join_all(runs).await {
    assert_eq!(
      events.result(),
      Some("\"loaded,1,4,8 HÉLLO 21\""),
      "{events:?}"
    );
  }
  // Nobody waits for anybody, so each may fetch it.
  for (name, version) in [("slow-archive", "1.0.0"), ("lodash", "4.18.1")] {
    let archives = world.sources.npm.archives(name, version);
    assert!(
      (1..=kernels.len()).contains(&archives),
      "{name}: {archives}"
    );
  }
}

#[tokio::test]
async fn a_server_told_to_use_only_its_cache_works_without_any_network() {
  let data = TempDir::new().expect("a folder");
  let sources = Sources::start();
  let site = sources.site.url("");
  let main = format!("{}.all", import(&format!("{site}/main.ts")));
  let imports = [
    (
      "import sum from 'npm:lodash@4/sum.js'; sum([1, 2])",
      Some("3"),
    ),
    (
      "(await import('npm:hypha-rpc')).connectToServer.name",
      Some("\"connectToServer\""),
    ),
    (
      "(await import('jsr:@engine/shapes@1')).square(2)",
      Some("4"),
    ),
    (main.as_str(), Some("\"8 HÉLLO 21\"")),
  ];
  let server = engine(&sources).data_dir(data.path()).start();
  let kernel = server.client().typescript().await;
  cells(&kernel, &imports).await;
  drop((kernel, server));
  let offline = engine(&sources)
    .data_dir(data.path())
    .env("DENO_CACHED_ONLY", "true");
  drop(sources);
  let server = offline.start();
  let kernel = server.client().typescript().await;
  cells(&kernel, &imports).await;
  for specifier in [
    "npm:zod@4",
    "jsr:@engine/numbers@1.0.0",
    &format!("{site}/typed"),
  ] {
    let name = specifier.rsplit_once('/').map_or("zod", |(_, name)| name);
    let name = name.split('@').next().unwrap_or(name);
    refused(&kernel, &import(specifier), &[name]).await;
  }
  for specifier in ["npm:zod@4", &format!("{site}/typed")] {
    refused(&kernel, &import(specifier), &["--cached-only"]).await;
  }
  cells(&kernel, &imports).await;
}

// ------------------------------------------------------------ permissions

#[tokio::test]
async fn the_operators_registries_are_always_within_reach_and_this_machine_is_not() {
  let server = plain_engine(&world().sources).start();
  let registries = [
    (
      "(await import('npm:lodash@4/sum.js')).default([1, 2])",
      Some("3"),
    ),
    (
      "(await import('jsr:@engine/shapes@1')).square(2)",
      Some("4"),
    ),
  ];
  for permissions in [json!({}), json!({"net": false})] {
    let kernel = server
      .client()
      .create(json!({ "permissions": permissions }))
      .await;
    cells(&kernel, &registries).await;
    for host in [
      "127.0.0.1",
      "localhost",
      "[::1]",
      "10.1.2.3",
      "169.254.169.254",
    ] {
      let url = format!("http://{host}:9/module.ts");
      let words = ["Requires import access", host];
      refused(&kernel, &import(&url), &words).await;
    }
    // Reading the registry as a module is not what the operator has allowed.
    let raw = world().sources.npm.server.url("/lodash");
    refused(&kernel, &import(&raw), &["Requires import access"]).await;
  }
  let permissions = json!({"import": false});
  let kernel = server
    .client()
    .create(json!({ "permissions": permissions }))
    .await;
  for specifier in ["npm:lodash@4/sum.js", "jsr:@engine/shapes@1"] {
    refused(&kernel, &import(specifier), &["Requires import access"]).await;
  }
}

#[tokio::test]
async fn modules_come_by_http_only_from_hosts_that_are_named() {
  let server = plain_engine(&world().sources).start();
  let kernel = server.client().typescript().await;
  refused(
    &kernel,
    &import("http://example.com/module.ts"),
    &["Requires import access to", "example.com"],
  )
  .await;
  refused(
    &kernel,
    "import 'http://example.com/module.ts'",
    &["example.com"],
  )
  .await;
}

#[tokio::test]
async fn only_the_hosts_the_operator_named_may_be_imported_from() {
  let kernel = kernel().await;
  for url in [
    "https://example.com/module.ts",
    "http://example.com/module.ts",
    "https://10.1.2.3/module.ts",
  ] {
    let host = url.split('/').nth(2).expect("it has a host");
    fails(&kernel, url, &["Requires import access to", host]).await;
  }
  let localhost = site("/typed").replace("127.0.0.1", "localhost");
  cells(
    &kernel,
    &[(&format!("{}.n", import(&localhost)), Some("5"))],
  )
  .await;
}

#[tokio::test]
async fn a_request_can_close_imports_and_not_open_them() {
  let client = world().server.client();
  let closed = client
    .create(json!({"permissions": {"import": false}}))
    .await;
  refused(
    &closed,
    &import(&site("/typed")),
    &["Requires import access to", "127.0.0.1"],
  )
  .await;
  client
    .try_create(&json!({"lang": "typescript", "permissions": {"import": ["example.com"]}}))
    .await
    .refused(
      403,
      &[
        "permissions.import",
        "example.com",
        "KERNEL_PERMISSIONS_MAX",
      ],
    );
}

#[tokio::test]
async fn a_redirect_leads_only_to_hosts_that_may_be_imported_from() {
  fails(
    &kernel().await,
    &site("/moved-away.ts"),
    &["Requires import access to", "10.1.2.3:9"],
  )
  .await;
}

#[tokio::test]
async fn what_is_imported_as_text_is_followed_only_to_hosts_that_may_be_imported_from() {
  let foreign = Loopback::start(|_| Reply::content("text/plain", "a secret"));
  let target = foreign.url("/secret.txt");
  let site = Loopback::start(move |request| match request.path.as_str() {
    "/file.txt" => Reply::Redirect("file:///etc/hostname".to_owned()),
    "/own.txt" => Reply::Redirect("/here.txt".to_owned()),
    "/here.txt" => Reply::content("text/plain", "here"),
    _ => Reply::Redirect(target.clone()),
  });
  let host = |it: &Loopback| {
    it.url("")
      .trim_start_matches("http://")
      .trim_end_matches('/')
      .to_owned()
  };
  let ceiling = json!({"import": [host(&site), host(&foreign)]});
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", ceiling.to_string())
    .start();
  let text = |path: &str| {
    let address = site.url(path);
    format!("(await import('{address}', {{ with: {{ type: 'text' }} }})).default")
  };
  let narrow = json!({"lang": "typescript", "permissions": {"import": [host(&site)]}});
  let narrow = server.client().create(narrow).await;
  narrow.gives(&text("/own.txt"), "\"here\"").await;
  refused(
    &narrow,
    &text("/away.txt"),
    &["Requires import access to", &host(&foreign)],
  )
  .await;
  assert_eq!(foreign.requests("/secret.txt"), 0);
  // Nor does it read what another kernel, which may, has left in the cache.
  let wide = server.client().typescript().await;
  wide.gives(&text("/away.txt"), "\"a secret\"").await;
  refused(&narrow, &text("/away.txt"), &["Requires import access to"]).await;
  // Deno looks for a file at the site itself.
  let events = wide.execute(&text("/file.txt")).await;
  assert!(!format!("{events:?}").contains("localhost"), "{events:?}");
}

#[tokio::test]
async fn a_module_of_a_site_imports_no_file() {
  let kernel = kernel().await;
  fails(
    &kernel,
    &site("/local.ts"),
    &["file:///etc/hostname", &site("/local.ts")],
  )
  .await;
}

// ------------------------------------------------------------ what goes wrong

#[tokio::test]
async fn a_missing_module_is_named_with_the_one_that_imports_it() {
  let kernel = kernel().await;
  fails(
    &kernel,
    &site("/none.ts"),
    &[&site("/none.ts"), "not found"],
  )
  .await;
  fails(
    &kernel,
    &site("/deep/one.ts"),
    &[
      &site("/deep/none.ts"),
      "not found",
      &site("/deep/two.ts:1:15"),
    ],
  )
  .await;
  fails(
    &kernel,
    &site("/bare.ts"),
    &["\"nowhere\"", "not a dependency", &site("/bare.ts:1:19")],
  )
  .await;
  fails(&kernel, "./none.ts", &["none.ts", "not found"]).await;
}

#[tokio::test]
async fn a_module_that_is_no_program_is_named_with_the_place() {
  let kernel = kernel().await;
  fails(
    &kernel,
    &site("/broken/entry.ts"),
    &[&site("/broken/syntax.ts:2:14"), "Unexpected token"],
  )
  .await;
  fails(
    &kernel,
    &site("/page.ts"),
    &[&site("/page.ts:1:11"), "Expected"],
  )
  .await;
  fails(
    &kernel,
    &site("/broken/no-export.ts"),
    &["'nothing'", "../times.ts", &site("/broken/no-export.ts")],
  )
  .await;
  fails(
    &kernel,
    "npm:broken-syntax",
    &["broken-syntax/1.0.0/index.js:2:14", "Unexpected token"],
  )
  .await;
}

#[tokio::test]
async fn a_site_that_fails_is_named_with_the_reason() {
  let kernel = kernel().await;
  fails(&kernel, &site("/fails.ts"), &[&site("/fails.ts"), "500"]).await;
  let round = site("/round.ts");
  fails(&kernel, &round, &[&round]).await;
  let garbage = format!("http://127.0.0.1:{}/x.ts", world().sources.garbage_port);
  fails(&kernel, &garbage, &[&garbage, "invalid HTTP"]).await;
  let gone = Loopback::start(|_| Reply::Status(404)).url("/x.ts");
  fails(&kernel, &gone, &[&gone, "Connection refused"]).await;
}

#[tokio::test]
async fn schemes_that_are_no_modules_are_refused_by_name() {
  let kernel = kernel().await;
  for specifier in ["ftp://127.0.0.1/x.ts", "nonsense:x"] {
    let (scheme, _) = specifier.split_once(':').expect("a scheme");
    fails(&kernel, specifier, &[scheme, specifier]).await;
  }
}

#[tokio::test]
async fn a_package_that_is_not_there_is_named() {
  let kernel = kernel().await;
  for (specifier, words) in [
    (
      "npm:is-not-there",
      &["'is-not-there'", "does not exist"][..],
    ),
    ("npm:needs-missing", &["'is-not-there'", "does not exist"]),
    ("npm:lodash@99", &["'lodash'", "'99'"]),
    ("npm:lodash@4.99.0", &["'lodash'", "'4.99.0'"]),
    ("npm:lodash@4/none.js", &["none.js", "Cannot find module"]),
    (
      "npm:lodash@not a version",
      &["npm:lodash@not a version", "Invalid"],
    ),
    ("npm:", &["'npm:'", "Invalid"]),
    ("npm:@engine", &["npm:@engine", "Invalid"]),
  ] {
    fails(&kernel, specifier, words).await;
  }
}

#[tokio::test]
async fn a_package_that_is_not_what_its_registry_says_is_refused_by_name() {
  let kernel = kernel().await;
  let npm = &world().sources.npm;
  let archive = npm
    .server
    .url("/missing-archive/-/missing-archive-1.0.0.tgz");
  for (specifier, words) in [
    (
      "npm:wrong-integrity",
      &["wrong-integrity@1.0.0", "checksum did not match"][..],
    ),
    (
      "npm:wrong-shasum",
      &["wrong-shasum@1.0.0", "checksum did not match"],
    ),
    ("npm:truncated", &["truncated@1.0.0"]),
    ("npm:missing-archive", &["missing-archive@1.0.0", &archive]),
    ("npm:garbage", &[&npm.server.url("/garbage")]),
    ("npm:failing", &[&npm.server.url("/failing"), "500"]),
  ] {
    fails(&kernel, specifier, words).await;
    // Not once and then from a cache: what is wrong stays wrong.
    fails(&kernel, specifier, words).await;
  }
}

#[tokio::test]
async fn a_failed_package_does_not_stand_in_the_way_of_new_ones() {
  let world = World::of(Sources::start());
  let kernel = world.kernel().await;
  for (broken, whole) in [
    ("npm:wrong-integrity", "npm:lodash"),
    ("npm:truncated", "npm:semver"),
    ("npm:is-not-there", "npm:zod"),
  ] {
    refused(&kernel, &import(broken), &[]).await;
    let code = format!("typeof {}", import(whole));
    cells(&kernel, &[(&code, Some("\"object\""))]).await;
  }
}

#[tokio::test]
async fn a_package_writes_nothing_outside_its_folder() {
  let data = TempDir::new().expect("a folder");
  let sources = Sources::small();
  let server = engine(&sources).data_dir(data.path()).start();
  let kernel = server.client().typescript().await;
  refused(
    &kernel,
    &import("npm:leads-out"),
    &["leads-out@1.0.0", "output directory"],
  )
  .await;
  let names = names_below(data.path());
  assert!(
    !names.iter().any(|name| name.starts_with("leads-out-")),
    "{names:?}"
  );
  assert!(!Path::new("/tmp/leads-out-2").exists());
  cells(&kernel, &[("1", Some("1"))]).await;
}

// ------------------------------------------------------------ what hangs

/// Starts an import that hangs, waits until a source was asked for it, interrupts it, and checks that
/// imports of all kinds work afterwards.
async fn is_interrupted(specifier: &str, asked: impl Fn(&World) -> usize) {
  let world = World::of(Sources::small());
  let (kernel, bystander) = (world.kernel().await, world.kernel().await);
  let specifier = specifier.replace("SITE", &world.site(""));
  let code = format!(
    "let kept = 1; console.log('running'); {}",
    import(&specifier)
  );
  let session = kernel.submit_running(&code).await;
  eventually("the source is asked", || async { asked(&world) > 0 }).await;
  let works = [
    (
      "(await import('data:text/javascript,export const n = 1')).n",
      Some("1"),
    ),
    ("(await import('npm:uses-node')).path", Some("\"a/b\"")),
    ("(await import('jsr:@engine/shapes')).square(2)", Some("4")),
  ];
  let typed = format!("{}.n", import(&world.site("/typed")));
  cells(&bystander, &works).await;
  kernel.interrupt().await.ok();
  let events = kernel.result(&session).await;
  assert_eq!(events.ename(), Some("KeyboardInterrupt"), "{events:?}");
  cells(&kernel, &works).await;
  cells(&kernel, &[(&typed, Some("5")), ("kept", Some("1"))]).await;
}

#[tokio::test]
async fn a_module_that_never_comes_is_interrupted() {
  is_interrupted("SITE/hangs/one.ts", |world| {
    world.sources.site.server.requests("/hangs/one.ts")
  })
  .await;
}

#[tokio::test]
async fn a_dependency_that_never_comes_is_interrupted() {
  is_interrupted("SITE/waits.ts", |world| {
    world.sources.site.server.requests("/hangs/below.ts")
  })
  .await;
}

#[tokio::test]
async fn a_package_that_is_never_described_is_interrupted() {
  is_interrupted("npm:hanging", |world| {
    world.sources.npm.descriptions("hanging")
  })
  .await;
}

#[tokio::test]
async fn a_package_whose_archive_never_comes_is_interrupted() {
  is_interrupted("npm:hanging-archive", |world| {
    world.sources.npm.archives("hanging-archive", "1.0.0")
  })
  .await;
}

#[tokio::test]
async fn an_address_that_only_looks_like_a_packages_file_is_not_read() {
  let folder = tempfile::tempdir().expect("a folder");
  let data = folder.path().join("data");
  let secret = folder.path().join("secret.json");
  std::fs::write(&secret, r#"{"secret": 1}"#).expect("is written");
  let server = engine(&world().sources).data_dir(&data).start();
  let kernel = server.client().typescript().await;
  cells(
    &kernel,
    &[("import chunk from 'npm:lodash@4/chunk.js'", None)],
  )
  .await;
  let packages = data.join("deno/npm");
  // Out of `deno/npm` and the data directory.
  let hidden = format!("file://{}/..%2f..%2f..%2fsecret.json", packages.display());
  for attribute in ["json", "text"] {
    let code = format!("(await import({hidden:?}, {{ with: {{ type: {attribute:?} }} }})).default");
    refused(&kernel, &code, &["read access", "secret.json"]).await;
  }
  let required = format!(
    "import {{ createRequire }} from 'node:module'; createRequire('/')({:?})",
    packages.join("../../../secret.json")
  );
  refused(&kernel, &required, &["read access", "secret.json"]).await;
}
