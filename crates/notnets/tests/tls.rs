//! Channels and servers over HTTP/2 by TLS.

mod common;

use std::time::Duration;

use common::{Running, within};
use notnets::names::{Builder, Pick};
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::tls::{
    Certificate, ClientTls, ClientTlsConfig, Identity, PeerCertificates, ServerTls, ServerTlsConfig,
};
use notnets::{Channel, ErrorKind, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Says who it is.
struct Who(&'static str);

impl Handler for Who {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let message = call.requests.only_message().await?;
        if message.is_empty() {
            call.responses.send_last(self.0).await
        } else {
            call.responses.send_last(message).await
        }
    }
}

/// One that vouches for others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.0.pem())
    }

    /// A certificate for this host, and its key.
    fn vouch(&self, host: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

fn serve(tls: ServerTlsConfig) -> (Running, String) {
    serve_by(ServerTls::new(tls).unwrap())
}

fn serve_by(tls: ServerTls) -> (Running, String) {
    let server = Server::builder().tls(tls).add_rpc_service("test.Who", Who("it"));
    let bound = server.bind_blocking("https://127.0.0.1:0").unwrap();
    let address = bound.http2_addresses().pop().unwrap();
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    (Running::start(bound), address)
}

fn named(address: &str) -> Builder {
    Channel::named("test").local(address).pick(Pick::First)
}

async fn call(channel: &Channel, message: &'static str) -> Result<String, Status> {
    const CALL: Method = Method::from_static("/test.Who/Call");
    let reply = within("a call", channel.unary_call(Request::new(CALL), message)).await?;
    Ok(String::from_utf8(reply.message.into_bytes().to_vec()).unwrap())
}

async fn refused(builder: Builder) -> String {
    let status = call(&builder.connect_lazy().unwrap(), "").await.unwrap_err();
    assert_eq!((status.code(), status.is_retry_safe()), (Code::UNAVAILABLE, true), "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn calls_go_by_tls() {
    let authority = Authority::new();
    let (running, address) = serve(ServerTlsConfig::new().identity(authority.vouch("127.0.0.1")));
    let tls = ClientTlsConfig::new().ca_certificate(authority.certificate());
    let channel = named(&address).tls_config(tls).unwrap().connect_lazy().unwrap();
    assert_eq!(call(&channel, "").await.unwrap(), "it");
    static LARGE: [u8; 300_000] = [b'x'; 300_000];
    let large = std::str::from_utf8(&LARGE).unwrap();
    assert_eq!(call(&channel, large).await.unwrap(), large);
    // It leaves in order.
    running.stop().await;
    assert_eq!(call(&channel, "").await.unwrap_err().code(), Code::UNAVAILABLE);
}

#[tokio::test]
async fn a_certificate_may_be_for_another_name_if_that_is_said() {
    let authority = Authority::new();
    let (_running, address) = serve(ServerTlsConfig::new().identity(authority.vouch("shop.internal")));
    let tls = ClientTlsConfig::new().ca_certificate(authority.certificate()).domain_name("shop.internal");
    let channel = named(&address).tls_config(tls).unwrap().connect_lazy().unwrap();
    assert_eq!(call(&channel, "").await.unwrap(), "it");
}

#[tokio::test]
async fn clients_show_who_they_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = ServerTlsConfig::new().identity(authority.vouch("127.0.0.1"));
    let (_running, address) = serve(tls.client_ca_root(authority.certificate()));
    let tls = || ClientTlsConfig::new().ca_certificate(authority.certificate());
    let known = named(&address).tls_config(tls().identity(authority.vouch("client"))).unwrap();
    assert_eq!(call(&known.connect_lazy().unwrap(), "").await.unwrap(), "it");
    let sentence = refused(named(&address).tls_config(tls()).unwrap()).await;
    assert!(
        sentence.contains("it wants a certificate of this side: set ClientTlsConfig::identity"),
        "{sentence}"
    );
    let stranger = named(&address).tls_config(tls().identity(other.vouch("client"))).unwrap();
    let sentence = refused(stranger).await;
    assert!(sentence.contains("it refuses the certificate of this side"), "{sentence}");
}

#[tokio::test]
async fn what_refused_tls_is_about_is_told() {
    let authority = Authority::new();
    let (_running, address) = serve(ServerTlsConfig::new().identity(authority.vouch("elsewhere")));
    let tls = || ClientTlsConfig::new().ca_certificate(authority.certificate());
    let sentence = refused(named(&address).tls_config(tls()).unwrap()).await;
    assert!(sentence.contains("its certificate is for another name"), "{sentence}");
    let other = ClientTlsConfig::new().ca_certificate(Authority::new().certificate());
    let sentence = refused(named(&address).tls_config(other).unwrap()).await;
    assert!(sentence.contains("no root of this side vouches for its certificate: set"), "{sentence}");
    // One side does not speak it.
    let sentence = refused(named(&address.replacen("https", "http", 1))).await;
    assert!(sentence.contains("write https://") || sentence.contains("want TLS (https://)?"), "{sentence}");
    let plain = Server::builder().add_rpc_service("test.Who", Who("plain"));
    let plain = plain.bind_blocking("http://127.0.0.1:0").unwrap();
    let address = plain.http2_addresses().pop().unwrap().replacen("http", "https", 1);
    let _plain = Running::start(plain);
    let sentence = refused(named(&address).tls_config(tls()).unwrap()).await;
    assert!(sentence.contains("what it speaks is not TLS: write http://"), "{sentence}");
}

#[tokio::test]
async fn certificates_are_renewed_while_both_sides_run() {
    let (old, new) = (Authority::new(), Authority::new());
    let of_server = ServerTls::new(ServerTlsConfig::new().identity(old.vouch("127.0.0.1"))).unwrap();
    let (_running, address) = serve_by(of_server.clone());
    let trusting = |authority: &Authority| ClientTlsConfig::new().ca_certificate(authority.certificate());
    let of_client = ClientTls::new(trusting(&old)).unwrap();
    let channel = || named(&address).tls(of_client.clone()).connect_lazy().unwrap();
    let before = channel();
    assert_eq!(call(&before, "").await.unwrap(), "it");
    // Nonsense changes nothing.
    let error = of_server.replace(ServerTlsConfig::new()).unwrap_err();
    assert!(error.to_string().contains("set ServerTlsConfig::identity"), "{error}");
    let garbage = ClientTlsConfig::new().ca_certificate(Certificate::from_pem("garbage"));
    of_client.replace(garbage).unwrap_err();
    assert_eq!(call(&channel(), "").await.unwrap(), "it");

    of_server.replace(ServerTlsConfig::new().identity(new.vouch("127.0.0.1"))).unwrap();
    let sentence = refused(named(&address).tls(of_client.clone())).await;
    assert!(sentence.contains("no root of this side vouches for its certificate"), "{sentence}");
    of_client.replace(trusting(&new)).unwrap();
    assert_eq!(call(&channel(), "").await.unwrap(), "it");
    assert_eq!(call(&before, "").await.unwrap(), "it", "what is open stays");
}

#[tokio::test]
async fn services_read_what_clients_have_shown() {
    let authority = Authority::new();
    let tls = ServerTlsConfig::new().identity(authority.vouch("127.0.0.1"));
    let tls = tls.client_ca_root(authority.certificate()).client_auth_optional(true);
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let interceptor = move |request: tonic::Request<()>| {
        let certificates = request.extensions().get::<PeerCertificates>();
        #[cfg(feature = "tonic-connect-info")]
        {
            assert_eq!(request.peer_certs().map(|all| all.len()), certificates.map(|all| all.der().count()));
            assert!(request.remote_addr().is_some());
        }
        sender.send(certificates.map(|all| all.der().map(<[u8]>::to_vec).collect::<Vec<_>>())).unwrap();
        Ok(request)
    };
    let (_, health) = tonic_health::server::health_reporter();
    let service = tonic::service::interceptor::InterceptedService::new(health, interceptor);
    let server = Server::builder().tls_config(tls).unwrap().add_service(service);
    let bound = server.bind_blocking("https://127.0.0.1:0").unwrap();
    let address = bound.http2_addresses().pop().unwrap();
    let _running = Running::start(bound);

    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority.0).unwrap();
    let known = Identity::from_pem(certificate.pem(), key.serialize_pem());
    let tls = || ClientTlsConfig::new().ca_certificate(authority.certificate());
    for (tls, shown) in [(tls().identity(known), Some(vec![certificate.der().to_vec()])), (tls(), None)] {
        let channel = named(&address).tls_config(tls).unwrap().connect_lazy().unwrap();
        let mut client = HealthClient::new(channel);
        within("a call", client.check(HealthCheckRequest::default())).await.unwrap();
        assert_eq!(seen.recv().await.unwrap(), shown);
    }
}

