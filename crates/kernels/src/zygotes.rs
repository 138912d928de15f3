//! Every zygote of this server: one for each kind of host, and, where strangers share the server, for each namespace.
//! Hosts do without where there is none.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbox::Role;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::launch::Tenant;
use crate::zygote::ForkedKernel;
use crate::zygote::Zygote;

/// After a zygote could not be had, how long hosts are started without one.
const REST: Duration = Duration::from_secs(10);
/// Forks of one zygote, and its life, before another takes its place: what its children share, the layout of their memory
/// above all, is not shared for ever.
const FORKS: usize = 500;
const LIFE: Duration = Duration::from_secs(600);
/// A namespace's zygote that was used this recently makes no room for another's.
const IN_USE: Duration = Duration::from_secs(5);

/// What hosts are forked from the same zygote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
  /// What it has booted, in words that are another's for nothing else.
  pub boots: String,
  pub tenant: Tenant,
}

/// How a zygote is started.
#[derive(Clone)]
pub struct Recipe {
  /// What it boots, for people.
  pub name: &'static str,
  /// Starts the process, given its end of the control socket.
  pub spawn: Arc<dyn Fn(OwnedFd) -> BoxFuture<'static, io::Result<Child>> + Send + Sync>,
  /// Longest a host waits for it to boot; it is started without a zygote then.
  pub patience: Duration,
}

/// Most zygotes that are kept, and those that are.
pub struct Zygotes {
  most: usize,
  known: Mutex<HashMap<Kind, Slot>>,
}

/// What is known of one kind's zygote.
struct Slot {
  zygote: Option<Used>,
  booting: Option<Booting>,
  /// When it could not be had; said once, until it is there again.
  failed: Option<Instant>,
  used: Instant,
}

/// A zygote that is not up yet.
#[derive(Clone)]
struct Booting {
  since: Instant,
  /// Closed once it is up, or has failed.
  done: watch::Receiver<()>,
}

/// A zygote, and how long and how much it has served.
struct Used {
  zygote: Arc<Zygote>,
  since: Instant,
  forks: usize,
}

enum Found {
  Up(Arc<Zygote>),
  Booting(Booting),
  /// There is none, and for a while none will be tried.
  None,
}

impl Zygotes {
  /// Keeps at most `most`. Call it on a tokio runtime.
  pub fn new(most: usize) -> Arc<Self> {
    let zygotes = Arc::new(Self {
      most,
      known: Mutex::default(),
    });
    tokio::spawn(end_unused(Arc::downgrade(&zygotes)));
    zygotes
  }

  /// Forks a host for `role` that talks over `socket`, from the zygote of its kind. `None` when it has to be started without
  /// one: there is none, or it does not do what it should.
  pub async fn fork(
    self: &Arc<Self>,
    kind: &Kind,
    role: Role,
    socket: BorrowedFd<'_>,
    recipe: &Recipe,
  ) -> Option<ForkedKernel> {
    let mut may_be_gone = true;
    loop {
      let zygote = match self.find(kind, recipe) {
        Found::Up(zygote) => zygote,
        Found::Booting(mut booting) => {
          let until = booting.since + recipe.patience;
          // Nothing is sent, so that it ends by being closed.
          let _ = tokio::time::timeout_at(until, booting.done.changed())
            .await
            .ok()?;
          continue;
        }
        Found::None => return None,
      };
      match zygote.fork(role, socket).await {
        Ok(forked) => return Some(forked),
        // One that has ended unnoticed is found out by asking it.
        Err(_) if zygote.is_gone() && may_be_gone => may_be_gone = false,
        Err(error) => {
          self.failed(kind, recipe, &zygote, &error);
          return None;
        }
      }
    }
  }

  /// Whether there is a zygote of this kind.
  pub fn has(&self, kind: &Kind) -> bool {
    let known = self.lock();
    known.get(kind).is_some_and(|slot| slot.living().is_some())
  }

  /// Ends the zygote of this kind, for a host of it ended before it was up. Whether hosts are started without one now.
  pub fn distrust(&self, kind: &Kind, recipe: &Recipe) -> bool {
    let zygote = {
      let known = self.lock();
      let Some(slot) = known.get(kind) else {
        return false;
      };
      match slot.living() {
        Some(used) => used.zygote.clone(),
        // Another host of it was faster.
        None => return slot.rests(),
      }
    };
    let error = io::Error::other("one ended before it was up");
    self.failed(kind, recipe, &zygote, &error);
    true
  }

