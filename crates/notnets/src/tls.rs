//! TLS for peers that are reached over HTTP/2 (feature `tls`): `https://` addresses of channels and servers.
//!
//! The types have the names of tonic's. Certificates and keys are PEM.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use notnets::tls::{Certificate, ClientTlsConfig};
//! use notnets::Channel;
//!
//! let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read("ca.pem")?));
//! let channel = Channel::named("inventory").or("https://inventory:50051").tls_config(tls)?.connect().await?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use once_cell::race::OnceBox;
use tokio_rustls::rustls::AlertDescription as Alert;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
#[cfg(feature = "tonic-connect-info")]
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::Error;
use crate::error::Cause;
use crate::http2::Stream;

/// What both sides have to agree on: gRPC is spoken in HTTP/2.
const ALPN: &[u8] = b"h2";
const NO_HTTP2: &str = "its TLS offers no HTTP/2 (ALPN h2), which gRPC needs";

/// One or several certificates.
#[derive(Clone, Debug)]
pub struct Certificate {
    pem: Vec<u8>,
}

impl Certificate {
    /// The certificates in this text.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Self {
        Self { pem: pem.as_ref().to_vec() }
    }

    fn read(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates = CertificateDer::pem_slice_iter(&self.pem).collect::<Result<Vec<_>, _>>();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => {
                Err(bad(format!("{what} has no certificate; it has to be PEM, -----BEGIN CERTIFICATE-----")))
            }
            Err(error) => Err(bad(format!("{what} can't be read: {error}; it has to be PEM"))),
        }
    }
}

/// A certificate, those that vouch for it, and its private key.
#[derive(Clone)]
pub struct Identity {
    certificates: Certificate,
    key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// The certificates and the key in these texts.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { certificates: Certificate::from_pem(certificates), key: key.as_ref().to_vec() }
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let certificates = self.certificates.read("the identity's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            bad(format!(
                "the identity's private key can't be read: {error}; it has to be PEM, without a password"
            ))
        })?;
        Ok((certificates, key))
    }
}

/// How a channel deals with the TLS of its servers.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsConfig {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
    domain: Option<String>,
}

impl ClientTlsConfig {
    /// Servers have to have a certificate that the system's roots vouch for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a root. The system's roots do not count then.
    #[must_use]
    pub fn ca_certificate(mut self, certificate: Certificate) -> Self {
        self.roots.push(certificate);
        self
    }

    /// What this side shows to servers that ask for it.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The name that the server's certificate has to be for, if that is not the host of its address.
    #[must_use]
    pub fn domain_name(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    fn read(&self) -> Result<Client, Error> {
        let mut roots = RootCertStore::empty();
        let certificates = if self.roots.is_empty() {
            rustls_native_certs::load_native_certs().certs
        } else {
            let read = self.roots.iter().map(|root| root.read("a root certificate"));
            read.collect::<Result<Vec<_>, _>>()?.concat()
        };
        roots.add_parsable_certificates(certificates);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|_| {
            let where_from = if self.roots.is_empty() { "the system has none" } else { "none can be used" };
            bad(format!("there are no root certificates: {where_from}; set ClientTlsConfig::ca_certificate"))
        })?;
        let builder =
            rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable)?.with_webpki_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) = identity.read()?;
                builder.with_client_auth_cert(certificates, key).map_err(unusable)?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let domain = self.domain.as_deref().map(server_name).transpose()?;
        Ok(Client { connector: TlsConnector::from(Arc::new(config)), domain })
    }
}

/// How a server shows itself, and what it asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct ServerTlsConfig {
    identity: Option<Identity>,
    client_roots: Vec<Certificate>,
    is_optional: bool,
}

impl ServerTlsConfig {
    /// Needs an [`identity`](Self::identity).
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's certificate and its key.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Has clients show a certificate that this root vouches for. Unless one is set, they need none.
    #[must_use]
    pub fn client_ca_root(mut self, certificate: Certificate) -> Self {
        self.client_roots.push(certificate);
        self
    }

    /// Whether clients without a certificate are let in although there is a
    /// [`client_ca_root`](Self::client_ca_root).
    #[must_use]
    pub fn client_auth_optional(mut self, optional: bool) -> Self {
        self.is_optional = optional;
        self
    }

