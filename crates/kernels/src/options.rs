//! What a kernel may be created with, and what the operator lets it have of that.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kernel_protocol::CaStore;
use kernel_protocol::HostConfig;
use kernel_protocol::HostPermissions;
use kernel_protocol::MainProgram;
use kernel_protocol::MountConfig;
use kernel_protocol::RegistryAuth;
use sandbox::Confinement;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::EnvironmentSource;
use crate::KernelError;
use crate::KernelType;
use crate::Language;
use crate::Mode;
use crate::lasting::LastingFolders;
use crate::launch::Tenant;
use crate::mounts::MountRoot;
use crate::mounts::MountSource;

/// Where a mount appears when nothing else is said, as the original had it.
const DEFAULT_MOUNT_POINT: &str = "/home/pyodide";

/// What the operator decides about kernels.
#[derive(Debug, Clone)]
pub struct KernelOptions {
  /// Types that clients may create.
  pub allowed: Vec<KernelType>,
  pub pool: PoolOptions,
  /// Most kernels at one time.
  pub max_count: usize,
  /// Largest JavaScript heap of a kernel, and its default, in MiB.
  pub max_heap_mb: u64,
  /// Most memory of a kernel process, and its default, in MiB.
  pub max_memory_mb: u64,
  /// Most output kept of one execution, and its default, in bytes.
  pub max_output_bytes: u64,
  /// The most a kernel may be permitted.
  pub permissions_max: PermissionRequest,
  /// Folders of the host that kernels may mount.
  pub mount_roots: Vec<MountRoot>,
  /// Where the lasting files are that kernels may mount; `None` where there are none.
  pub lasting_files: Option<LastingFolders>,
  /// Memory of all logs, of executions and programs together, in bytes.
  pub logs_memory_bytes: usize,
  /// The part of it that one namespace may have, in bytes.
  pub logs_memory_bytes_per_namespace: usize,
  /// How the processes of kernels are confined.
  pub confinement: Confinement,
  /// What opens the package registries.
  pub registry_auth: Vec<RegistryAuth>,
  /// PEM file with certificate authorities that kernels trust besides the usual ones.
  pub certificates: Option<PathBuf>,
  /// Whose certificate authorities kernels trust.
  pub ca_stores: Vec<CaStore>,
  /// Interpreter of CPython kernels that name none.
  pub cpython_executable: PathBuf,
  /// Others that a kernel may name.
  pub cpython_others: Vec<PathBuf>,
}

/// Blank kernels that are kept ready.
#[derive(Debug, Clone)]
pub struct PoolOptions {
  pub enabled: bool,
  /// How many of each runtime.
  pub size: usize,
  /// Whether one that is taken is replaced.
  pub auto_refill: bool,
  /// Types to keep ready; `None` for the allowed types of Python.
  pub preload: Option<Vec<KernelType>>,
}

impl Default for KernelOptions {
  /// What a server without settings has.
  fn default() -> Self {
    let worker = |language| KernelType {
      mode: Mode::Worker,
      language,
    };
    Self {
      allowed: [Language::Python, Language::TypeScript, Language::JavaScript]
        .map(worker)
        .into(),
      pool: PoolOptions {
        enabled: true,
        size: 2,
        auto_refill: true,
        preload: None,
      },
      max_count: 200,
      max_heap_mb: 512,
      max_memory_mb: 2048,
      max_output_bytes: 32 << 20,
      permissions_max: PermissionRequest::default(),
      mount_roots: Vec::new(),
      lasting_files: None,
      logs_memory_bytes: 256 << 20,
      logs_memory_bytes_per_namespace: 128 << 20,
      confinement: Confinement::default(),
      registry_auth: Vec::new(),
      certificates: None,
      ca_stores: vec![CaStore::Mozilla],
      cpython_executable: "python3".into(),
      cpython_others: Vec::new(),
    }
  }
}

impl KernelOptions {
  /// Types to keep ready; those that are not allowed are left out.
  pub fn preload(&self) -> Vec<KernelType> {
    let Some(wanted) = &self.pool.preload else {
      let in_v8 = |kind: &&KernelType| kind.language != Language::CPython;
      return self.allowed.iter().filter(in_v8).copied().collect();
    };
    let (allowed, dropped): (Vec<_>, Vec<_>) = wanted
      .iter()
      .copied()
      .partition(|kind| self.allowed.contains(kind));
    for kind in dropped {
      tracing::warn!("KERNEL_POOL_PRELOAD_CONFIGS: {kind} is not an allowed kernel type, ignored");
    }
    allowed
  }
}

