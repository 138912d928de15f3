//! The places there are for connections, and what is seen of those who have one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// All places.
pub(super) struct Places {
  total: usize,
  /// Those of one peer; proxies on this machine may have all.
  per_peer: usize,
  taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
  next: u64,
  guests: HashMap<u64, Arc<Guest>>,
  peers: HashMap<IpAddr, usize>,
}

/// A place; given back when this is dropped.
pub(super) struct Seat {
  places: Arc<Places>,
  id: u64,
  guest: Arc<Guest>,
}

/// Who has a place.
pub(super) struct Guest {
  peer: IpAddr,
  came: Instant,
  /// Requests in progress.
  running: AtomicUsize,
  /// Parts of answers that the client has not taken.
  unread: AtomicUsize,
  /// When something happened, in milliseconds after it came.
  since: AtomicU64,
  asked: AtomicBool,
  blocked: AtomicBool,
  /// The connection speaks another protocol now.
  switched: AtomicBool,
  leave: Notify,
}

/// How a connection is at a moment.
pub(super) struct Seen {
  pub running: usize,
  pub unread: bool,
  /// When something happened.
  pub since: Instant,
  /// Whether there ever was a request.
  pub asked: bool,
  /// Whether bytes wait for the client to take some.
  pub blocked: bool,
}

impl Places {
  pub(super) fn new(total: usize) -> Arc<Self> {
    Arc::new(Self {
      total,
      per_peer: (total / 4).max(1),
      taken: Mutex::default(),
    })
  }

  /// A place, perhaps that of the connection which was idle for the longest time. `None` when nobody is
  /// idle.
  pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
    let peer = neighbourhood(peer);
    let mut taken = self.lock();
    let own = taken.peers.get(&peer).copied().unwrap_or_default();
    if own >= self.per_peer && !peer.is_loopback() {
      taken.make_room(|guest| guest.peer == peer)?;
    } else if taken.guests.len() >= self.total {
      taken.make_room(|_| true)?;
    }
    let id = taken.next;
    taken.next += 1;
    let guest = Arc::new(Guest::new(peer));
    taken.guests.insert(id, guest.clone());
    *taken.peers.entry(peer).or_default() += 1;
    Some(Seat {
      places: self.clone(),
      id,
      guest,
    })
  }

  #[cfg(test)]
  pub(super) fn count(&self) -> usize {
    self.lock().guests.len()
  }

  fn lock(&self) -> MutexGuard<'_, Taken> {
    self.taken.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Taken {
  fn make_room(&mut self, among: impl Fn(&Guest) -> bool) -> Option<()> {
    let idle = self.guests.iter().filter(|(_, guest)| among(guest));
    let idle = idle.filter_map(|(id, guest)| Some((guest.idle_since()?, *id)));
    let (_, id) = idle.min()?;
    let guest = self.remove(id)?;
    guest.leave.notify_one();
    Some(())
  }

  fn remove(&mut self, id: u64) -> Option<Arc<Guest>> {
    let guest = self.guests.remove(&id)?;
    if let Some(count) = self.peers.get_mut(&guest.peer) {
      *count -= 1;
      if *count == 0 {
        self.peers.remove(&guest.peer);
      }
    }
    Some(guest)
  }
}

impl Seat {
  pub(super) fn guest(&self) -> &Arc<Guest> {
    &self.guest
  }
}

impl Drop for Seat {
  fn drop(&mut self) {
    self.places.lock().remove(self.id);
  }
}

impl Guest {
  fn new(peer: IpAddr) -> Self {
    Self {
      peer,
      came: Instant::now(),
      running: AtomicUsize::default(),
      unread: AtomicUsize::default(),
      since: AtomicU64::default(),
      asked: AtomicBool::default(),
      blocked: AtomicBool::default(),
      switched: AtomicBool::default(),
      leave: Notify::new(),
    }
  }

  /// Resolves when its place is needed.
  pub(super) async fn told_to_leave(&self) {
    self.leave.notified().await;
  }

  pub(super) fn look(&self) -> Seen {
    Seen {
      running: self.running.load(Ordering::Acquire),
      unread: self.unread.load(Ordering::Acquire) > 0,
      since: self.came + Duration::from_millis(self.since.load(Ordering::Acquire)),
      asked: self.asked.load(Ordering::Acquire),
      blocked: self.blocked.load(Ordering::Acquire),
    }
  }

