//! Instances as kernel processes.

use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Once;
use std::sync::Weak;
use std::time::Duration;

use app_proxy::Upstream;
use app_proxy::gate::Gate;
use app_proxy::listener;
use app_proxy::listener::Listener;
use async_trait::async_trait;
use hypha_client::Artifacts;
use kernel_protocol::ErrorReport;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::ProgramEvent;
use kernels::CreateKernel;
use kernels::EnvironmentSource;
use kernels::Execution;
use kernels::Kernel;
use kernels::KernelManager;
use kernels::LaunchProgram;
use kernels::OwnFolders;
use kernels::ProgramNotice;
use kernels::Work;
use kernels::launch::Tenant;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::environment::PublishedEnvironment;
use crate::error::AppError;
use crate::id::AppId;
use crate::instance::End;
use crate::instance::Instance;
use crate::instance::InstanceEvent;
use crate::instance::Launch;
use crate::instance::Launcher;
use crate::log::AppLog;
use crate::log::Level;
use crate::manifest::Manifest;
use crate::ports;
use crate::script;
use crate::session::SessionFile;
use crate::spec::Entry;
use crate::spec::Source;

/// Notices that may wait for the log; the program waits when there are more.
const NOTICE_BUFFER: usize = 256;
/// Pause between two looks for a server on the port that a manifest names.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Launches instances as programs of the kernel manager.
pub struct KernelLauncher {
  kernels: Arc<KernelManager>,
  /// Folder for the files of all apps.
  folder: PathBuf,
  /// Source of published apps and of their tokens, and how long those are valid.
  artifacts: Option<(Arc<Artifacts>, Duration)>,
  /// Ports that the engine listens on. No app may.
  engine_ports: Vec<u16>,
}

/// An instance that is a kernel with a main program.
struct KernelInstance {
  kernel: Arc<Kernel>,
}

impl KernelLauncher {
  pub fn new(
    kernels: Arc<KernelManager>,
    folder: PathBuf,
    artifacts: Option<(Arc<Artifacts>, Duration)>,
    engine_ports: Vec<u16>,
  ) -> Self {
    Self {
      kernels,
      folder,
      artifacts,
      engine_ports,
    }
  }

  /// Folder of what an app keeps between its runs.
  fn data_folder(&self, app: &AppId) -> PathBuf {
    self.folder.join("data").join(app.as_str())
  }

  /// Folder of the files that a session has brought.
  fn session_folder(&self, app: &AppId) -> PathBuf {
    self.folder.join("sessions").join(app.as_str())
  }

  /// Folder of the files that its scripts are written to.
  fn script_folder(&self, app: &AppId) -> PathBuf {
    self.folder.join("scripts").join(app.as_str())
  }

  /// What the process has in its environment besides what is made for it.
  fn variables(launch: &Launch, data: &Path) -> Environment {
    let mut env = Environment::new();
    env.insert("APP_ID".into(), launch.app.to_string());
    env.insert("APP_DATA_DIR".into(), data.display().to_string());
    env.extend(launch.spec.manifest.env.clone());
    env
  }

  /// What makes variables for a published app.
  fn environment(&self, launch: &Launch) -> Option<Arc<dyn EnvironmentSource>> {
    let Source::Artifact { id, .. } = &launch.spec.source else {
      return None;
    };
    let (artifacts, token_life) = self.artifacts.clone()?;
    Some(Arc::new(PublishedEnvironment {
      artifacts,
      token_life,
      artifact: id.clone(),
      number: launch.number,
      log: launch.log.clone(),
    }))
  }