/// A request for a kernel.
#[derive(Debug, Clone, Default)]
pub struct CreateKernel {
  pub id: Option<String>,
  pub namespace: Option<String>,
  pub mode: Mode,
  pub language: Language,
  pub env: BTreeMap<String, String>,
  /// Makes more variables, at each start and from time to time.
  pub environment: Option<Arc<dyn EnvironmentSource>>,
  /// The interpreter of a CPython kernel, when it is not the operator's default.
  pub python: Option<PathBuf>,
  pub filesystem: Option<Filesystem>,
  pub permissions: PermissionRequest,
  /// Ends the kernel when nothing was done with it for that long.
  pub inactivity_timeout: Option<Duration>,
  /// Treats an execution that runs longer as stalled.
  pub max_execution_time: Option<Duration>,
  pub limits: Limits,
}

/// A host directory shown to the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Filesystem {
  /// `false` leaves the mount out.
  #[serde(default = "enabled")]
  pub enabled: bool,
  /// Directory on the host; must lie inside one of the operator's KERNEL_MOUNT_ROOTS.
  #[serde(default)]
  #[schema(value_type = Option<String>)]
  pub root: Option<PathBuf>,
  /// Instead of `root`: a directory of the namespace's lasting files, as `/api/files` names it; empty
  /// for all of them.
  #[serde(default)]
  pub files: Option<String>,
  /// Absolute path the kernel sees it at.
  #[serde(default = "default_mount_point")]
  #[schema(value_type = String)]
  pub mount_point: PathBuf,
}

fn enabled() -> bool {
  true
}

fn default_mount_point() -> PathBuf {
  DEFAULT_MOUNT_POINT.into()
}

/// What a kernel may use; each at most the operator's own, which is also the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
  /// JavaScript heap, in MiB.
  #[schema(minimum = 64)]
  #[serde(skip_serializing_if = "Option::is_none")]
  pub heap_mb: Option<u64>,
  /// Memory of the kernel's process, in MiB.
  #[schema(minimum = 128)]
  #[serde(skip_serializing_if = "Option::is_none")]
  pub memory_mb: Option<u64>,
  /// Output kept of one execution, in bytes.
  #[schema(minimum = 1024)]
  #[serde(skip_serializing_if = "Option::is_none")]
  pub output_bytes: Option<u64>,
}

/// One permission: everything, nothing, or the listed things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "true, false or a list of strings")]
pub enum Grant {
  All(bool),
  List(Vec<String>),
}

/// Deno's permissions, as `deno.permissions` of the original; what is left out keeps the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionRequest {
  #[serde(skip_serializing_if = "Option::is_none")]
  pub read: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub write: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub net: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub env: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub run: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub ffi: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub sys: Option<Grant>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub import: Option<Grant>,
}

impl PermissionRequest {
  /// All of every kind.
  pub fn everything() -> Self {
    let all = Some(Grant::All(true));
    Self {
      read: all.clone(),
      write: all.clone(),
      net: all.clone(),
      env: all.clone(),
      run: all.clone(),
      ffi: all.clone(),
      sys: all.clone(),
      import: all,
    }
  }
}

impl FromStr for PermissionRequest {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
  }
}

impl Grant {
  fn as_deno(&self) -> Option<Vec<String>> {
    match self {
      Self::All(true) => Some(Vec::new()),
      Self::All(false) => None,
      Self::List(list) if list.is_empty() => None,
      Self::List(list) => Some(list.clone()),
    }
  }

  /// What of `self` goes beyond `ceiling`, in words.
  fn beyond(&self, ceiling: &Self, within: fn(&str, &str) -> bool) -> Option<String> {
    match (self, ceiling) {
      (_, Self::All(true)) | (Self::All(false), _) => None,
      (Self::All(true), _) => Some("everything".into()),
      (Self::List(wanted), Self::All(false)) => wanted.first().cloned(),
      (Self::List(wanted), Self::List(allowed)) => wanted
        .iter()
        .find(|w| !allowed.iter().any(|a| within(w, a)))
        .cloned(),
    }
  }
}

/// The merged, checked configuration of a kernel that will be made.
#[derive(Debug, Clone)]
pub struct Approved {
  /// Without what `environment` makes.
  pub host: HostConfig,
  pub environment: Option<Arc<dyn EnvironmentSource>>,
  /// The directories of the mounts of `host`, in their order.
  pub mounts: Vec<MountSource>,
  /// Interpreter to use for a CPython kernel.
  pub python: PathBuf,
  pub memory_bytes: u64,
  pub output_bytes: u64,
}

