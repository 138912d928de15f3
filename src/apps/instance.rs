//! The process of one instance of an app.

use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Once;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::AppError;
use super::AppId;
use super::AppLog;
use super::AppSpec;
use super::Entry;
use super::Level;
use super::Manifest;
use super::Source;
use super::Upstream;
use super::artifacts::Artifacts;
use super::artifacts::ArtifactsError;
use super::manifest;
use super::ports;
use super::ports::Listener;
use super::proxy::gate::Gate;
use crate::kernel::CreateKernel;
use crate::kernel::Execution;
use crate::kernel::Kernel;
use crate::kernel::KernelError;
use crate::kernel::KernelManager;
use crate::kernel::LaunchApp;
use crate::kernel::OwnFolders;
use crate::kernel::ProgramNotice;
use crate::protocol::KernelEvent;
use crate::protocol::MainProgram;
use crate::protocol::ProgramEvent;

/// Notices that wait for the log; the program waits when there are more.
const NOTICE_BUFFER: usize = 256;
/// How often a port is tried that the manifest says the app will listen on.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// How long the token of a published app is good for; a restart brings a new one.
const TOKEN_LIFE: Duration = Duration::from_hours(24);

/// What instances are launched with.
pub struct Launcher {
  kernels: Arc<KernelManager>,
  /// Of all apps.
  folder: PathBuf,
  /// Where published apps come from, and their tokens.
  artifacts: Option<Arc<Artifacts>>,
  /// The engine's own port, which no app may have.
  /// Where the engine listens.
  engine_ports: Vec<u16>,
}

pub struct Launch {
  pub app: AppId,
  pub number: u64,
  pub spec: Arc<AppSpec>,
  /// Where its output goes.
  pub log: Arc<AppLog>,
}

#[derive(Debug)]
pub enum InstanceEvent {
  /// The main program runs.
  Started,
  Listening {
    upstream: Upstream,
    /// When the app chose it itself.
    port: Option<u16>,
  },
  PortTaken {
    port: u16,
  },
  /// The main program has ended. The process lives on, unless [`Self::Ended`] follows.
  Finished {
    code: i32,
  },
  /// The process is gone. The last event.
  Ended {
    reason: String,
    /// As a shell gives it.
    code: Option<i32>,
  },
}

pub struct Instance {
  kernel: Arc<Kernel>,
}

impl Launcher {
  pub fn new(
    kernels: Arc<KernelManager>,
    folder: PathBuf,
    artifacts: Option<Arc<Artifacts>>,
    engine_ports: Vec<u16>,
  ) -> Self {
    Self {
      kernels,
      folder,
      artifacts,
      engine_ports,
    }
  }

  /// Whether an app may be launched with this manifest.
  ///
  /// # Errors
  /// When it asks for more than the operator allows; the message names what.
  pub fn check(&self, manifest: &Manifest) -> Result<(), AppError> {
    let kernel = kernel_of(manifest, manifest.env.clone());
    let permissions = self.kernels.check_app(&kernel)?;
    match manifest.port {
      Some(port) if self.engine_ports.contains(&port) => Err(AppError::Forbidden(format!(
        "port: {port} is the engine's own; choose another"
      ))),
      Some(port) if !ports::may_listen(&permissions, port) => Err(AppError::Forbidden(format!(
        "port: listening on {port} needs the permission `net` for 127.0.0.1:{port}, inside what the \
         operator allows with KERNEL_PERMISSIONS_MAX; without `port`, servers of TypeScript and \
         JavaScript are reached without it"
      ))),
      _ => Ok(()),
    }
  }

  /// The log of a new app.
  pub fn new_log(&self) -> AppLog {
    AppLog::new(&self.kernels.logs)
  }

  /// What an app may keep between its runs.
  fn data_folder(&self, app: &AppId) -> PathBuf {
    self.folder.join("data").join(app.as_str())
  }

  async fn environment(&self, launch: &Launch, data: &Path) -> Result<Environment, AppError> {
    let mut env = Environment::new();
    env.insert("APP_ID".into(), launch.app.to_string());
    env.insert("APP_DATA_DIR".into(), data.display().to_string());
    if let (Source::Artifact { id, .. }, Some(artifacts)) = (&launch.spec.source, &self.artifacts) {
      env.insert("HYPHA_SERVER_URL".into(), artifacts.server_url().into());
      if let Some(workspace) = artifacts.workspace() {
        env.insert("HYPHA_WORKSPACE".into(), workspace.into());
      }
      match artifacts.token_for(id, TOKEN_LIFE).await {
        Ok(token) => {
          env.insert("HYPHA_TOKEN".into(), token.expose().to_owned());
        }
        Err(
          error @ (ArtifactsError::NoToken
          | ArtifactsError::NoWorkspace
          | ArtifactsError::TooPowerful),
        ) => {
          launch
            .log
            .note(launch.number, Level::Warning, error.to_string());
        }
        Err(error) => return Err(AppError::Host(error.to_string())),
      }
    }
    env.extend(launch.spec.manifest.env.clone());
    Ok(env)
  }

