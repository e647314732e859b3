//! Whether a server is healthy, as it says itself (gRFC A17).
//!
//! While a link to the server takes calls, one of its calls is `Watch` of `grpc.health.v1.Health`, which
//! yields the server's health whenever that changes. It is made on the link itself, beneath what a channel's
//! calls have: time-outs, retries, limits. A server that has no such service counts as healthy. The call ends
//! as soon as the server goes away, which waits for the last one.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use notnets_core::call::{End, Received, ResponseHead, Sent, StreamId};
use notnets_core::code::Code;
use notnets_core::frame::PREFIX;
use notnets_core::metadata::Metadata;
use notnets_core::per_process::PerProcess;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::backoff::{self, Backoff};
use crate::Error;
use crate::client::{ClientLink, Home};
use crate::error::Cause;
use crate::link::{OpenRequest, OpenTicket};
use crate::{message_prefix, status_message};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// The longest answer: it is an enum, but may have fields that are not known here.
const MAX_ANSWER: usize = 4096;

/// The health of a server.
#[derive(Debug)]
pub(super) struct Health {
    watched: PerProcess<Option<Watched>>,
    subject: Arc<Subject>,
}

/// What is asked for.
#[derive(Debug)]
struct Subject {
    service: Arc<str>,
    /// What the server is called in errors.
    server: String,
}

/// A link whose server's health is watched.
#[derive(Debug)]
struct Watched {
    link: Weak<ClientLink>,
    verdict: watch::Receiver<Verdict>,
    task: AbortHandle,
    home: Home,
}

/// What is known of a server's health: that it is healthy, why not, or nothing.
type Verdict = Option<Result<(), Arc<Error>>>;

impl Health {
    pub(super) fn new(service: &Arc<str>, server: &str) -> Self {
        let subject = Subject { service: Arc::clone(service), server: server.to_owned() };
        Self { watched: PerProcess::new(None), subject: Arc::new(subject) }
    }

    /// Returns `true` if the server is known to be healthy. Watches it by this link from now on.
    pub(super) fn is_good(&self, link: &Arc<ClientLink>) -> bool {
        self.watch(link, |verdict| matches!(&*verdict.borrow(), Some(Ok(())))).unwrap_or(false)
    }

