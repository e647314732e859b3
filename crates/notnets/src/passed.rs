//! Sockets that were opened for a server before its process was started: socket activation.

use notnets_memory::passed::{Passed, take_passed};

use crate::Error;
use crate::error::Cause;

/// What stands in front of the sockets' name in the place of a URI.
pub(crate) const SCHEME: &str = "systemd:";

/// Takes the sockets with this name, or all that are left.
///
/// # Errors
/// When there is none.
pub(crate) fn take(name: Option<&str>) -> Result<Vec<Passed>, Error> {
    let taken = take_passed(name).map_err(Error::io("take the sockets that were passed (LISTEN_FDS)"))?;
    if !taken.is_empty() {
        return Ok(taken);
    }
    let sentence = match name {
        None => "no socket was passed to this process (LISTEN_FDS, LISTEN_PID), or all were taken before; \
                 have systemd start it by a socket unit, or serve `notnets:///NAME`"
            .to_owned(),
        Some(name) => format!(
            "no socket with the name `{name}` was passed to this process (LISTEN_FDS, LISTEN_FDNAMES), or it \
             was taken before; write FileDescriptorName={name} in its systemd socket unit"
        ),
    };
    Err(Cause::Passed(sentence).into())
}
