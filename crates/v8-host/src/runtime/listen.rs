//! What the main program of an app has besides the extension of every kernel: servers that the engine
//! finds, and an end that it hears of.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use deno_core::OpState;
use deno_core::ResourceId;
use deno_core::op2;
use deno_error::JsErrorBox;
use deno_runtime::deno_net::ops::IpAddr;
use deno_runtime::deno_net::raw::NetworkListenerResource;
use deno_runtime::deno_net::resolve_addr::resolve_addr_sync;
use deno_runtime::deno_net::tcp::TcpListener;
use deno_runtime::deno_os::ExitCode;
use deno_runtime::deno_permissions::PermissionsContainer;
use kernel_host::sink::SharedSink;
use kernel_protocol::KernelEvent;
use kernel_protocol::ProgramEvent;

/// Where `Deno.serve` listens when the script names no port, as it is shown to the script.
const DEFAULT_PORT: u16 = 8000;

/// Where servers may listen.
struct Listening {
  behind_engine: bool,
  own_address: Option<Ipv4Addr>,
  /// Whether the engine knows of a server on the app's own address.
  told: bool,
  /// Set while `Deno.serve` begins to listen and its options name no address.
  anywhere: bool,
}

deno_core::extension!(
  program,
  ops = [
    op_program_any_address,
    op_program_node_address,
    op_program_node_listening
  ],
  options = { behind_engine: bool },
  middleware = |op| match op.name {
    "op_net_listen_tcp" => op_program_listen_tcp(),
    "op_exit" => op_program_exit(),
    _ => op,
  },
  state = |state, options| {
    state.put(Listening {
      behind_engine: options.behind_engine,
      own_address: None,
      told: false,
      anywhere: false,
    });
  },
);

pub(super) fn extension(behind_engine: bool) -> deno_core::Extension {
  program::init(behind_engine)
}

/// Sets where servers listen that may nowhere else.
pub(super) fn set_own_address(state: &mut OpState, address: Option<Ipv4Addr>) {
  if let Some(listening) = state.try_borrow_mut::<Listening>() {
    listening.own_address = address;
  }
}

#[op2(fast)]
fn op_program_any_address(state: &mut OpState, anywhere: bool) {
  state.borrow_mut::<Listening>().anywhere = anywhere;
}

/// Listens where the script says, when it says so and may; otherwise on a port of the app's own address,
/// which the engine learns of and forwards requests to. The script sees the address it asked for.
#[op2(stack_trace)]
fn op_program_listen_tcp(
  state: &mut OpState,
  #[scoped] wanted: IpAddr,
  reuse_port: bool,
  load_balanced: bool,
  backlog: i32,
) -> Result<(ResourceId, IpAddr), JsErrorBox> {
  let listening = state.borrow::<Listening>();
  let must_be_granted = !listening.behind_engine;
  let named = must_be_granted || (!listening.anywhere && wanted.port != 0);
  let sink = state.borrow::<SharedSink>().clone();
  let granted = match named.then(|| granted_address(state, &wanted)) {
    Some(Ok(address)) => Some(address),
    Some(Err(error)) if must_be_granted => return Err(error),
    Some(Err(_)) | None => None,
  };
  let (listener, shown) = match granted {
    Some(address) => {
      let port = address.port();
      let bound = if load_balanced {
        TcpListener::bind_load_balanced(address, backlog)
      } else {
        TcpListener::bind_direct(address, reuse_port, backlog)
      };
      let listener = bound.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
          sink.program(ProgramEvent::PortTaken { port });
        }
        JsErrorBox::from_err(error)
      })?;
      let bound = listener.local_addr().map_err(JsErrorBox::from_err)?;
      sink.program(ProgramEvent::Listening {
        port: bound.port(),
        permitted: true,
      });
      (listener, bound.into())
    }
    None => {
      let own_address = state.borrow::<Listening>().own_address;
      let own = SocketAddr::from((own_address.unwrap_or(Ipv4Addr::LOCALHOST), 0));
      let listener = TcpListener::bind_direct(own, false, backlog).map_err(JsErrorBox::from_err)?;
      if named {
        sink.emit(KernelEvent::stderr(format!(
          "Port {port} is not this app's: the permission `net` does not grant {host}:{port}. The engine \
           forwards requests all the same.\n",
          host = wanted.hostname,
          port = wanted.port,
        )));
      }
      let bound = listener.local_addr().map_err(JsErrorBox::from_err)?;
      tell_own(state, bound.port());
      let port = match wanted.port {
        0 => DEFAULT_PORT,
        port => port,
      };
      (listener, IpAddr { port, ..wanted })
    }
  };
  let id = state
    .resource_table
    .add(NetworkListenerResource::new(listener));
  Ok((id, shown))
}

/// Where a server of `node:net` binds instead; empty when it may bind what it asks for, or must not
/// listen at all.
#[op2]
#[string]
fn op_program_node_address(
  state: &mut OpState,
  #[string] hostname: String,
  #[smi] port: u32,
) -> String {
  let own = state.borrow::<Listening>().own_address;
  let port = u16::try_from(port).unwrap_or_default();
  match own {
    Some(own) if granted_address(state, &IpAddr { hostname, port }).is_err() => own.to_string(),
    _ => String::new(),
  }
}

/// A server of `node:net` accepts connections, on a port of the app's own address or on one that it was
/// granted.
#[op2(fast)]
fn op_program_node_listening(state: &mut OpState, #[smi] port: u32, own: bool) {
  let port = u16::try_from(port).unwrap_or_default();
  if own {
    tell_own(state, port);
  } else {
    let sink = state.borrow::<SharedSink>();
    sink.program(ProgramEvent::Listening {
      port,
      permitted: true,
    });
  }
}

/// Tells of a server on the app's own address; requests go to the first.
fn tell_own(state: &mut OpState, port: u16) {
  let another = std::mem::replace(&mut state.borrow_mut::<Listening>().told, true);
  let sink = state.borrow::<SharedSink>();
  if another {
    sink.emit(KernelEvent::stderr(
      "The engine forwards requests to the first server of an app; this one is another.\n",
    ));
  }
  sink.program(ProgramEvent::Listening {
    port,
    permitted: false,
  });
}

fn granted_address(state: &mut OpState, wanted: &IpAddr) -> Result<SocketAddr, JsErrorBox> {
  const API: &str = "Deno.listen()";
  let permissions = state.borrow_mut::<PermissionsContainer>();
  permissions
    .check_net(&(&wanted.hostname, Some(wanted.port)), API)
    .map_err(JsErrorBox::from_err)?;
  let address = resolve_addr_sync(&wanted.hostname, wanted.port)
    .map_err(JsErrorBox::from_err)?
    .next()
    .ok_or_else(|| JsErrorBox::generic(format!("\"{}\" is no address", wanted.hostname)))?;
  permissions
    .check_net_resolved(&address.ip(), address.port(), API)
    .map_err(JsErrorBox::from_err)?;
  Ok(address)
}

/// `Deno.exit`, `process.exit`.
#[op2(fast)]
fn op_program_exit(state: &mut OpState) {
  let code = state.borrow::<ExitCode>().get();
  kernel_host::host::end_program(&**state.borrow::<SharedSink>(), code);
}