    /// Waits until it is known whether the server is healthy. `None` if the link takes no more calls.
    ///
    /// # Errors
    /// Why it isn't, for all that is known.
    pub(super) async fn verdict(&self, link: &Arc<ClientLink>) -> Verdict {
        let mut verdict = match self.watch(link, watch::Receiver::clone) {
            Ok(verdict) => verdict,
            Err(error) => return Some(Err(Arc::new(error))),
        };
        verdict.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Looks at what is known by this link, which is watched from now on.
    fn watch<R>(
        &self,
        link: &Arc<ClientLink>,
        look: impl FnOnce(&watch::Receiver<Verdict>) -> R,
    ) -> Result<R, Error> {
        let mut watched = self.watched.lock(|| None);
        if let Some(watched) = &*watched
            && watched.link.as_ptr() == Arc::as_ptr(link)
        {
            return Ok(look(&watched.verdict));
        }
        // It goes on whatever becomes of the runtimes of callers.
        let home = Home::fallback()?;
        let (tell, verdict) = watch::channel(None);
        let task = home.spawn(watch(Arc::clone(link), Arc::clone(&self.subject), tell)).abort_handle();
        let link = Arc::downgrade(link);
        Ok(look(&watched.insert(Watched { link, verdict, task, home }).verdict))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.home.is_of_parent() {
            self.task.abort();
        }
    }
}

/// Watches a server until the link takes no more calls, or it is known that the server has no health service.
async fn watch(link: Arc<ClientLink>, subject: Arc<Subject>, tell: watch::Sender<Verdict>) {
    let watching = async {
        let mut backoff = Backoff::default();
        loop {
            let (begun, mut answered) = (Instant::now(), false);
            let Ended { code, why } = watch_once(&link, &subject, &tell, &mut answered).await;
            if code == Code::UNIMPLEMENTED {
                tracing::info!("{} has no health service, and counts as healthy", subject.server);
                tell.send_replace(Some(Ok(())));
                return;
            }
            tell.send_replace(Some(Err(subject.error(&format!("can't be asked: {why}")))));
            // One that went on for some time is begun again at once.
            if answered && begun.elapsed() > backoff::FIRST {
                backoff.reset();
            } else {
                tokio::time::sleep(backoff.fail()).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = poll_fn(|cx| link.poll_unusable(cx)) => {}
        () = watching => {}
    }
}

/// How a call has ended.
struct Ended {
    code: Code,
    why: Arc<str>,
}

impl Ended {
    fn new(code: Code, why: impl Into<Arc<str>>) -> Self {
        Self { code, why: why.into() }
    }

    fn of(code: Code, metadata: &Metadata) -> Self {
        let message = metadata.iter().find(|(key, _)| &**key == status_message::KEY);
        let message = message.map_or_else(String::new, |(_, value)| status_message::decode(value));
        let code_name = code.name().unwrap_or("no gRPC status");
        let why = if message.is_empty() { code_name.to_owned() } else { format!("{code_name}: {message}") };
        Self::new(code, why)
    }
}

/// Watches a server until the call ends.
async fn watch_once(
    link: &Arc<ClientLink>,
    subject: &Subject,
    tell: &watch::Sender<Verdict>,
    answered: &mut bool,
) -> Ended {
    let mut call = match WatchCall::open(link, subject).await {
        Ok(call) => call,
        Err(ended) => return ended,
    };
    loop {
        let status = match call.next().await {
            Ok(status) => status,
            Err(ended) => return ended,
        };
        *answered = true;
        let verdict = match status {
            "SERVING" => Ok(()),
            other if subject.service.is_empty() => Err(subject.error(&format!("says {other}"))),
            other => Err(subject.error(&format!("says {other} of `{}`", subject.service))),
        };
        if let Err(error) = &verdict {
            tracing::warn!("{error}");
        }
        tell.send_replace(Some(verdict));
    }
}

impl Subject {
    fn error(&self, what: &str) -> Arc<Error> {
        let sentence = format!(
            "the server at {} gets no calls: its health service (grpc.health.v1.Health) {what}",
            self.server
        );
        Arc::new(Cause::Unhealthy(sentence).into())
    }

    /// A `HealthCheckRequest`, with gRPC's prefix in front.
    fn request(&self) -> Bytes {
        let service = self.service.as_bytes();
        let mut message = BytesMut::new();
        if !service.is_empty() {
            // Field 1, of bytes.
            message.put_u8(0x0a);
            let mut len = service.len();
            while len >= 0x80 {
                message.put_u8(len as u8 | 0x80);
                len >>= 7;
            }
            message.put_u8(len as u8);
            message.put_slice(service);
        }
        let mut request = BytesMut::new();
        request.put_slice(&message_prefix::encode(message.len(), false).unwrap_or_default());
        request.put(message);
        request.freeze()
    }
}

/// The call that yields a server's health.
struct WatchCall<'a> {
    link: &'a Arc<ClientLink>,
    stream: StreamId,
    received: BytesMut,
    end: Option<Ended>,
}

impl Drop for WatchCall<'_> {
    fn drop(&mut self) {
        self.link.abandon(self.stream);
    }
}

impl<'a> WatchCall<'a> {
    /// Makes the call, and waits for the head of its answer.
    async fn open(link: &'a Arc<ClientLink>, subject: &Subject) -> Result<Self, Ended> {
        let mut data = subject.request();
        let mut ticket = OpenTicket::default();
        let opened = poll_fn(|cx| {
            let entries = std::iter::empty::<(&str, &[u8])>();
            let data = &mut data;
            link.poll_open(
                cx,
                &mut ticket,
                OpenRequest { method: WATCH, entries, deadline: None, data, end: true },
            )
        });
        let opened = match opened.await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(Ended::new(Code::UNAVAILABLE, "the server goes away")),
            Err(error) => return Err(Ended::new(Code::RESOURCE_EXHAUSTED, error.to_string())),
        };
        let stream = opened.stream;
        let mut call = Self { link, stream, received: BytesMut::new(), end: None };
        let mut sent = opened.sent;
        while !matches!(sent, Sent::All | Sent::Stopped) {
            sent = poll_fn(|cx| link.poll_send(cx, stream, &mut data, true)).await;
        }
        let answer = match opened.answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => poll_fn(|cx| link.poll_head(cx, stream)).await,
        };
        match answer {
            Ok((ResponseHead::Head(_), buffered)) => {
                call.received.extend(buffered.data);
                call.end = buffered.end.map(ended);
                Ok(call)
            }
            Ok((ResponseHead::TrailersOnly(code, metadata), _)) => Err(Ended::of(code, &metadata)),
            Err(failure) => Err(Ended::new(failure.code, failure.message)),
        }
    }

    /// Waits for the next word on the server's health.
    async fn next(&mut self) -> Result<&'static str, Ended> {
        loop {
            if let Some(status) = self.take()? {
                return Ok(status);
            }
            if let Some(end) = self.end.take() {
                return Err(end);
            }
            match poll_fn(|cx| self.link.poll_data_idly(cx, self.stream)).await {
                Received::Data(data) => self.received.extend_from_slice(&data),
                Received::End(end) => self.end = Some(ended(end)),
                Received::Pending => {}
            }
        }
    }

    /// Takes a message, if all of it has come.
    fn take(&mut self) -> Result<Option<&'static str>, Ended> {
        let Some(prefix) = self.received.first_chunk::<PREFIX>() else { return Ok(None) };
        let (flags, len) = message_prefix::decode(*prefix);
        if flags != 0 || len > MAX_ANSWER {
            return Err(Ended::new(Code::INTERNAL, "its answer is none of this service"));
        }
        if self.received.len() < PREFIX + len {
            return Ok(None);
        }
        let message = self.received.split_to(PREFIX + len);
        let status = serving_status(&message[PREFIX..]);
        status.map(Some).ok_or_else(|| Ended::new(Code::INTERNAL, "its answer can't be understood"))
    }
}

