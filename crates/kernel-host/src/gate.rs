//! A listener that lets in only connections which the server announces. What listens on an address of
//! this machine can be reached by every process of it, whoever that belongs to; so a packet filter on
//! the listening socket drops all that does not come from the one port that the server holds.

use std::io;
use std::mem::size_of_val;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::net::SocketFlags;

/// Where the server's connections come from.
pub const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Guards the server of a main program; shared with the thread that hears of the engine's connections.
#[derive(Default)]
pub struct Gate(Mutex<Option<Guarded>>);

struct Guarded {
  listener: OwnedFd,
  /// As `/proc/self/fd` shows it.
  name: PathBuf,
}

/// Whether a listener is the one behind the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarding {
  /// The engine's connections go to it.
  Behind,
  /// Another is there already: nothing gets in to this one.
  Closed,
}

impl Gate {
  /// Closes the listener of this process at `address`, to all but connections that are admitted.
  /// Connections that came before it was closed are closed too.
  ///
  /// # Errors
  /// When this process has no such listener, or the system takes no filter.
  pub fn guard(&self, address: SocketAddr) -> io::Result<Guarding> {
    let mut guarded = self.lock();
    let (fd, name) = find(address)?;
    // SAFETY: the caller owns the listener and keeps it open meanwhile.
    let listener = unsafe { BorrowedFd::borrow_raw(fd) };
    attach(fd, &DROP_ALL)?;
    while somebody_waits(listener) {
      drop(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?);
    }
    if guarded.as_ref().is_some_and(Guarded::is_used) {
      return Ok(Guarding::Closed);
    }
    *guarded = Some(Guarded {
      listener: listener.try_clone_to_owned()?,
      name,
    });
    Ok(Guarding::Behind)
  }

  /// Lets a connection from this port of [`SERVER`] in, and none from any other; `false` when the
  /// program has no server any more.
  pub fn admit(&self, port: u16) -> bool {
    let mut guarded = self.lock();
    match &*guarded {
      Some(guard) if guard.is_used() => attach(guard.listener.as_raw_fd(), &only_from(port)).is_ok(),
      _ => {
        // Only kept open by this copy.
        *guarded = None;
        false
      }
    }
  }

  fn lock(&self) -> MutexGuard<'_, Option<Guarded>> {
    self.0.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Guarded {
  /// Whether the program still has it open.
  fn is_used(&self) -> bool {
    descriptors().filter(|(_, name)| *name == self.name).nth(1).is_some()
  }
}

/// Whether a connection waits to be accepted.
fn somebody_waits(listener: BorrowedFd<'_>) -> bool {
  let mut fds = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
  let now = rustix::event::Timespec::default();
  matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1))
}

/// Descriptors of this process, and what they name.
fn descriptors() -> impl Iterator<Item = (RawFd, PathBuf)> {
  let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
  entries.filter_map(|entry| {
    let fd = entry.file_name().to_str()?.parse().ok()?;
    Some((fd, std::fs::read_link(entry.path()).ok()?))
  })
}

/// The socket of this process that listens there.
fn find(address: SocketAddr) -> io::Result<(RawFd, PathBuf)> {
  let listens = |fd: RawFd| {
    // SAFETY: asked at once; were it closed meanwhile, the system would say so.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let bound = rustix::net::getsockname(socket);
    bound.is_ok_and(|bound| SocketAddr::try_from(bound).is_ok_and(|bound| bound == address))
      && rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
  };
  descriptors()
    .find(|(fd, _)| listens(*fd))
    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no listener at {address}")))
}

// ---------------------------------------------------------------- filters

const DROP: u32 = 0;
const KEEP: u32 = u32::MAX;
/// Where the packet's IP header is, in the addresses of a filter (`SKF_NET_OFF`).
const IP_HEADER: u32 = -0x10_0000_i32 as u32;
const SOURCE_ADDRESS: u32 = IP_HEADER + 12;
/// Of the TCP header, where a filter's own addresses begin.
const SOURCE_PORT: u32 = 0;

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
  libc::sock_filter {
    code: code as u16,
    jt,
    jf,
    k,
  }
}

const DROP_ALL: [libc::sock_filter; 1] = [step(libc::BPF_RET | libc::BPF_K, 0, 0, DROP)];

