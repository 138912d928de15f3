//! What it costs to make a script of a cell, which comes before every run of one.

use std::fmt::Write;
use std::hint::black_box;

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use v8_host::inside;

const SMALL: &str = "const answer: number = 6 * 7;\nanswer";

/// As people write them in notebooks.
const USUAL: &str = r#"
import { parse } from "jsr:@std/csv@1";
interface Row { name: string; value: number }
const text = await Deno.readTextFile("data.csv");
export const rows: Row[] = parse(text, { skipFirstRow: true }).map((row) => ({
  name: String(row["name"]),
  value: Number(row["value"]),
}));
function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
console.log(`${rows.length} rows, mean ${mean(rows.map((row) => row.value)).toFixed(2)}`);
rows.slice(0, 10)
"#;

fn transpile(criterion: &mut Criterion) {
  let mut large = String::new();
  for number in 0..500 {
    let _ = writeln!(
      large,
      "export class Part{number} {{ constructor(private value: number) {{}} get() {{ return this.value }} }}"
    );
  }
  let mut group = criterion.benchmark_group("transpile");
  for (name, cell) in [("small", SMALL), ("usual", USUAL), ("large", &large)] {
    group.throughput(Throughput::Bytes(cell.len() as u64));
    group.bench_function(name, |b| {
      b.iter(|| inside::script_of_cell(black_box(cell)).expect("a cell"));
    });
  }
  group.finish();
}

criterion_group!(benches, transpile);
criterion_main!(benches);
