//! Everything that modules come from, with packages for every way things go right or wrong.

use std::time::Duration;

use serde_json::json;

use super::jsr::JsrPackage;
use super::jsr::JsrRegistry;
use super::loopback::speaking_garbage;
use super::npm::Fault;
use super::npm::NpmPackage;
use super::npm::NpmRegistry;
use super::npm::npm_archives;
use super::site::Site;

pub(crate) struct Sources {
  pub npm: NpmRegistry,
  pub jsr: JsrRegistry,
  pub site: Site,
  /// Where no HTTP is spoken.
  pub garbage_port: u16,
}

impl Sources {
  /// With the real packages of `tests/npm-packages.txt`, and those below.
  pub(crate) fn start() -> Self {
    Self::of(NpmRegistry::packages_in(&npm_archives()))
  }

  /// Only with the packages below.
  pub(crate) fn small() -> Self {
    Self::of(Vec::new())
  }

  fn of(real: Vec<NpmPackage>) -> Self {
    Self {
      npm: NpmRegistry::start(real.into_iter().chain(own_npm_packages())),
      jsr: JsrRegistry::start(own_jsr_packages()),
      site: Site::start(),
      garbage_port: speaking_garbage(),
    }
  }
}

fn own_npm_packages() -> Vec<NpmPackage> {
  let plain = |name: &str| {
    NpmPackage::of(
      json!({"name": name, "version": "1.0.0", "main": "index.js"}),
      &[("index.js", "module.exports = 'loaded';")],
    )
  };
  vec![
    plain("wrong-integrity").with(Fault::WrongIntegrity),
    plain("wrong-shasum").with(Fault::WrongShasum),
    plain("truncated").with(Fault::TruncatedArchive),
    plain("missing-archive").with(Fault::MissingArchive),
    plain("hanging-archive").with(Fault::HangingArchive),
    plain("slow-archive").with(Fault::SlowArchive(Duration::from_millis(300))),
    plain("garbage").with(Fault::Garbage),
    plain("hanging").with(Fault::HangingDescription),
    plain("failing").with(Fault::ServerError),
    NpmPackage::of(
      json!({"name": "leads-out", "version": "1.0.0", "main": "index.js"}),
      &[
        ("index.js", "module.exports = 'loaded';"),
        ("../../../../leads-out-1", "evil"),
        ("../../../../../../../../tmp/leads-out-2", "evil"),
      ],
    ),
    NpmPackage::of(
      json!({"name": "needs-missing", "version": "1.0.0", "main": "index.js",
             "dependencies": {"is-not-there": "^1.0.0"}}),
      &[("index.js", "module.exports = require('is-not-there');")],
    ),
    NpmPackage::of(
      json!({"name": "broken-syntax", "version": "1.0.0", "type": "module", "main": "index.js"}),
      &[("index.js", "export const ok = 1;\nexport const = 2;")],
    ),
    NpmPackage::of(
      json!({"name": "uses-node", "version": "1.0.0", "type": "module", "exports": "./index.js"}),
      &[(
        "index.js",
        "import { createHash } from 'crypto'; import { join } from 'node:path';
         export const sum = (text) => createHash('sha256').update(text).digest('hex');
         export const path = join('a', 'b');",
      )],
    ),
    NpmPackage::of(
      json!({"name": "calls-require", "version": "1.0.0", "main": "main.cjs"}),
      &[
        ("main.cjs", "const part = require('./lib/part'); const { basename } = require('path');
          exports.all = [part.name, require('./data.json').n, basename(__filename), typeof module].join(' ');"),
        ("lib/part.js", "exports.name = 'part';"),
        ("data.json", r#"{"n": 3}"#),
      ],
    ),
    NpmPackage::of(
      json!({"name": "@engine/scoped", "version": "1.0.0", "main": "index.js"}),
      &[("index.js", "exports.version = '1.0.0';")],
    ),
    NpmPackage::of(
      json!({"name": "@engine/scoped", "version": "2.1.0", "main": "index.js"}),
      &[("index.js", "exports.version = '2.1.0';")],
    ),
    // Its script, if it were run, would leave a file.
    NpmPackage::of(
      json!({"name": "runs-script", "version": "1.0.0", "main": "index.js",
             "scripts": {"postinstall": "node install.js"}}),
      &[
        ("index.js", "exports.loaded = true;"),
        ("install.js", "require('fs').writeFileSync(__dirname + '/script-has-run', '');"),
      ],
    ),
    NpmPackage::of(
      json!({"name": "reads-host", "version": "1.0.0", "main": "index.js"}),
      &[(
        "index.js",
        "exports.host = () => require('fs').readFileSync('/etc/hostname', 'utf8');",
      )],
    ),
  ]
}

fn own_jsr_packages() -> Vec<JsrPackage> {
  vec![
    JsrPackage::of(
      "@engine/shapes",
      "1.2.0",
      json!({".": "./mod.ts", "./units": "./units.ts"}),
      &[
        (
          "/mod.ts",
          "import { times } from 'jsr:@engine/numbers@^1.0.0';
           import { area } from './area.ts';
           export const square = (side: number): number => area(side, times(side, 1));",
        ),
        (
          "/area.ts",
          "export function area(a: number, b: number): number { return a * b; }",
        ),
        ("/units.ts", "export const unit: string = 'cm';"),
      ],
    ),
    JsrPackage::of(
      "@engine/numbers",
      "1.0.1",
      json!({".": "./mod.ts"}),
      &[(
        "/mod.ts",
        "export const times = (a: number, b: number): number => a * b;",
      )],
    ),
    JsrPackage::of(
      "@engine/tampered",
      "1.0.0",
      json!({".": "./mod.ts"}),
      &[
        ("/mod.ts", "export * from './inner.ts';"),
        ("/inner.ts", "export const n: number = 1;"),
      ],
    )
    .tampered("/inner.ts"),
  ]
}