    fn read(&self) -> Result<TlsAcceptor, Error> {
        let Some(identity) = &self.identity else {
            return Err(bad("a server's TLS needs a certificate and its key: set ServerTlsConfig::identity"));
        };
        let (certificates, key) = identity.read()?;
        let builder =
            rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable)?;
        let builder =
            if self.client_roots.is_empty() {
                builder.with_no_client_auth()
            } else {
                let mut roots = RootCertStore::empty();
                for root in &self.client_roots {
                    roots.add_parsable_certificates(root.read("a client's root certificate")?);
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if self.is_optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                    bad(format!("the roots of clients' certificates can't be used: {error}"))
                })?)
            };
        let mut config = builder.with_single_cert(certificates, key).map_err(unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn bad(sentence: impl Into<String>) -> Error {
    Cause::Tls(sentence.into()).into()
}

fn unusable(error: rustls::Error) -> Error {
    bad(format!("the certificate and its key can't be used: {error}; do they belong together?"))
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| bad(format!("`{name}` is no name that a certificate can be for: write a host")))
}

/// The TLS of a channel, ready for use, which can be set anew while the channel is in use. Clones are one and
/// the same.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use notnets::tls::{Certificate, ClientTls, ClientTlsConfig};
///
/// let read = || {
///     let root = Certificate::from_pem(std::fs::read("ca.pem")?);
///     std::io::Result::Ok(ClientTlsConfig::new().ca_certificate(root))
/// };
/// let tls = ClientTls::new(read()?)?;
/// let channel = notnets::Channel::named("inventory").or("https://inventory:50051").tls(tls.clone());
/// // When the file was written anew:
/// tls.replace(read()?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ClientTls(Arc<RwLock<Client>>);

#[derive(Clone)]
struct Client {
    connector: TlsConnector,
    domain: Option<ServerName<'static>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("domain", &self.present().domain).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads what is set.
    ///
    /// # Errors
    /// When a certificate or a key can't be used.
    pub fn new(config: ClientTlsConfig) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(config.read()?))))
    }

    /// Has connections that are made from now on go by this. Those that are open stay.
    ///
    /// # Errors
    /// When a certificate or a key can't be used. Then all stays as it was.
    pub fn replace(&self, config: ClientTlsConfig) -> Result<(), Error> {
        let client = config.read()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    fn present(&self) -> Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is used where nothing is set: the system's roots.
    pub(crate) fn of_system() -> io::Result<Self> {
        static OF_SYSTEM: OnceBox<ClientTls> = OnceBox::new();
        if let Some(tls) = OF_SYSTEM.get() {
            return Ok(tls.clone());
        }
        let tls = Self::new(ClientTlsConfig::new()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(OF_SYSTEM.get_or_init(|| tls.into()).clone())
    }

    /// Makes a connection to this host one by TLS.
    ///
    /// # Errors
    /// With a sentence that says what to do.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: impl Stream + 'static,
    ) -> io::Result<Box<dyn Stream>> {
        let Client { connector, domain } = self.present();
        let name = match domain {
            Some(domain) => domain,
            None => server_name(host).map_err(|error| io::Error::other(error.to_string()))?,
        };
        let stream = connector.connect(name, stream).await.map_err(|error| explained(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other(NO_HTTP2));
        }
        Ok(Box::new(stream))
    }
}

/// The TLS of a server, ready for use, which can be set anew while the server runs: for a certificate that
/// was renewed. Clones are one and the same.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use notnets::tls::{Identity, ServerTls, ServerTlsConfig};
/// use tokio::signal::unix::{SignalKind, signal};
///
/// let read = || {
///     let identity = Identity::from_pem(std::fs::read("tls.crt")?, std::fs::read("tls.key")?);
///     std::io::Result::Ok(ServerTlsConfig::new().identity(identity))
/// };
/// let tls = ServerTls::new(read()?)?;
/// let server = notnets::Server::builder().tls(tls.clone());
/// let mut hangup = signal(SignalKind::hangup())?;
/// tokio::spawn(async move {
///     while hangup.recv().await.is_some() {
///         match read() {
///             Ok(config) => tls.replace(config).unwrap_or_else(|error| eprintln!("{error}")),
///             Err(error) => eprintln!("{error}"),
///         }
///     }
/// });
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<TlsAcceptor>>);

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads what is set.
    ///
    /// # Errors
    /// When a certificate or a key can't be used, or there is none.
    pub fn new(config: ServerTlsConfig) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(config.read()?))))
    }

    /// Has connections that come from now on go by this. Those that are open stay.
    ///
    /// # Errors
    /// When a certificate or a key can't be used, or there is none. Then all stays as it was.
    pub fn replace(&self, config: ServerTlsConfig) -> Result<(), Error> {
        let acceptor = config.read()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    pub(crate) async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, Shown)> {
        let acceptor = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = acceptor.accept(stream).await?;
        let shown = Shown::of(&stream);
        Ok((Box::new(stream), shown))
    }
}