impl Approved {
  /// Opens the directories that are mounted; anew for each process, for they may have been replaced.
  ///
  /// # Errors
  /// When one is no directory any more.
  pub fn open_mounts(&self) -> Result<Vec<OwnedFd>, KernelError> {
    let opened = self.mounts.iter().zip(&self.host.mounts);
    opened
      .map(|(source, mount)| {
        source.open().map_err(|_| {
          KernelError::Conflict(format!(
            "filesystem.root: the folder that was mounted at `{}` is not there any more",
            mount.mount_point.display()
          ))
        })
      })
      .collect()
  }

  /// Shows these folders, under their own names.
  pub fn show(&mut self, folders: &[PathBuf]) {
    for folder in folders.iter().filter(|path| path.is_dir()) {
      self.mounts.push(MountSource::folder(folder.clone()));
      self.host.mounts.push(MountConfig {
        mount_point: folder.clone(),
      });
    }
  }
}

/// The folders that are a kernel's own, whatever it asks for.
#[derive(Debug, Clone)]
pub struct OwnFolders {
  pub working: PathBuf,
  pub read: Vec<PathBuf>,
  pub write: Vec<PathBuf>,
}

impl OwnFolders {
  /// One folder for everything, made and removed with the kernel.
  pub fn scratch(folder: PathBuf) -> Self {
    Self {
      read: vec![folder.clone()],
      write: vec![folder.clone()],
      working: folder,
    }
  }
}

/// A request for a process that runs a main program.
#[derive(Debug, Clone)]
pub struct LaunchProgram {
  /// What logs call it.
  pub label: String,
  pub tenant: Tenant,
  /// Language, environment, permissions and limits.
  pub kernel: CreateKernel,
  pub folders: OwnFolders,
  /// Where it listens when it may nowhere else.
  pub own_address: Option<Ipv4Addr>,
  pub program: MainProgram,
}

impl CreateKernel {
  /// Checks the request against the operator's settings.
  ///
  /// # Errors
  /// When it asks for more than the operator allows (`Forbidden`) or for nonsense (`Invalid`).
  pub fn approve(
    &self,
    options: &KernelOptions,
    folders: &OwnFolders,
  ) -> Result<Approved, KernelError> {
    for (name, value) in &self.env {
      if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(KernelError::Invalid(format!(
          "env: `{name}` cannot be an environment variable"
        )));
      }
    }
    let heap = limit(
      "limits.heapMb",
      self.limits.heap_mb,
      64,
      options.max_heap_mb,
    )?;
    let memory = limit(
      "limits.memoryMb",
      self.limits.memory_mb,
      128,
      options.max_memory_mb,
    )?;
    let output_bytes = limit(
      "limits.outputBytes",
      self.limits.output_bytes,
      1024,
      options.max_output_bytes,
    )?;
    let (sources, mounts) = match &self.filesystem {
      Some(filesystem) if filesystem.enabled => {
        let (source, mount) = filesystem.approve(options, self.namespace.as_deref())?;
        (vec![source], vec![mount])
      }
      _ => (Vec::new(), Vec::new()),
    };
    let permissions = self
      .permissions
      .approve(&options.permissions_max, folders, &mounts)?;
    Ok(Approved {
      python: self.approve_python(options)?,
      environment: self.environment.clone(),
      mounts: sources,
      host: HostConfig {
        env: self.env.clone(),
        scratch: folders.working.clone(),
        mounts,
        permissions,
        certificates: options.certificates.clone(),
        ca_stores: options.ca_stores.clone(),
        // CPython's packages do not come from there.
        registry_auth: match self.language {
          Language::CPython => Vec::new(),
          _ => options.registry_auth.clone(),
        },
        max_heap_bytes: usize::try_from(heap << 20).unwrap_or(usize::MAX),
      },
      memory_bytes: memory << 20,
      output_bytes,
    })
  }

  fn approve_python(&self, options: &KernelOptions) -> Result<PathBuf, KernelError> {
    let Some(wanted) = &self.python else {
      let python = &options.cpython_executable;
      if self.language == Language::CPython && !python.is_absolute() {
        return Err(KernelError::Host(format!(
          "CPYTHON_EXECUTABLE: there is no program `{}` in the PATH of the server; set it to the path of a \
           CPython, or of the `bin/python` of a virtual environment",
          python.display()
        )));
      }
      return Ok(python.clone());
    };
    if self.language != Language::CPython {
      return Err(KernelError::Invalid(
        "python: only kernels with lang \"cpython\" take an interpreter".into(),
      ));
    }
    let mut allowed = options
      .cpython_others
      .iter()
      .chain(std::iter::once(&options.cpython_executable));
    if !allowed.any(|python| python == wanted) {
      return Err(KernelError::Forbidden(format!(
        "python: `{}` is not an interpreter that this server offers; the operator names those with \
         CPYTHON_EXECUTABLE and CPYTHON_OTHERS",
        wanted.display()
      )));
    }
    Ok(wanted.clone())
  }
}