  /// The file with the program; a script is written to one first.
  async fn program(&self, launch: &Launch) -> Result<PathBuf, AppError> {
    match &launch.spec.entry {
      Entry::File(path) => {
        let path = tokio::fs::canonicalize(path).await;
        path.map_err(|e| AppError::Host(format!("the program cannot be read: {e}")))
      }
      Entry::Script(script) => {
        let scripts = self.folder.join("scripts");
        let folder = self.script_folder(&launch.app);
        let extension = script::extension_of(launch.spec.manifest.lang);
        // A file for each instance: two may run side by side.
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

#[async_trait]
impl Launcher for KernelLauncher {
  fn check(&self, manifest: &Manifest) -> Result<(), AppError> {
    let kernel = kernel_of(manifest, manifest.env.clone());
    let permissions = self.kernels.check_program(&kernel)?;
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

  fn new_log(&self) -> AppLog {
    AppLog::new(&self.kernels.logs)
  }

  async fn unpack(&self, app: &AppId, files: Vec<SessionFile>) -> Result<PathBuf, AppError> {
    let confinement = self.kernels.confinement().clone();
    let (apps, folder) = (self.folder.clone(), self.session_folder(app));
    let written = async {
      for file in files {
        let path = folder.join(file.path);
        tokio::fs::create_dir_all(path.parent().unwrap_or(&folder)).await?;
        tokio::fs::write(path, file.content).await?;
      }
      let given = folder.clone();
      tokio::task::spawn_blocking(move || {
        for passed in [&apps, &apps.join("sessions")] {
          confinement.make_passable(passed)?;
        }
        confinement.take_over(&given)
      })
      .await?
    };
    let written: std::io::Result<()> = written.await;
    written.map_err(|e| AppError::Host(format!("the app's files cannot be written: {e}")))?;
    Ok(folder)
  }

  async fn forget(&self, app: &AppId) {
    let folders = [
      self.data_folder(app),
      self.script_folder(app),
      self.session_folder(app),
    ];
    for folder in folders {
      if let Err(error) = tokio::fs::remove_dir_all(&folder).await
        && error.kind() != std::io::ErrorKind::NotFound
      {
        tracing::warn!(%app, "{} cannot be removed: {error}", folder.display());
      }
    }
  }

  async fn launch(
    &self,
    launch: Launch,
    events: mpsc::Sender<InstanceEvent>,
  ) -> Result<Arc<dyn Instance>, AppError> {
    let manifest = &launch.spec.manifest;
    let data = self.data_folder(&launch.app);
    let confinement = self.kernels.confinement().clone();
    let (apps, own) = (self.folder.clone(), data.clone());
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
    let program = self.program(&launch).await?;
    let folder = match &launch.spec.folder {
      Some(folder) => Some(
        tokio::fs::canonicalize(folder)
          .await
          .map_err(|e| AppError::Host(format!("the app's folder cannot be read: {e}")))?,
      ),
      None => None,
    };
    let own_address = loopback_address();
    let app = LaunchProgram {
      label: format!("app:{}", launch.app),
      tenant: match &launch.spec.source {
        Source::Session { owner, .. } => Tenant::Namespace(Some(owner.clone())),
        Source::Folder(_) | Source::File(_) | Source::Posted | Source::Artifact { .. } => {
          Tenant::Apps
        }
      },
      kernel: CreateKernel {
        environment: self.environment(&launch),
        ..kernel_of(manifest, Self::variables(&launch, &data))
      },
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
    let (sender, notices) = mpsc::channel(NOTICE_BUFFER);
    let kernel = self.kernels.launch(app, sender).await?;
    if let Some(port) = manifest.port {
      tokio::spawn(find_port(port, Arc::downgrade(&kernel), events.clone()));
    }
    let reader = NoticeReader {
      number: launch.number,
      log: launch.log,
      kernel: Arc::downgrade(&kernel),
      own_address,
    };
    tokio::spawn(reader.run(notices, events));
    Ok(Arc::new(KernelInstance { kernel }))
  }
}

#[async_trait]
impl Instance for KernelInstance {
  fn pid(&self) -> Option<u32> {
    self.kernel.pid()
  }

  async fn stop(&self, grace: Duration) {
    let report = ErrorReport::new("AppStopped", "The app was stopped while this ran");
    self.kernel.stop(grace, report).await;
  }

  fn execute(&self, code: String) -> Result<Arc<Execution>, AppError> {
    Ok(self.kernel.submit(Work::Code(code))?)
  }
}

/// A random loopback address. On Linux there are sixteen million, so that every instance has all ports
/// for itself.
fn loopback_address() -> Ipv4Addr {
  if !cfg!(target_os = "linux") {
    return Ipv4Addr::LOCALHOST;
  }
  // The last byte is never 0 or 255, and what is below 127.64 is left to the usual servers.
  let [b, c, d, ..] = Uuid::new_v4().into_bytes();
  Ipv4Addr::new(127, 64 | (b >> 1), c, 1 + d % 254)
}

/// Turns the notices of a process into log lines and events of its instance.
struct NoticeReader {
  number: u64,
  log: Arc<AppLog>,
  kernel: Weak<Kernel>,
  own_address: Ipv4Addr,
}

impl NoticeReader {
  async fn run(
    self,
    mut notices: mpsc::Receiver<ProgramNotice>,
    events: mpsc::Sender<InstanceEvent>,
  ) {
    while let Some(notice) = notices.recv().await {
      if let Some(event) = self.event(notice).await {
        // The program waits for a slow supervisor. After the app is gone, events are dropped.
        let _ = events.send(event).await;
      }
    }
  }

  async fn event(&self, notice: ProgramNotice) -> Option<InstanceEvent> {
    let event = match notice {
      ProgramNotice::Event(KernelEvent::Stream { name, text }) => {
        self.log.output(self.number, name, &text);
        return None;
      }
      // The results of executed code are for its caller.
      ProgramNotice::Event(_) => return None,
      ProgramNotice::Program(ProgramEvent::Started) => InstanceEvent::Started,
      ProgramNotice::Program(ProgramEvent::Listening { port, permitted }) => {
        InstanceEvent::Listening {
          upstream: self.upstream(port, permitted).await?,
          port: permitted.then_some(port),
        }
      }
      ProgramNotice::Program(ProgramEvent::PortTaken { port }) => InstanceEvent::PortTaken { port },
      ProgramNotice::Program(ProgramEvent::Finished { code }) => InstanceEvent::Finished { code },
      ProgramNotice::Ended(end) => InstanceEvent::Ended(End::Ended {
        reason: end.reason,
        code: end.code,
      }),
    };
    Some(event)
  }

  /// The server that a program says it has; `None` if the engine finds none that requests may go to.
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

/// The server behind a gate, or open where the system has no gates.
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

/// The socket on which a kernel's process listens on this port; `None` if there is none.
async fn find(kernel: &Kernel, port: u16) -> Option<Listener> {
  let pid = kernel.pid()?;
  let found = tokio::task::spawn_blocking(move || listener::listening(pid, port)).await;
  found.ok().flatten()
}

/// Waits until an instance listens on the port that its manifest names, and sends the event: not every
/// server that a script can start reports itself. Only a socket of its own processes counts.
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