#[tokio::test]
async fn servers_of_a_name_in_dns_have_certificates_for_it() {
    let authority = Authority::new();
    let (_running, address) = serve(ServerTlsConfig::new().identity(authority.vouch("localhost")));
    let port = address.rsplit(':').next().unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(authority.certificate());
    let named = named(&format!("dns+https:///localhost:{port}")).tls_config(tls).unwrap();
    assert_eq!(call(&named.connect_lazy().unwrap(), "").await.unwrap(), "it");
}

/// A client that says nothing keeps no server from stopping.
#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let authority = Authority::new();
    let (running, address) = serve(ServerTlsConfig::new().identity(authority.vouch("127.0.0.1")));
    let silent = tokio::net::TcpStream::connect(address.trim_start_matches("https://")).await.unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(authority.certificate());
    let channel = named(&address).tls_config(tls).unwrap().connect_lazy().unwrap();
    assert_eq!(call(&channel, "").await.unwrap(), "it");
    running.stop().await;
    drop(silent);
}

/// A server that says nothing fails calls no later than others that are not there.
#[tokio::test]
async fn a_server_that_never_answers_a_handshake_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", silent.local_addr().unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(Authority::new().certificate());
    let named = named(&address).tls_config(tls).unwrap();
    let sentence =
        refused(named.settings(|endpoint| endpoint.connect_timeout(Duration::from_millis(50)))).await;
    assert!(sentence.contains("no answer within 50ms"), "{sentence}");
}