/// The certificates that a client has shown to a server with a
/// [`client_ca_root`](ServerTlsConfig::client_ca_root): an extension of each of its requests.
///
/// ```
/// use notnets::tls::PeerCertificates;
///
/// fn certificate<T>(request: &tonic::Request<T>) -> Option<&[u8]> {
///     request.extensions().get::<PeerCertificates>()?.der().next()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificates(Arc<Vec<CertificateDer<'static>>>);

impl PeerCertificates {
    /// The certificates in DER: the client's own first, then those that vouch for it.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| &**certificate)
    }
}

/// What a client has shown of itself.
#[derive(Clone, Debug)]
pub struct Shown {
    pub(crate) certificates: Option<PeerCertificates>,
    /// The same in tonic's terms, without addresses.
    #[cfg(feature = "tonic-connect-info")]
    pub(crate) info: TlsConnectInfo<TcpConnectInfo>,
}

impl Shown {
    #[cfg(not(feature = "tonic-connect-info"))]
    fn of(stream: &TlsStream<Box<dyn Stream>>) -> Self {
        let certificates = stream.get_ref().1.peer_certificates();
        Self { certificates: certificates.map(|all| PeerCertificates(Arc::new(all.to_vec()))) }
    }

    #[cfg(feature = "tonic-connect-info")]
    fn of(stream: &TlsStream<Box<dyn Stream>>) -> Self {
        let info = stream.connect_info();
        Self { certificates: info.peer_certs().map(PeerCertificates), info }
    }
}

/// tonic's word about TLS can only be had of a stream.
#[cfg(feature = "tonic-connect-info")]
impl Connected for Box<dyn Stream> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: None }
    }
}

/// Says what to do about an error of TLS. Others are as they are.
pub(crate) fn explained(error: &io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    // HTTP/2 keeps no more of an error than its text.
    let advice = cause.map_or_else(|| advice_of_text(&error.to_string()), advice);
    match advice {
        Some(advice) => io::Error::new(error.kind(), format!("{advice} ({error})")),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn advice(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{CertificateError as Certificate, Error as Tls};
    Some(match error {
        Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "no root of this side vouches for its certificate: set ClientTlsConfig::ca_certificate"
        }
        Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another name: call it by that, or set ClientTlsConfig::domain_name",
        Tls::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired: renew it, or set this host's clock"
        }
        Tls::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: set this host's clock"
        }
        Tls::InvalidMessage(_) => "what it speaks is not TLS: write http://",
        Tls::AlertReceived(alert) => return advice_of_alert(*alert),
        _ => return None,
    })
}

fn advice_of_alert(alert: Alert) -> Option<&'static str> {
    Some(match alert {
        Alert::CertificateRequired => "it wants a certificate of this side: set ClientTlsConfig::identity",
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::DecryptError => {
            "it refuses the certificate of this side: set another ClientTlsConfig::identity"
        }
        Alert::NoApplicationProtocol => NO_HTTP2,
        _ => return None,
    })
}

fn advice_of_text(text: &str) -> Option<&'static str> {
    let alerts = [
        Alert::CertificateRequired,
        Alert::UnknownCA,
        Alert::BadCertificate,
        Alert::CertificateUnknown,
        Alert::DecryptError,
    ];
    let alert = alerts.into_iter().find(|alert| text == rustls::Error::AlertReceived(*alert).to_string());
    alert.and_then(advice_of_alert)
}
