//! The engine itself: whether it is well, and how busy.

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use access::timestamp;
use chrono::Utc;
use engine::kernels::Kernel;
use engine::kernels::resident_bytes;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::kernels::busy;
use crate::method::Call;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::answer;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new("health", "Says that the engine answers", health),
    Method::new(
      "getStatus",
      "Tells what runs, and how full the engine is",
      status,
    ),
    Method::new(
      "getEngineLoad",
      "How many kernels there are: the least loaded engine has the least",
      load,
    ),
  ]
}

fn resident() -> u64 {
  resident_bytes(std::process::id()).unwrap_or_default()
}

async fn health(call: Call<Nothing>) -> Outcome {
  let resident = resident();
  answer(json!({
    "status": "healthy",
    "timestamp": timestamp(Utc::now()),
    "uptime": call.service.engine.started.elapsed().as_secs(),
    "memoryUsage": { "rss": resident, "heapUsed": resident },
  }))
}

async fn load(call: Call<Nothing>) -> Outcome {
  let stats = call.service.engine.kernels.stats(&Caller::operator())?;
  answer(stats.total)
}

async fn status(call: Call<Nothing>) -> Outcome {
  let engine = &call.service.engine;
  let all = engine.kernels.all();
  let own = engine.kernels.list(&call.asker.caller(), None)?;
  let stats = engine.kernels.stats(&Caller::operator())?;
  let uptime = engine.started.elapsed();
  let resident = resident();
  let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
  let pool = &engine.kernels.options.pool;
  let preloaded = pool.preload.iter().flatten();
  let preloaded: Vec<String> = preloaded.map(ToString::to_string).collect();
  let mut statistics = Map::new();
  statistics.insert(
    "worker".to_owned(),
    json!({ "available": stats.pool.available, "total": stats.pool.total }),
  );
  answer(json!({
    "systemStats": {
      "uptime": uptime.as_secs(),
      "uptimeFormatted": days(uptime),
      "memoryUsage": {
        "heapTotal": megabytes(resident),
        "heapUsed": megabytes(resident),
        "rss": megabytes(resident),
        "external": megabytes(0),
      },
      "avgMemoryPerKernel": megabytes(resident.checked_div(count).unwrap_or_default()),
      "cpuUsage": format!("{}%", 100 * busy(&all) / cores()),
    },
    "kernelStats": {
      "total": all.len(),
      "namespaceCount": own.len(),
      "activeExecutions": { "total": active(&all), "namespace": active(&own) },
      "executionsByStatus": { "total": by_status(&all), "namespace": by_status(&own) },
    },
    "poolStats": {
      "config": {
        "enabled": pool.enabled,
        "poolSize": pool.size,
        "autoRefill": pool.auto_refill,
        "preloadConfigs": preloaded,
        "isPreloading": stats.pool.available < stats.pool.total,
      },
      "statistics": statistics,
    },
  }))
}

fn cores() -> usize {
  std::thread::available_parallelism().map_or(1, usize::from)
}

fn active(kernels: &[Arc<Kernel>]) -> usize {
  kernels.iter().map(|kernel| kernel.unfinished().len()).sum()
}

fn by_status(kernels: &[Arc<Kernel>]) -> Value {
  let unfinished = kernels.iter().flat_map(|kernel| {
    let most = kernel.max_execution_time;
    kernel
      .unfinished()
      .into_iter()
      .map(move |it| it.runtime().zip(most).is_some_and(|(ran, most)| ran > most))
  });
  let stuck: Vec<bool> = unfinished.collect();
  let count = stuck.iter().filter(|stuck| **stuck).count();
  json!({ "active": stuck.len() - count, "stuck": count })
}

/// As `1d 2h 3m 4s`.
pub(super) fn days(time: Duration) -> String {
  let seconds = time.as_secs();
  let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
  format!(
    "{days}d {}h {}m {}s",
    hours % 24,
    minutes % 60,
    seconds % 60
  )
}

/// As `12.34 MB`.
fn megabytes(bytes: u64) -> String {
  format!("{:.2} MB", bytes as f64 / (1024.0 * 1024.0))
}
