//! Channels and servers over HTTP/2 by TLS.

mod common;

use common::{Running, within};
use notnets::names::{Builder, Pick};
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::tls::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use notnets::{Channel, ErrorKind, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

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
    let server = Server::builder().tls_config(tls).unwrap().add_rpc_service("test.Who", Who("it"));
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