fn limit(name: &str, wanted: Option<u64>, least: u64, most: u64) -> Result<u64, KernelError> {
  match wanted {
    None => Ok(most),
    Some(wanted) if wanted < least => Err(KernelError::Invalid(format!(
      "{name} must be at least {least}, not {wanted}"
    ))),
    Some(wanted) if wanted > most => Err(KernelError::Forbidden(format!(
      "{name} is at most {most} on this server, not {wanted}"
    ))),
    Some(wanted) => Ok(wanted),
  }
}

impl Filesystem {
  fn approve(
    &self,
    options: &KernelOptions,
    namespace: Option<&str>,
  ) -> Result<(MountSource, MountConfig), KernelError> {
    let (roots, root) = match (&self.root, &self.files) {
      (Some(root), None) => (options.mount_roots.clone(), root.clone()),
      (None, Some(path)) => {
        let folders = options.lasting_files.as_ref().ok_or_else(|| {
          KernelError::Unsupported("filesystem.files: there are no lasting files here".into())
        })?;
        let folder = folders.of(namespace)?;
        let failed = |e| KernelError::Host(format!("the lasting files cannot be opened: {e}"));
        options.confinement.make_own(&folder).map_err(failed)?;
        let mut root = folder.clone();
        root.extend(Path::new(path).components().filter(|part| {
          matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::ParentDir
          )
        }));
        (vec![MountRoot::resolved(folder)], root)
      }
      _ => {
        return Err(KernelError::Invalid(
          "filesystem: name either `root`, a directory of the host, or `files`, one of the lasting files"
            .into(),
        ));
      }
    };
    let source = MountSource::find(&roots, namespace, &root);
    // One answer, whether it exists or not.
    let source = source.ok_or_else(|| match &self.files {
      Some(path) => KernelError::Invalid(format!(
        "filesystem.files: there is no directory `{path}` among the lasting files"
      )),
      None => KernelError::Forbidden(format!(
        "filesystem.root: `{}` is not a folder that this kernel may mount: write its absolute path, \
         without symlinks, inside one of those that the operator names with KERNEL_MOUNT_ROOTS",
        root.display()
      )),
    })?;
    let plain = |c: std::path::Component<'_>| {
      matches!(
        c,
        std::path::Component::RootDir | std::path::Component::Normal(_)
      )
    };
    if !self.mount_point.is_absolute()
      || self.mount_point.parent().is_none()
      || !self.mount_point.components().all(plain)
    {
      return Err(KernelError::Invalid(format!(
        "filesystem.mountPoint: `{}` is not an absolute path below /",
        self.mount_point.display()
      )));
    }
    let mount_point = self.mount_point.clone();
    Ok((source, MountConfig { mount_point }))
  }
}

