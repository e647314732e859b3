//! Why there is no server or link.

mod kind;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use notnets_core::code::Code;
use notnets_core::limits::BadLimits;
use notnets_core::link::LinkError;
use notnets_core::link::connect::ConnectError;
use notnets_core::link::expected::UnexpectedServer;
use notnets_core::link::rendezvous::RendezvousError;
use notnets_core::name::{Name, Uri, UriError};
use notnets_memory::{SealedError, SegmentError};
#[cfg(feature = "pod")]
use notnets_pod::member::PodError;

#[cfg(feature = "http2")]
use crate::location::Location;
pub use kind::ErrorKind;

/// Why serving or connecting failed.
///
/// Its message says in full what happened and what to do about it; [`kind`](Self::kind) is for programs.
///
/// ```
/// use notnets::{Endpoint, ErrorKind};
///
/// let error = Endpoint::new("http://[::1]:50051").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidUri);
/// assert!(!error.is_retryable());
/// assert!(error.to_string().contains("is not a notnets: URI"));
/// ```
pub struct Error(Arc<Cause>);

/// What went wrong. Each message has all of its cause in it, so no variant has a source of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error("{0:?} can't be a URI; write `notnets:///NAME`, or `notnets://POD/NAME`")]
    UnusualUri(String),
    #[error("{0:?} can't be a user agent; write visible ASCII characters and spaces only")]
    UserAgent(String),
    #[error("{0} is 0, so that no call could ever be made; set at least 1, or leave it out")]
    NoCalls(&'static str),
    #[cfg(feature = "server")]
    #[error("`{0}` is not the name of a service; write it as `package.Service`, without slashes")]
    ServiceName(String),
    #[cfg(feature = "server")]
    #[error("the service `{0}` is added twice; add it once")]
    ServiceTwice(String),
    #[cfg(feature = "server")]
    #[error(
        "can't serve a name in a pod in a process that was forked from the one that took it; bind after the fork"
    )]
    ForkedMember,
    #[error(
        "{0} can't be taken over, for it is in a pod, where several servers may have one name: serve it beside \
         the old server, which is stopped then (Server::take_over)"
    )]
    TakeOverInPod(Uri),
    #[error("no name to serve is given, as `notnets:///NAME`")]
    NoNames,
    /// Sockets that were to be passed to this process; a sentence.
    #[cfg(any(feature = "blocking", feature = "server"))]
    #[error("{0}")]
    Passed(String),
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    #[error("no link to notnets:///{name}: {error}")]
    Link { name: String, error: LinkError },
    #[error("no link to notnets:///{name}: {error}")]
    UnexpectedServer { name: String, error: UnexpectedServer },
    #[cfg(feature = "pod")]
    #[error("no link to {uri}: {error}{}", service_of_host(uri, error))]
    Pod { uri: Uri, error: PodError },
    #[cfg(all(feature = "pod", any(feature = "server", feature = "blocking")))]
    #[error("could not serve {uri}: {error}{}", service_of_host(uri, error))]
    ServePod { uri: Uri, error: PodError },
    #[cfg(not(feature = "pod"))]
    #[error(
        "could not reach a pod: this program was built without the feature `pod` of notnets; \
         a service of this host is `notnets:///NAME`"
    )]
    WithoutPods,
    #[error(
        "no link to notnets:///{name}: no answer within {after:?} (Endpoint::connect_timeout); \
         its server hangs, has taken the name but does not serve it yet, or has run out of descriptors"
    )]
    ConnectTimeout { name: String, after: Duration },
    #[cfg(feature = "client")]
    #[error("no link: the runtime that the channel connected in has ended; try again")]
    DialLost,
    /// What a channel that finds its servers is made of; a sentence.
    #[cfg(feature = "client")]
    #[error("{0}")]
    Names(String),
    #[cfg(feature = "client")]
    #[error("no server of `{name}`{why}")]
    NoServer { name: Name, why: String },
    /// Why the first server was not reached, and why there is none at other places.
    #[cfg(feature = "client")]
    #[error("{first}{others}")]
    NoneReached { first: Arc<Error>, others: String },
    /// A server says that it is not well; a sentence.
    #[cfg(feature = "client")]
    #[error("{0}")]
    Unhealthy(String),
    /// There is no connection to a server that is reached over HTTP/2; a sentence.
    #[cfg(feature = "http2")]
    #[error("{0}")]
    Http2(String),
    /// It is where no server can be; a sentence.
    #[cfg(any(feature = "client", feature = "server"))]
    #[error("{0}")]
    Location(String),
    #[cfg(all(any(feature = "client", feature = "server"), not(feature = "http2")))]
    #[error(
        "`{0}` is reached over HTTP/2, and this program was built without the feature `http2` of notnets: \
         enable it, or write `notnets:///NAME`"
    )]
    WithoutHttp2(String),
    #[cfg(feature = "http2")]
    #[error("cannot listen on {location}: {error}{}", in_use(error))]
    Listen { location: Location, error: io::Error },
    #[cfg(feature = "http2")]
    #[error("cannot listen on {0}: TLS needs a certificate and its key; set them by Server::tls_config")]
    WithoutCertificate(crate::http2::Address),
    /// Certificates and keys that can't be used; a sentence.
    #[cfg(feature = "tls")]
    #[error("{0}")]
    Tls(String),
    #[cfg(feature = "http2")]
    #[error("the server takes no more calls on this connection")]
    LinkOver,
    #[cfg(feature = "http2")]
    #[error("no link within this process: {0}")]
    Within(LinkError),
    #[error("could not {step}: {error}")]
    Io { step: &'static str, error: io::Error },
    /// There is no memory for a server's counters.
    #[error(transparent)]
    Memory(#[from] SegmentError),
    #[error(transparent)]
    Sealed(#[from] SealedError),
    #[error(transparent)]
    Limits(#[from] BadLimits),
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of(&self.0)
    }

    /// Returns `true` if the same attempt may succeed a moment later, although nobody does anything about it.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// The status code of a call that found no link.
    pub(crate) fn code(&self) -> Code {
        kind::code(&self.0)
    }

    /// The same error for another one who waits for the same.
    #[cfg(feature = "client")]
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// The operating system refused this step.
    pub(crate) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Cause::Io { step, error }.into()
    }

    /// Why there is no link to a name of this host after this time.
    pub(crate) fn connect(error: ConnectError, name: &Name, after: Duration) -> Self {
        match error {
            ConnectError::Rendezvous(error) => Cause::Rendezvous(error),
            ConnectError::Link(error) => Cause::Link { name: name.to_string(), error },
            ConnectError::Unexpected(error) => Cause::UnexpectedServer { name: name.to_string(), error },
            _ => Cause::ConnectTimeout { name: name.to_string(), after },
        }
        .into()
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `main` and `unwrap` print this: it is a sentence for people, as the message is.
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            // Their causes are in their messages, but what is behind those may not be.
            Cause::Link { error, .. } => error.source(),
            Cause::UnexpectedServer { .. } => None,
            #[cfg(feature = "http2")]
            Cause::Within(error) => error.source(),
            #[cfg(feature = "pod")]
            Cause::Pod { error, .. } => error.source(),
            #[cfg(all(feature = "pod", any(feature = "server", feature = "blocking")))]
            Cause::ServePod { error, .. } => error.source(),
            cause => cause.source(),
        }
    }
}

