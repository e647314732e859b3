//! What is served at sockets that were opened for this process.

use notnets_core::link::rendezvous::Listener;
use notnets_memory::passed::{Kind, Passed};

#[cfg(feature = "http2")]
use super::over_http2::OverHttp2;
use crate::Error;
use crate::error::Cause;
#[cfg(feature = "http2")]
use crate::http2::listener::Socket;

/// Serves what connects to a socket, as its kind says.
///
/// # Errors
/// When nothing that is served connects to it.
pub(super) fn serve(
    passed: Passed,
    listeners: &mut Vec<Listener>,
    #[cfg(feature = "http2")] over_http2: &mut OverHttp2,
) -> Result<(), Error> {
    let failed = || Error::io("use a socket that was passed to this process");
    let kind = passed.kind().map_err(failed())?;
    let Passed { socket, name } = passed;
    match kind {
        Kind::Packets => listeners.push(Listener::of_passed(socket).map_err(Cause::from)?),
        #[cfg(feature = "http2")]
        Kind::TcpStreams => over_http2.add(Socket::of_passed_tcp(socket).map_err(failed())?),
        #[cfg(feature = "http2")]
        Kind::UnixStreams => over_http2.add(Socket::of_passed_unix(socket).map_err(failed())?),
        #[cfg(not(feature = "http2"))]
        Kind::TcpStreams | Kind::UnixStreams => {
            let sentence = format!(
                "the socket `{name}` that was passed to this process is one for HTTP/2, and this program was \
                 built without the feature `http2` of notnets: enable it, or write ListenSequentialPacket="
            );
            return Err(Cause::Passed(sentence).into());
        }
        _ => {
            let sentence = format!(
                "the socket `{name}` that was passed to this process is not one that a server listens on; \
                 write ListenSequentialPacket= or ListenStream= in its systemd socket unit"
            );
            return Err(Cause::Passed(sentence).into());
        }
    }
    Ok(())
}