impl PermissionRequest {
  /// Every permission of this request, or, where it has none, the default, inside the ceiling.
  fn approve(
    &self,
    ceiling: &Self,
    folders: &OwnFolders,
    mounts: &[MountConfig],
  ) -> Result<HostPermissions, KernelError> {
    let own = |own: &[PathBuf]| -> Vec<String> {
      own
        .iter()
        .chain(mounts.iter().map(|m| &m.mount_point))
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
    };
    let same: fn(&str, &str) -> bool = |wanted, allowed| wanted == allowed;
    let path: fn(&str, &str) -> bool = |wanted, allowed| {
      let plain = !Path::new(wanted)
        .components()
        .any(|c| c == std::path::Component::ParentDir);
      plain && Path::new(wanted).starts_with(allowed)
    };
    let host: fn(&str, &str) -> bool = |wanted, allowed| {
      wanted == allowed
        || wanted
          .rsplit_once(':')
          .is_some_and(|(host, _)| host == allowed)
    };
    let merge = |name: &str,
                 wanted: &Option<Grant>,
                 ceiling: &Option<Grant>,
                 default: Grant,
                 within: fn(&str, &str) -> bool| {
      let ceiling = ceiling.clone().unwrap_or(default);
      let Some(wanted) = wanted else {
        return Ok(ceiling.as_deno());
      };
      match wanted.beyond(&ceiling, within) {
        None => Ok(wanted.as_deno()),
        Some(excess) => Err(KernelError::Forbidden(format!(
          "permissions.{name}: {excess} is more than this server allows; the operator sets the most \
           with KERNEL_PERMISSIONS_MAX"
        ))),
      }
    };
    // A kernel always keeps its own folders unless it asks for none.
    let keep = |name, own: Vec<String>, wanted: &Option<Grant>, ceiling: &Option<Grant>| {
      let default = match ceiling {
        Some(Grant::List(list)) => Grant::List([own, list.clone()].concat()),
        Some(all) => all.clone(),
        None => Grant::List(own),
      };
      merge(name, wanted, &Some(default.clone()), default, path)
    };
    let read = keep("read", own(&folders.read), &self.read, &ceiling.read)?;
    let write = keep("write", own(&folders.write), &self.write, &ceiling.write)?;
    let net = merge("net", &self.net, &ceiling.net, Grant::All(true), host)?;
    Ok(HostPermissions {
      read,
      write,
      net,
      // Local networks are open only when the operator says what the network is.
      deny_local_net: ceiling.net.is_none(),
      own_address: None,
      deny_local_import: ceiling.import.is_none(),
      env: merge("env", &self.env, &ceiling.env, Grant::All(true), same)?,
      run: merge("run", &self.run, &ceiling.run, Grant::All(false), same)?,
      ffi: merge("ffi", &self.ffi, &ceiling.ffi, Grant::All(false), path)?,
      sys: merge("sys", &self.sys, &ceiling.sys, Grant::All(false), same)?,
      import: merge(
        "import",
        &self.import,
        &ceiling.import,
        Grant::All(true),
        host,
      )?,
    })
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn approve(wanted: &str, ceiling: &str) -> Result<HostPermissions, KernelError> {
    let wanted: PermissionRequest = wanted.parse().expect("wanted");
    wanted.approve(
      &ceiling.parse().expect("ceiling"),
      &OwnFolders::scratch("/scratch".into()),
      &[],
    )
  }

  #[test]
  fn the_default_is_the_own_folder_and_the_public_network() {
    let p = approve("{}", "{}").expect("allowed");
    assert_eq!(p.read, Some(vec!["/scratch".into()]));
    assert_eq!(p.net, Some(vec![]));
    assert!(p.deny_local_net);
    assert_eq!((p.run, p.ffi, p.sys), (None, None, None));
  }

  #[test]
  fn a_request_can_narrow_but_not_widen() {
    assert_eq!(
      approve(r#"{"net": false}"#, "{}").expect("narrower").net,
      None
    );
    assert_eq!(
      approve(r#"{"read": false}"#, "{}").expect("narrower").read,
      None
    );
    for (wanted, named) in [
      (r#"{"run": true}"#, "run: everything"),
      (r#"{"run": ["git"]}"#, "run: git"),
      (r#"{"read": ["/etc"]}"#, "read: /etc"),
      (r#"{"read": ["/scratch/../etc"]}"#, "read: /scratch/../etc"),
    ] {
      let message = approve(wanted, "{}").expect_err(wanted).to_string();
      assert!(message.contains(named), "{message}");
    }
  }

  #[test]
  fn the_operator_can_widen() {
    let p = approve(
      r#"{"run": ["git"]}"#,
      r#"{"run": ["git", "ls"], "net": true}"#,
    )
    .expect("allowed");
    assert_eq!(p.run, Some(vec!["git".into()]));
    assert!(!p.deny_local_net);
    let p = approve(
      r#"{"net": ["example.com:443"]}"#,
      r#"{"net": ["example.com"]}"#,
    )
    .expect("allowed");
    assert_eq!(p.net, Some(vec!["example.com:443".into()]));
  }

  #[test]
  fn a_wrong_type_is_named() {
    let error = r#"{"net": 1}"#.parse::<PermissionRequest>().expect_err("a number");
    assert!(
      error.contains("true, false or a list of strings"),
      "{error}"
    );
  }
}