  /// Starts the zygote of this kind in the background, if there is none and there may be one.
  pub fn prepare(self: &Arc<Self>, kind: &Kind, recipe: &Recipe) {
    self.find(kind, recipe);
  }

  /// Ends all that have no hosts, and the others after their last; makes no more.
  pub fn close(&self) {
    self.lock().clear();
  }

  fn find(self: &Arc<Self>, kind: &Kind, recipe: &Recipe) -> Found {
    let mut known = self.lock();
    if !known.contains_key(kind) && known.len() >= self.most && !make_room(&mut known) {
      return Found::None;
    }
    let slot = known.entry(kind.clone()).or_insert_with(|| Slot {
      zygote: None,
      booting: None,
      failed: None,
      used: Instant::now(),
    });
    slot.used = Instant::now();
    if slot.wants_another() {
      let (up, done) = watch::channel(());
      let since = Instant::now();
      slot.booting = Some(Booting { since, done });
      tokio::spawn(boot(Arc::downgrade(self), kind.clone(), recipe.clone(), up));
    }
    match (&mut slot.zygote, &slot.booting) {
      (Some(used), _) if !used.zygote.is_gone() => {
        used.forks += 1;
        Found::Up(used.zygote.clone())
      }
      (_, Some(booting)) => Found::Booting(booting.clone()),
      _ => Found::None,
    }
  }

  /// Ends a zygote that does not do what it should.
  fn failed(&self, kind: &Kind, recipe: &Recipe, zygote: &Arc<Zygote>, error: &io::Error) {
    zygote.end();
    if let Some(slot) = self.lock().get_mut(kind) {
      slot
        .zygote
        .take_if(|used| Arc::ptr_eq(&used.zygote, zygote));
      slot.note_failure(recipe, error);
    }
  }

  fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Slot>> {
    self.known.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// Starts a zygote and puts it in its place, unless that has gone meanwhile.
async fn boot(zygotes: Weak<Zygotes>, kind: Kind, recipe: Recipe, up: watch::Sender<()>) {
  let started = Zygote::start(&*recipe.spawn).await;
  let Some(zygotes) = zygotes.upgrade() else {
    return;
  };
  if let Some(slot) = zygotes.lock().get_mut(&kind) {
    slot.booting = None;
    match started {
      Ok(zygote) => {
        slot.failed = None;
        slot.zygote = Some(Used {
          zygote: Arc::new(zygote),
          since: Instant::now(),
          forks: 0,
        });
      }
      Err(error) => slot.note_failure(&recipe, &error),
    }
  }
  drop(up);
}

/// Drops the zygote that was not used for longest, if none of its namespace's needs it.
fn make_room(known: &mut HashMap<Kind, Slot>) -> bool {
  let idle = known
    .iter()
    .filter(|(_, slot)| slot.booting.is_none() && slot.used.elapsed() >= IN_USE);
  let oldest = idle
    .min_by_key(|(_, slot)| slot.used)
    .map(|(kind, _)| kind.clone());
  oldest.is_some_and(|kind| known.remove(&kind).is_some())
}

/// Ends zygotes of namespaces that have not been used for a while.
async fn end_unused(zygotes: Weak<Zygotes>) {
  loop {
    tokio::time::sleep(LIFE / 10).await;
    let Some(zygotes) = zygotes.upgrade() else {
      return;
    };
    let is_kept = |kind: &Kind, slot: &Slot| {
      kind.tenant == Tenant::Anyone || slot.booting.is_some() || slot.used.elapsed() < LIFE
    };
    zygotes.lock().retain(|kind, slot| is_kept(kind, slot));
  }
}

impl Slot {
  fn living(&self) -> Option<&Used> {
    self.zygote.as_ref().filter(|used| !used.zygote.is_gone())
  }

  /// Whether a zygote should be started: there is none, or it has served long enough.
  fn wants_another(&self) -> bool {
    let fresh = |used: &Used| used.forks < FORKS && used.since.elapsed() < LIFE;
    self.booting.is_none() && !self.living().is_some_and(fresh) && !self.rests()
  }

  /// Whether it could not be had of late.
  fn rests(&self) -> bool {
    self.failed.is_some_and(|at| at.elapsed() < REST)
  }

  fn note_failure(&mut self, recipe: &Recipe, error: &io::Error) {
    if self.failed.is_none() {
      let name = recipe.name;
      tracing::warn!(
        "kernels of {name} are started anew for a while, for they cannot be forked: {error}"
      );
    }
    self.failed = Some(Instant::now());
  }
}
