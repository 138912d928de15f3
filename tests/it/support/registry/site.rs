//! A web site with modules on it.

use super::Loopback;
use super::Reply;
use super::Request;

/// A WebAssembly module that exports `add(i32, i32) -> i32`.
pub(crate) const ADD_WASM: &[u8] = &[
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100,
  100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11,
];

pub(crate) struct Site {
  pub server: Loopback,
}

impl Site {
  pub(crate) fn start() -> Self {
    Self {
      server: Loopback::start(page),
    }
  }

  pub(crate) fn url(&self, path: &str) -> String {
    self.server.url(path)
  }
}

fn typescript(text: &str) -> Reply {
  Reply::content("application/typescript", text)
}

fn javascript(text: &str) -> Reply {
  Reply::content("text/javascript; charset=utf-8", text)
}

fn page(request: &Request) -> Reply {
  match request.path.as_str() {
    // A tree of every kind of module.
    "/main.ts" => typescript(
      "import { double } from './lib/double.ts';
       import { shout } from './lib/shout.js';
       import data from './data.json' with { type: 'json' };
       import note from './note.txt' with { type: 'text' };
       import { add } from './add.wasm';
       export const all: string = [double(data.n), shout(note), add(20, 1)].join(' ');
       export const url: string = import.meta.url;",
    ),
    "/lib/double.ts" => typescript(
      "import { times } from '../times.ts'; export const double = (n: number): number => times(n, 2);",
    ),
    "/times.ts" => typescript("export const times = (a: number, b: number): number => a * b;"),
    "/lib/shout.js" => javascript("export const shout = (text) => text.trim().toUpperCase();"),
    "/data.json" => Reply::content("application/json", r#"{"n": 4}"#),
    "/broken.json" => Reply::content("application/json", r#"{"n": "#),
    "/note.txt" => Reply::content("text/plain; charset=utf-8", "héllo\n"),
    "/add.wasm" => Reply::content("application/wasm", ADD_WASM),
    "/broken.wasm" => Reply::content("application/wasm", &ADD_WASM[..20]),

    // The media type decides, not the name.
    "/typed" => typescript("export const n: number = 5;"),
    "/typed.js" => typescript("export const n: number = 6;"),
    "/page.ts" => Reply::content("text/html", "<!doctype html><p>not a module</p>"),

    "/moved.ts" => Reply::Redirect("/real/here.ts".into()),
    "/moved-away.ts" => Reply::Redirect("http://10.1.2.3:9/away.ts".into()),
    "/round.ts" => Reply::Redirect("/round.ts".into()),
    "/real/here.ts" => {
      typescript("export { beside } from './beside.ts'; export const url = import.meta.url;")
    }
    "/real/beside.ts" => typescript("export const beside: string = 'beside the real one';"),

    "/cycle/odd.ts" => typescript(
      "import { even } from './even.ts'; export const odd = (n: number): boolean => n > 0 && even(n - 1);",
    ),
    "/cycle/even.ts" => typescript(
      "import { odd } from './odd.ts'; export const even = (n: number): boolean => n === 0 || odd(n - 1);",
    ),

    "/with-types.js" => Reply::Content {
      content_type: "text/javascript",
      headers: vec![("x-typescript-types", "./with-types.d.ts".into())],
      body: b"export const n = 7;".into(),
    },
    "/with-types.d.ts" => typescript("export const n: number;"),

    "/counter.ts" => typescript("export let count = 0; export const up = () => ++count;"),
    "/lazy.ts" => typescript("export const later = (name: string) => import(`./${name}.ts`);"),
    "/worker.ts" => {
      typescript("import { times } from './times.ts'; postMessage(times(6, 7) as number);")
    }
    "/local.ts" => typescript("import 'file:///etc/hostname';"),
    "/bare.ts" => typescript("import { n } from 'nowhere'; export { n };"),

    "/deep/one.ts" => typescript("export * from './two.ts';"),
    "/deep/two.ts" => typescript("export * from './none.ts';"),
    "/broken/entry.ts" => typescript("export * from './syntax.ts';"),
    "/broken/syntax.ts" => typescript("export const ok = 1;\nexport const = 2;"),
    "/broken/throws.ts" => {
      typescript("const n: number = 1;\nthrow new RangeError('thrown while loading ' + n);")
    }
    "/broken/no-export.ts" => typescript("import { nothing } from '../times.ts'; nothing();"),
    "/fails.ts" => Reply::Status(500),
    "/waits.ts" => typescript("import './hangs/below.ts';"),
    path if path.starts_with("/hangs/") => Reply::Hang,
    _ => Reply::Status(404),
  }
}
