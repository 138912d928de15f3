//! The engine inside another program: a cell of TypeScript and one of Python, an app, and a query to the
//! vector database, without HTTP. Run it with `cargo run -p embed-example` after `scripts/setup.sh`.

use std::error::Error;
use std::io::Write;
use std::io::stdout;

use embed::Options;
use embed::engine::access::Caller;
use embed::engine::apps::WrittenManifest;
use embed::engine::kernels::CreateKernel;
use embed::engine::kernels::Language;
use embed::engine::vectordb::CreateIndex;
use embed::engine::vectordb::NewDocument;
use embed::engine::vectordb::QueryRequest;
use embed::pyodide_dist::Distribution;

fn main() -> Result<(), Box<dyn Error>> {
  // Kernel processes are this very program, started once more: this is where they go on.
  embed::main_hook();
  tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
  let mut out = stdout();
  let data_dir = tempfile::tempdir()?;
  // `scripts/setup.sh` has made it, and tells cargo where it is.
  let pyodide = option_env!("PYODIDE_DIST_DIR").map(|folder| Distribution::Folder(folder.into()));
  let engine = embed::start(Options::new(data_dir.path(), pyodide)).await?;
  let me = Caller::operator();

  for (language, code) in [
    (
      Language::TypeScript,
      "console.log('computing…'); const n: number = 6; n * 7",
    ),
    (Language::Python, "print('computing…'); sum(range(10))"),
  ] {
    let request = CreateKernel {
      language,
      ..Default::default()
    };
    let kernel = engine.kernels.create(&me, request).await?;
    let execution = engine
      .kernels
      .submit(&me, kernel.id.as_str(), code.into())?;
    let mut events = execution.reader(0);
    while let Some((_, event)) = events.next().await {
      writeln!(out, "{language}: {}", serde_json::to_string(&*event)?)?;
    }
  }

  let manifest = r#"{"id": "hello", "startup_script": "Deno.serve(() => new Response('hello'))"}"#;
  let app = engine
    .apps
    .create(&me, WrittenManifest::parse(manifest)?)
    .await?;
  writeln!(out, "app: {} is {:?}", app.id, app.settled().await.state)?;

  let index = CreateIndex {
    id: Some("notes".into()),
    ..Default::default()
  };
  engine.vectors.create(&me, index).await?;
  let notes = ["kernels run code", "apps serve requests"]
    .into_iter()
    .enumerate();
  let documents = notes.map(|(i, text)| NewDocument {
    id: i.to_string(),
    text: Some(text.into()),
    ..Default::default()
  });
  engine
    .vectors
    .add(&me, "default:notes", documents.collect())
    .await?;
  let query = QueryRequest {
    text: Some("kernels run code".into()),
    k: 1,
    ..Default::default()
  };
  for hit in engine.vectors.query(&me, "default:notes", query).await? {
    writeln!(
      out,
      "found: {} with {:.2}",
      hit.text.unwrap_or_default(),
      hit.score
    )?;
  }
  engine.shut_down().await;
  Ok(())
}