/// What to do about an address that is in use. The listeners of Unix sockets say more themselves.
#[cfg(feature = "http2")]
fn in_use(error: &io::Error) -> &'static str {
    if error.raw_os_error().is_some() && error.kind() == io::ErrorKind::AddrInUse {
        "; another process has it: choose another port, or stop that process"
    } else {
        ""
    }
}

/// A name in a pod that has no agent was perhaps meant as one of this host: `notnets://localhost/cart`.
#[cfg(feature = "pod")]
fn service_of_host(uri: &Uri, error: &PodError) -> String {
    if let PodError::NoAgent { .. } = error {
        format!("; for a service of this host write `{}`", Uri::on_host(uri.name().clone()))
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notnets_core::link::packet::Refusal;

    #[test]
    fn what_main_and_unwrap_print_is_the_sentence() {
        let error = Error::from(Cause::NoNames);
        let expected = "no name to serve is given, as `notnets:///NAME`";
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(format!("{error:#?}"), expected);
    }

    #[cfg(feature = "pod")]
    #[test]
    fn a_host_in_the_place_of_a_pod_is_noticed() {
        let uri: Uri = "notnets://localhost/calc".parse().unwrap();
        let no_agent = || PodError::NoAgent {
            pod: "localhost".parse().unwrap(),
            path: "/run/notnets/.pod-localhost".into(),
            cause: io::ErrorKind::NotFound.into(),
        };
        let hint = "; for a service of this host write `notnets:///calc`";
        let connecting = Error::from(Cause::Pod { uri: uri.clone(), error: no_agent() }).to_string();
        assert!(connecting.starts_with("no link to notnets://localhost/calc: no agent"), "{connecting}");
        assert!(connecting.ends_with(hint), "{connecting}");
        let serving = Error::from(Cause::ServePod { uri: uri.clone(), error: no_agent() }).to_string();
        assert!(serving.starts_with("could not serve notnets://localhost/calc: no agent"), "{serving}");
        assert!(serving.ends_with(hint), "{serving}");
        let late = Error::from(Cause::Pod { uri: uri.clone(), error: PodError::TimedOut }).to_string();
        assert!(late.starts_with("no link to notnets://localhost/calc: the agent, or the process"), "{late}");
        let full = Error::from(Cause::Pod { uri, error: PodError::Full }).to_string();
        assert!(!full.contains("this host write"), "{full}");
    }

    fn refused(reason: Refusal) -> Error {
        let error = LinkError::Refused { reason, text: "no".into() };
        Cause::Link { name: "a".into(), error }.into()
    }

    #[test]
    fn a_refusal_is_of_the_kind_of_its_reason() {
        for (reason, kind, retryable) in [
            (Refusal::Identity, ErrorKind::PermissionDenied, false),
            (Refusal::Resources, ErrorKind::ResourceExhausted, true),
            (Refusal::ShuttingDown, ErrorKind::Unavailable, true),
            (Refusal::Version, ErrorKind::Refused, false),
        ] {
            let error = refused(reason);
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable));
        }
    }

    #[test]
    fn the_status_code_tells_what_can_be_retried() {
        assert_eq!(refused(Refusal::Identity).code(), Code::PERMISSION_DENIED);
        assert_eq!(refused(Refusal::Resources).code(), Code::UNAVAILABLE);
        assert_eq!(Error::from(Cause::NoNames).code(), Code::INVALID_ARGUMENT);
    }

    #[test]
    fn no_text_is_in_the_message_and_in_a_source() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let link = LinkError::Io { step: "say hello", cause: denied() };
        for error in [
            Error::io("watch a socket")(denied()),
            Cause::Link { name: "a".into(), error: link }.into(),
            Cause::from("http://a".parse::<notnets_core::name::Uri>().unwrap_err()).into(),
        ] {
            let mut source = error.source();
            while let Some(cause) = source {
                assert!(!error.to_string().contains(&cause.to_string()), "{error}: {cause}");
                source = cause.source();
            }
        }
    }
}
