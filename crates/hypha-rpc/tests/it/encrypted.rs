//! Encrypted connections.

use std::sync::Arc;

use hypha_rpc::Client;
use hypha_rpc::ConnectError;
use hypha_rpc::Options;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async;
use url::Url;

use crate::support::scripted::Conversation;
use crate::support::scripted::Scripted;
use crate::support::soon;

const AUTHORITY: &[u8] = include_bytes!("certificates/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("certificates/server.pem");
const KEY: &[u8] = include_bytes!("certificates/server.key");

fn acceptor() -> TlsAcceptor {
  let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
  let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
  let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
  let config = ServerConfig::builder_with_provider(provider)
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(vec![certificate], key)
    .expect("a key that fits");
  TlsAcceptor::from(Arc::new(config))
}

fn options(server: &Scripted, scheme: &str) -> Options {
  let address = format!("{scheme}://127.0.0.1:{}", server.port());
  Options {
    server_url: Url::parse(&address).expect("an address"),
    ..server.options()
  }
}

#[tokio::test]
async fn a_server_of_an_authority_that_is_named_is_trusted() {
  for scheme in ["wss", "https"] {
    let server = Scripted::start().await;
    let mut options = options(&server, scheme);
    options.authorities = Some(AUTHORITY.to_vec());
    let serve = async {
      let stream = acceptor().accept(server.tcp().await).await;
      let socket = accept_async(stream.expect("encryption")).await;
      let mut conversation = Conversation {
        socket: socket.expect("a handshake"),
      };
      conversation.next().await;
      conversation.welcome().await;
      conversation
    };
    let (client, mut conversation) = soon(Box::pin(async {
      tokio::join!(Client::connect(options), serve)
    }))
    .await;
    let _client = client.expect("a connection");
    conversation.is_alive().await;
  }
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_talked_to() {
  let server = Scripted::start().await;
  let serve = async { acceptor().accept(server.tcp().await).await.is_err() };
  let (outcome, failed) =
    soon(async { tokio::join!(Client::connect(options(&server, "wss")), serve) }).await;
  let error = outcome.expect_err("no connection");
  assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
  assert!(error.to_string().contains("certificate"), "{error}");
  assert!(failed);
}

#[tokio::test]
async fn authorities_that_are_none_are_reported() {
  let server = Scripted::start().await;
  let mut options = options(&server, "wss");
  options.authorities =
    Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
  let error = soon(Client::connect(options))
    .await
    .expect_err("no connection");
  assert!(matches!(error, ConnectError::Invalid(_)), "{error}");
}