#[test]
fn what_can_not_be_used_is_told() {
    let authority = Authority::new();
    let identity = || authority.vouch("localhost");
    let garbage = || Certificate::from_pem("garbage");
    for (tls, words) in [
        (ServerTlsConfig::new(), "set ServerTlsConfig::identity"),
        (ServerTlsConfig::new().identity(Identity::from_pem("", "")), "has no certificate; it has to be PEM"),
        (
            ServerTlsConfig::new().identity(Identity::from_pem(authority.0.pem(), "")),
            "private key can't be read",
        ),
        (
            ServerTlsConfig::new().identity(Identity::from_pem(
                authority.0.pem(),
                KeyPair::generate().unwrap().serialize_pem(),
            )),
            "do they belong together?",
        ),
        (
            ServerTlsConfig::new().identity(identity()).client_ca_root(garbage()),
            "a client's root certificate has",
        ),
    ] {
        let error = Server::builder().tls_config(tls).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
    for (tls, words) in [
        (ClientTlsConfig::new().ca_certificate(garbage()), "a root certificate has no certificate"),
        (
            ClientTlsConfig::new().ca_certificate(authority.certificate()).domain_name("a b"),
            "`a b` is no name",
        ),
    ] {
        let error = named("https://localhost:1").tls_config(tls).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let server = Server::builder().add_rpc_service("test.Who", Who("it"));
    let error = server.bind_blocking("https://127.0.0.1:0").unwrap_err();
    let sentence = "cannot listen on https://127.0.0.1:0: TLS needs a certificate and its key; set them by \
                    Server::tls_config";
    assert_eq!(error.to_string(), sentence);
}
