//! How the kernel finds out that the other end of a TCP connection has gone without a word.

use std::io;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use super::pings::KeepAlive;

/// Probes that may be lost.
const PROBES: u32 = 3;

/// Lets an idle connection be probed, and one whose bytes are not acknowledged end. Unlike pings the server's
/// application never sees it.
///
/// # Errors
/// When the kernel does not take an option.
pub fn set(stream: &TcpStream, keep_alive: KeepAlive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(interval) = keep_alive.interval else { return Ok(()) };
    let second = std::time::Duration::from_secs(1);
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, interval.max(second))?;
    sockopt::set_tcp_keepintvl(stream, (keep_alive.timeout / PROBES).max(second))?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    let unacknowledged = (interval + keep_alive.timeout).as_millis();
    sockopt::set_tcp_user_timeout(stream, u32::try_from(unacknowledged).unwrap_or(u32::MAX))?;
    Ok(())
}
