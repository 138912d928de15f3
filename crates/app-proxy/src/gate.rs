//! A listener that accepts only the engine's connections. Every process of a machine, whatever its user,
//! can connect to what listens on a loopback address; so a packet filter on the listening socket drops
//! all packets but those from the one port that the engine holds at that moment.

use std::io;
use std::mem::size_of_val;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::PidfdGetfdFlags;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::listener::Listener;

/// Address that the engine connects from.
const ENGINE: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub struct Gate {
  found: Listener,
  /// A copy of the app's own descriptor.
  socket: OwnedFd,
  /// Held while connecting: the filter knows one port at a time.
  turn: Mutex<()>,
}

impl Gate {
  /// Closes a listener of a process to everybody.
  ///
  /// # Errors
  /// When the system does not hand out the socket (that takes the right to trace the process), or
  /// accepts no filter for it.
  pub fn close(found: Listener) -> io::Result<Self> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = Pid::from_raw(found.pid.cast_signed()).ok_or_else(gone)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let socket = rustix::process::pidfd_getfd(process, found.fd, PidfdGetfdFlags::empty())?;
    let gate = Self {
      found,
      socket,
      turn: Mutex::default(),
    };
    gate.attach(&DROP_ALL)?;
    Ok(gate)
  }

  /// Connects through the filter.
  ///
  /// # Errors
  /// `ConnectionRefused` when the app has closed its listener, which this process still holds.
  pub async fn connect(&self) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // From here on the engine has this port, and nobody else can connect from it.
    socket.bind((ENGINE, 0).into())?;
    let port = socket.local_addr()?.port();
    let _turn = self.turn.lock().await;
    if !self.found.is_open() {
      return Err(io::ErrorKind::ConnectionRefused.into());
    }
    self.attach(&only_from(port))?;
    socket.connect(self.found.address).await
  }

  pub fn address(&self) -> SocketAddr {
    self.found.address
  }

  /// Replaces the filter. Connections keep the filter that they began with.
  fn attach(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
      len: u16::try_from(filter.len()).map_err(io::Error::other)?,
      filter: filter.as_ptr().cast_mut(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the program and the filter it points to live until the call returns, which copies them.
    let attached = unsafe {
      libc::setsockopt(
        self.socket.as_raw_fd(),
        libc::SOL_SOCKET,
        libc::SO_ATTACH_FILTER,
        (&raw const program).cast(),
        length,
      )
    };
    match attached {
      0 => Ok(()),
      _ => Err(io::Error::last_os_error()),
    }
  }
}

// ---------------------------------------------------------------- filters (socket(7), bpf(4))

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_ABS | libc::BPF_W;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_ABS | libc::BPF_H;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const DROP: u32 = 0;
const KEEP: u32 = u32::MAX;
/// The source address in the IP header, which a filter sees from `SKF_NET_OFF` on.
const SOURCE_ADDRESS: u32 = (-0x10_0000_i32).cast_unsigned() + 12;
/// The source port: the TCP header, which is what a filter sees, begins with it.
const SOURCE_PORT: u32 = 0;

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
  libc::sock_filter {
    code: code as u16,
    jt,
    jf,
    k,
  }
}

const DROP_ALL: [libc::sock_filter; 1] = [step(RETURN, 0, 0, DROP)];

fn only_from(port: u16) -> [libc::sock_filter; 6] {
  [
    step(LOAD_WORD, 0, 0, SOURCE_ADDRESS),
    step(EQUAL, 0, 3, ENGINE.to_bits()),
    step(LOAD_HALF, 0, 0, SOURCE_PORT),
    step(EQUAL, 0, 1, port.into()),
    step(RETURN, 0, 0, KEEP),
    step(RETURN, 0, 0, DROP),
  ]
}

#[cfg(test)]
mod tests {
  use std::io::Read;
  use std::io::Write;
  use std::net::TcpListener;
  use std::time::Duration;

  use super::*;
  use crate::listener;

  const SHORT: Duration = Duration::from_millis(200);

  /// A guarded listener of this process; `None` where the system wants a privilege for filters that
  /// this process lacks.
  fn guarded() -> Option<(TcpListener, Gate)> {
    let listener = TcpListener::bind("127.9.9.9:0").expect("listens");
    let port = listener.local_addr().expect("is bound").port();
    let found = listener::listening(std::process::id(), port).expect("is found");
    match Gate::close(found) {
      Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
        assert!(!rustix::process::geteuid().is_root(), "root may");
        None
      }
      gate => Some((listener, gate.expect("is guarded"))),
    }
  }

  async fn is_dropped(from: (Ipv4Addr, u16), to: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from.into()).expect("is bound");
    tokio::time::timeout(SHORT, socket.connect(to))
      .await
      .is_err()
  }

  #[tokio::test]
  async fn only_the_engines_connections_get_through() {
    let Some((listener, gate)) = guarded() else {
      return;
    };
    let anybody = (Ipv4Addr::LOCALHOST, 0);
    assert!(is_dropped(anybody, gate.address()).await);
    let mut first = gate
      .connect()
      .await
      .expect("connects")
      .into_std()
      .expect("a stream");
    let (mut accepted, peer) = listener.accept().expect("accepts");
    // The filter knows a port: nobody else has it, and the same port of another address is another's.
    assert!(is_dropped(anybody, gate.address()).await);
    assert!(is_dropped((Ipv4Addr::new(127, 0, 0, 2), peer.port()), gate.address()).await);
    // A connection goes on when the next one is let in.
    gate.connect().await.expect("connects");
    first.set_nonblocking(false).expect("blocks");
    first.write_all(b"ping").expect("is sent");
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).expect("arrives");
    accepted.write_all(&bytes).expect("is sent");
    first.read_exact(&mut bytes).expect("arrives");
    assert_eq!(&bytes, b"ping");
  }

  #[tokio::test]
  async fn a_listener_that_its_app_has_closed_refuses() {
    let Some((listener, gate)) = guarded() else {
      return;
    };
    drop(listener);
    let error = gate.connect().await.expect_err("is closed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
  }
}