  /// The file with the program.
  async fn program(&self, launch: &Launch) -> Result<PathBuf, AppError> {
    match &launch.spec.entry {
      Entry::File(path) => {
        let path = tokio::fs::canonicalize(path).await;
        path.map_err(|e| AppError::Host(format!("the program cannot be read: {e}")))
      }
      Entry::Script(script) => {
        let scripts = self.folder.join("scripts");
        let folder = scripts.join(launch.app.as_str());
        let extension = manifest::extension_of(launch.spec.manifest.lang);
        // One for each instance: two may run side by side.
        let path = folder.join(format!("main-{}.{extension}", launch.number));
        let written = async {
          if launch.number == 1 {
            let _ = tokio::fs::remove_dir_all(&folder).await;
          }
          let confinement = self.kernels.confinement();
          for passed in [&self.folder, &scripts, &folder] {
            confinement.make_passable(passed)?;
          }
          tokio::fs::write(&path, script).await?;
          confinement.make_readable(&path)?;
          tokio::fs::canonicalize(&path).await
        };
        let path = written.await;
        path.map_err(|e| AppError::Host(format!("the program cannot be written: {e}")))
      }
    }
  }
}

fn kernel_of(manifest: &Manifest, env: Environment) -> CreateKernel {
  CreateKernel {
    language: manifest.lang,
    env,
    permissions: manifest.permissions.clone(),
    limits: manifest.limits,
    ..Default::default()
  }
}

type Environment = std::collections::BTreeMap<String, String>;

impl Instance {
  /// Starts the process and, in it, the main program.
  ///
  /// # Errors
  /// When the app asks for more than the operator allows, or no process can be started.
  pub async fn launch(
    launch: Launch,
    launcher: &Launcher,
    events: mpsc::Sender<InstanceEvent>,
  ) -> Result<Arc<Self>, AppError> {
    let manifest = &launch.spec.manifest;
    let data = launcher.data_folder(&launch.app);
    let confinement = launcher.kernels.confinement();
    let (apps, own) = (launcher.folder.clone(), data.clone());
    let made = tokio::task::spawn_blocking(move || {
      for passed in [&apps, &apps.join("data")] {
        confinement.make_passable(passed)?;
      }
      confinement.take_over(&own)
    });
    made
      .await
      .unwrap_or_else(|e| Err(e.into()))
      .map_err(|e| AppError::Host(format!("the app's folder cannot be made: {e}")))?;
    let program = launcher.program(&launch).await?;
    let folder = match &launch.spec.folder {
      Some(folder) => Some(
        tokio::fs::canonicalize(folder)
          .await
          .map_err(|e| AppError::Host(format!("the app's folder cannot be read: {e}")))?,
      ),
      None => None,
    };
    let own_address = loopback_address();
    let app = LaunchApp {
      name: format!("app:{}", launch.app),
      kernel: kernel_of(manifest, launcher.environment(&launch, &data).await?),
      folders: OwnFolders {
        working: folder.clone().unwrap_or_else(|| data.clone()),
        read: folder
          .into_iter()
          .chain([program.clone(), data.clone()])
          .collect(),
        write: vec![data],
      },
      own_address: Some(own_address),
      program: MainProgram {
        path: program,
        args: Vec::new(),
        behind_engine: true,
        stdin: None,
      },
    };
    let (notices, heard) = mpsc::channel(NOTICE_BUFFER);
    let kernel = launcher.kernels.launch(app, notices).await?;
    if let Some(port) = manifest.port {
      tokio::spawn(find_port(port, Arc::downgrade(&kernel), events.clone()));
    }
    let hearing = Hearing {
      number: launch.number,
      log: launch.log,
      kernel: Arc::downgrade(&kernel),
      own_address,
    };
    tokio::spawn(hearing.hear(heard, events));
    Ok(Arc::new(Self { kernel }))
  }

  pub fn pid(&self) -> Option<u32> {
    self.kernel.pid()
  }

  /// Asks the process to end, ends it after `grace`, and returns when it is gone.
  pub async fn stop(&self, grace: Duration) {
    self.kernel.stop(grace).await;
  }

  /// Executes code beside the main program.
  ///
  /// # Errors
  /// When the process is gone, or too much code waits.
  pub fn execute(&self, code: String) -> Result<Arc<Execution>, AppError> {
    Ok(self.kernel.submit(code)?)
  }
}

