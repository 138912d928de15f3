//! Where tenants' endpoints may be, and where the operator's.

use access::Classified;
use access::ErrorKind;
use access::Secret;
use models::CancellationToken;
use models::ChatClient;
use models::Endpoint;
use models::ModelError;
use models::Trust;

use crate::KEY;
use crate::limits;
use crate::request;
use crate::server::Server;
use crate::server::hello;

async fn ask(client: &ChatClient, url: &str, trust: Trust) -> Result<String, ModelError> {
  let endpoint = Endpoint::new(url, Some(Secret::new(KEY)), trust)?;
  let asked = client
    .complete(&endpoint, &request(), &limits(), CancellationToken::new())
    .await;
  asked.map(|completion| completion.text)
}

#[tokio::test]
async fn the_operators_endpoint_may_be_on_this_machine() {
  let server = Server::always(hello).await;
  let client = ChatClient::default();
  let port = server.address.port();
  for host in ["127.0.0.1", "localhost"] {
    let url = format!("http://{host}:{port}/v1");
    let text = ask(&client, &url, Trust::Operator).await.expect(host);
    assert_eq!(text, "Hello");
  }
}

#[tokio::test]
async fn a_tenants_endpoint_may_not_be_inside_by_any_name() {
  let server = Server::always(hello).await;
  let client = ChatClient::default();
  let port = server.address.port();
  let own = outbound::network::own_addresses().into_iter();
  let own = own
    .filter(std::net::IpAddr::is_ipv4)
    .map(|own| own.to_string());
  let hosts = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "169.254.169.254",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fd00::1]",
    "[fe80::1]",
    // Names that resolve to this machine.
    "localhost",
    "LOCALHOST",
  ];
  for host in hosts.into_iter().map(str::to_owned).chain(own) {
    let url = format!("http://{host}:{port}/v1");
    // The operator's connections to the same place are of no use to a tenant.
    let _ = ask(
      &client,
      &format!("http://127.0.0.1:{port}/v1"),
      Trust::Operator,
    )
    .await;
    let before = server.requests().len();
    let error = ask(&client, &url, Trust::Tenant).await.expect_err(&host);
    let message = error.to_string();
    assert!(
      message.starts_with("baseURL: `")
        && message.contains("is not on the public network")
        && message
          .ends_with("name a server on the public network, or ask the operator to offer the model"),
      "{host}: {message}"
    );
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{host}");
    assert_eq!(server.requests().len(), before, "{host}");
  }
}

#[tokio::test]
async fn a_name_inside_is_not_asked_for_again() {
  let begun = std::time::Instant::now();
  let mut slow = limits();
  slow.retries.first_wait = std::time::Duration::from_secs(2);
  let endpoint = Endpoint::new("http://localhost:1/v1", None, Trust::Tenant).expect("a name");
  let asked = ChatClient::default()
    .complete(&endpoint, &request(), &slow, CancellationToken::new())
    .await;
  let error = asked.expect_err("inside");
  assert!(matches!(error, ModelError::NotPublic(_)), "{error:?}");
  assert!(begun.elapsed() < std::time::Duration::from_secs(1));
}