fn only_from(port: u16) -> [libc::sock_filter; 6] {
  const LOAD: u32 = libc::BPF_LD | libc::BPF_ABS;
  const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
  const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
  [
    step(LOAD | libc::BPF_W, 0, 0, SOURCE_ADDRESS),
    step(EQUAL, 0, 3, SERVER.to_bits()),
    step(LOAD | libc::BPF_H, 0, 0, SOURCE_PORT),
    step(EQUAL, 0, 1, port as u32),
    step(RETURN, 0, 0, KEEP),
    step(RETURN, 0, 0, DROP),
  ]
}

/// Puts a filter in the place of the one that is there. Connections keep that of their beginning.
fn attach(socket: RawFd, filter: &[libc::sock_filter]) -> io::Result<()> {
  let program = libc::sock_fprog {
    len: u16::try_from(filter.len()).map_err(io::Error::other)?,
    filter: filter.as_ptr().cast_mut(),
  };
  // SAFETY: the program and the filter it points to live until the call returns, which copies them.
  let attached = unsafe {
    libc::setsockopt(
      socket,
      libc::SOL_SOCKET,
      libc::SO_ATTACH_FILTER,
      (&raw const program).cast(),
      size_of_val(&program) as libc::socklen_t,
    )
  };
  match attached {
    0 => Ok(()),
    _ => Err(io::Error::last_os_error()),
  }
}

#[cfg(test)]
mod tests {
  use std::io::Read;
  use std::io::Write;
  use std::net::TcpListener;
  use std::time::Duration;

  use tokio::net::TcpSocket;

  use super::*;

  const SHORT: Duration = Duration::from_millis(200);

  /// A socket that will connect from a port which is already its own.
  fn caller(address: Ipv4Addr) -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("is bound");
    let port = socket.local_addr().expect("is bound").port();
    (socket, port)
  }

  #[tokio::test]
  async fn only_an_announced_connection_gets_through() {
    let listener = TcpListener::bind("127.9.9.9:0").expect("listens");
    let address = listener.local_addr().expect("is bound");
    let gate = Gate::default();
    assert_eq!(gate.guard(address).expect("is guarded"), Guarding::Behind);

    let connect = |socket: TcpSocket| tokio::time::timeout(SHORT, socket.connect(address));
    assert!(connect(caller(SERVER).0).await.is_err());
    let (announced, port) = caller(SERVER);
    assert!(gate.admit(port));
    // The same port of another address is another's.
    let other = TcpSocket::new_v4().expect("a socket");
    other.bind((Ipv4Addr::new(127, 0, 0, 2), port).into()).expect("is bound");
    assert!(connect(other).await.is_err());
    assert!(connect(caller(SERVER).0).await.is_err());
    let stream = connect(announced).await.expect("in time").expect("connects");

    // It goes on when the next one is let in.
    let (next, port) = caller(SERVER);
    assert!(gate.admit(port));
    connect(next).await.expect("in time").expect("connects");
    let (mut accepted, peer) = listener.accept().expect("accepts");
    assert_eq!(peer, stream.local_addr().expect("is bound"));
    let mut stream = stream.into_std().expect("a stream");
    stream.set_nonblocking(false).expect("blocks");
    stream.write_all(b"ping").expect("is sent");
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).expect("arrives");
    accepted.write_all(&bytes).expect("is sent");
    stream.read_exact(&mut bytes).expect("arrives");
    assert_eq!(&bytes, b"ping");
  }

  #[tokio::test]
  async fn it_has_one_listener_and_knows_when_that_is_gone() {
    let gate = Gate::default();
    let listen = || TcpListener::bind("127.9.9.9:0").expect("listens");
    let guard = |listener: &TcpListener| {
      gate.guard(listener.local_addr().expect("is bound")).expect("is guarded")
    };
    assert!(!gate.admit(1));
    let (first, second) = (listen(), listen());
    assert_eq!(guard(&first), Guarding::Behind);
    assert_eq!(guard(&second), Guarding::Closed);
    assert!(gate.admit(1));
    drop(first);
    assert!(!gate.admit(1));
    assert_eq!(guard(&listen()), Guarding::Behind);
  }
}