  /// Since when nothing is in progress.
  fn idle_since(&self) -> Option<Instant> {
    let seen = self.look();
    let busy = seen.running > 0 || seen.blocked || self.switched.load(Ordering::Acquire);
    (!busy).then_some(seen.since)
  }

  fn touch(&self) {
    let since = u64::try_from(self.came.elapsed().as_millis()).unwrap_or(u64::MAX);
    self.since.store(since, Ordering::Release);
  }

  /// A request is in progress until the returned value is dropped.
  pub(super) fn begin(self: &Arc<Self>) -> Busy {
    self.running.fetch_add(1, Ordering::AcqRel);
    self.asked.store(true, Ordering::Release);
    self.touch();
    Busy {
      guest: self.clone(),
      unread: false,
    }
  }

  pub(super) fn set_blocked(&self, blocked: bool) {
    // Looked at first: that is cheaper than to tell other cores.
    if self.blocked.load(Ordering::Relaxed) != blocked {
      self.touch();
      self.blocked.store(blocked, Ordering::Release);
    }
  }

  pub(super) fn switches_protocols(&self) {
    self.switched.store(true, Ordering::Release);
  }
}

/// A request in progress.
pub(super) struct Busy {
  guest: Arc<Guest>,
  unread: bool,
}

impl Busy {
  /// The connection asks for more of the answer: what it had before is on its way.
  pub(super) fn wants_more(&mut self) {
    if std::mem::take(&mut self.unread) {
      self.guest.unread.fetch_sub(1, Ordering::AcqRel);
    }
  }

  /// The connection has a part of the answer.
  pub(super) fn got_some(&mut self) {
    if !std::mem::replace(&mut self.unread, true) {
      self.guest.touch();
      self.guest.unread.fetch_add(1, Ordering::AcqRel);
    }
  }
}

impl Drop for Busy {
  fn drop(&mut self) {
    self.wants_more();
    self.guest.touch();
    self.guest.running.fetch_sub(1, Ordering::AcqRel);
  }
}

/// Whom an address is counted as: everybody has a whole network of IPv6 addresses.
fn neighbourhood(peer: IpAddr) -> IpAddr {
  match peer.to_canonical() {
    IpAddr::V6(ip) if !ip.is_loopback() => {
      let network = u128::from(ip) >> 64 << 64;
      IpAddr::V6(Ipv6Addr::from(network))
    }
    ip => ip,
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
  }

  #[test]
  fn a_peer_has_a_quarter_of_the_places_unless_it_is_this_machine() {
    let places = Places::new(8);
    let seats: Vec<Seat> = ["2001:db8::1", "2001:db8::2"]
      .iter()
      .map(|peer| places.take(ip(peer)).expect("a place"))
      .collect();
    let _busy: Vec<Busy> = seats.iter().map(|seat| seat.guest().begin()).collect();
    assert!(places.take(ip("2001:db8::3")).is_none(), "the same network");
    let _other = places.take(ip("2001:db8:0:1::3")).expect("another one");
    let _local: Vec<Seat> = (0..5)
      .map(|_| places.take(ip("127.0.0.1")).expect("a place"))
      .collect();
    assert_eq!(places.count(), 8);
    drop(seats);
    assert_eq!(places.count(), 6);
  }

  #[tokio::test]
  async fn the_longest_idle_makes_room_and_the_busy_stay() {
    let places = Places::new(3);
    let local = ip("127.0.0.1");
    let take = || places.take(local);
    let seats = [take(), take(), take()].map(|seat| seat.expect("a place"));
    let _first = seats[0].guest().begin();
    seats[2].guest().touch();
    tokio::time::sleep(Duration::from_millis(5)).await;
    seats[1].guest().touch();
    let newest = take().expect("that of the third");
    seats[2].guest().told_to_leave().await;
    assert_eq!(places.count(), 3);
    let _second = seats[1].guest().begin();
    newest.guest().switches_protocols();
    assert!(take().is_none(), "nobody is idle");
    drop(seats);
    assert_eq!(places.count(), 1);
  }
}