/// One of the addresses of this machine's loopback network: on Linux there are sixteen million, so that
/// every instance has all ports for itself.
fn loopback_address() -> Ipv4Addr {
  if !cfg!(target_os = "linux") {
    return Ipv4Addr::LOCALHOST;
  }
  // Without 0 and 255 at the end, and not where servers usually listen.
  let [b, c, d, ..] = Uuid::new_v4().into_bytes();
  Ipv4Addr::new(127, 64 | (b >> 1), c, 1 + d % 254)
}

/// What listens to an instance.
struct Hearing {
  number: u64,
  log: Arc<AppLog>,
  kernel: Weak<Kernel>,
  own_address: Ipv4Addr,
}

impl Hearing {
  async fn hear(
    self,
    mut notices: mpsc::Receiver<ProgramNotice>,
    events: mpsc::Sender<InstanceEvent>,
  ) {
    while let Some(notice) = notices.recv().await {
      let event = match notice {
        ProgramNotice::Event(KernelEvent::Stream { name, text }) => {
          self.log.output(self.number, name, &text);
          continue;
        }
        // The results of code that is executed in the app are for who executes it.
        ProgramNotice::Event(_) => continue,
        ProgramNotice::Program(ProgramEvent::Started) => InstanceEvent::Started,
        ProgramNotice::Program(ProgramEvent::Listening { port, permitted }) => {
          match self.upstream(port, permitted).await {
            Some(upstream) => InstanceEvent::Listening {
              upstream,
              port: permitted.then_some(port),
            },
            None => continue,
          }
        }
        ProgramNotice::Program(ProgramEvent::PortTaken { port }) => {
          InstanceEvent::PortTaken { port }
        }
        ProgramNotice::Program(ProgramEvent::Finished { code }) => InstanceEvent::Finished { code },
        ProgramNotice::Ended(end) => InstanceEvent::Ended {
          reason: end.reason,
          code: end.code,
        },
      };
      // The program waits for a slow supervisor. Nobody listens once the app is gone.
      let _ = events.send(event).await;
    }
  }

  /// Where a server is that the program says it has: found by the engine, or not at all.
  async fn upstream(&self, port: u16, permitted: bool) -> Option<Upstream> {
    let kernel = self.kernel.upgrade()?;
    match find(&kernel, port).await {
      Some(found) if permitted && ports::may_listen(&kernel.approved.host.permissions, port) => {
        Some(Upstream::open(found.address))
      }
      Some(found) if !permitted && found.address.ip() == self.own_address => Some(gated(found)),
      _ => {
        let text = format!(
          "the app says that it listens on port {port}, but has no such server that requests may go to"
        );
        self.log.note(self.number, Level::Warning, text);
        None
      }
    }
  }
}

/// A server that only the engine reaches, where the system makes that possible.
fn gated(found: Listener) -> Upstream {
  static WARNED: Once = Once::new();
  let address = found.address;
  match Gate::close(found) {
    Ok(gate) => Upstream::gated(gate),
    Err(error) => {
      WARNED.call_once(|| {
        tracing::warn!(
          "programs of this machine can reach apps past the engine: their servers cannot be closed to \
           them ({error}); it takes CAP_NET_ADMIN or an older system, see docs/security.md"
        );
      });
      Upstream::open(address)
    }
  }
}

/// What a kernel's process listens with on this port, if it does.
async fn find(kernel: &Kernel, port: u16) -> Option<Listener> {
  let pid = kernel.pid()?;
  let found = tokio::task::spawn_blocking(move || ports::listening(pid, port)).await;
  found.ok().flatten()
}

/// Tells when an instance listens on the port that its manifest names: not every server that a script
/// can start lets the engine know. Only a socket of its own processes counts.
async fn find_port(port: u16, kernel: Weak<Kernel>, events: mpsc::Sender<InstanceEvent>) {
  while let Some(kernel) = kernel.upgrade().filter(|kernel| kernel.pid().is_some()) {
    if let Some(found) = find(&kernel, port).await {
      let event = InstanceEvent::Listening {
        upstream: Upstream::open(found.address),
        port: Some(port),
      };
      let _ = events.send(event).await;
      return;
    }
    drop(kernel);
    tokio::time::sleep(PROBE_INTERVAL).await;
  }
}

impl From<KernelError> for AppError {
  fn from(error: KernelError) -> Self {
    let message = error.to_string();
    match error {
      KernelError::Invalid(_) => Self::Invalid(message),
      KernelError::Forbidden(_) | KernelError::Unsupported(_) => Self::Forbidden(message),
      KernelError::LimitReached(_) => Self::LimitReached(message),
      KernelError::Conflict(_) | KernelError::Exists(_) => Self::Conflict(message),
      KernelError::NotFound
      | KernelError::UnknownId(_)
      | KernelError::SessionNotFound
      | KernelError::TookTooLong(_)
      | KernelError::Host(_) => Self::Host(message),
    }
  }
}