fn ended(end: End) -> Ended {
    match end {
        End::Trailers(code, metadata) => Ended::of(code, &metadata),
        End::Failed(failure) => Ended::new(failure.code, failure.message),
        End::Requests => Ended::new(Code::INTERNAL, "the call ended"),
    }
}

/// Reads the field `status` of a `HealthCheckResponse`.
fn serving_status(mut message: &[u8]) -> Option<&'static str> {
    let mut status = 0;
    while !message.is_empty() {
        match take_varint(&mut message)? {
            0x08 => status = take_varint(&mut message)?,
            // Fields that are not known here, by how they are written.
            tag => match tag & 7 {
                0 => drop(take_varint(&mut message)?),
                1 => message = message.get(8..)?,
                2 => {
                    let len = usize::try_from(take_varint(&mut message)?).ok()?;
                    message = message.get(len..)?;
                }
                5 => message = message.get(4..)?,
                _ => return None,
            },
        }
    }
    Some(match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    })
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_services_name() {
        let request = |service: &str| Subject { service: service.into(), server: String::new() }.request();
        assert_eq!(request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(200));
        assert_eq!((&long[..8], long.len()), (&[0, 0, 0, 0, 203, 0x0a, 0xc8, 1][..], 208));
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_has() {
        for (message, status) in [
            (&[][..], Some("UNKNOWN")),
            (&[8, 1], Some("SERVING")),
            (&[8, 2, 8, 1], Some("SERVING")),
            (&[8, 3, 0x12, 2, 8, 1], Some("SERVICE_UNKNOWN")),
            (&[0x18, 0xff, 1, 8, 2], Some("NOT_SERVING")),
            (&[0x25, 0, 0, 0, 0, 8, 1], Some("SERVING")),
            (&[0x21, 0, 0, 0, 0, 0, 0, 0, 0, 8, 9], Some("UNKNOWN")),
            (&[8], None),
            (&[8, 0x80], None),
            (&[0x12, 5, 1], None),
            (&[0x0b], None),
            (&[0xff; 11], None),
        ] {
            assert_eq!(serving_status(message), status, "{message:?}");
        }
    }
}
