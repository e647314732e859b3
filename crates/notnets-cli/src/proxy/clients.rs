//! Who may use a proxy on this host, and who they are to the servers behind it.

use std::fmt::Write;

use http::header::{HeaderName, HeaderValue};
use notnets::http2::listener::{FileAccess, Origin};
use notnets::{Admission, Candidate, PeerInfo};
use serde::{Deserialize, Deserializer};

use crate::place::ids;

/// The metadata by which servers are told who calls. What clients send by that key is dropped.
pub const CALLER: HeaderName = HeaderName::from_static("notnets-caller");

/// Who may connect, and what is said of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Clients {
    /// Who may connect to names and Unix sockets: uids and gid:N with commas between them, or `any`. Unless
    /// given, names are for processes of the own uid, and sockets for those who may write their file
    #[arg(long, value_name = "WHO", value_parser = admission)]
    admit: Option<Admission>,
    /// The mode of Unix sockets, in octal: who may write one may connect. Unless given, what the umask leaves
    #[arg(long, value_name = "MODE", value_parser = mode)]
    socket_mode: Option<u32>,
    /// The owner of Unix sockets, as UID, UID:GID or :GID
    #[arg(long, value_name = "OWNER", value_parser = owner)]
    socket_owner: Option<Owner>,
    /// Tell servers who calls: by metadata `notnets-caller`, as uid=1001;gid=100;pid=42 or
    /// address=10.0.0.1:37006
    #[arg(long)]
    forward_caller: bool,
}

/// What a file says of the clients of a listener; the command line counts for what it doesn't.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfListener {
    /// As `--admit` has it.
    #[serde(deserialize_with = "parsed_admission")]
    admit: Option<Admission>,
    /// As `--socket-mode` has it.
    #[serde(deserialize_with = "parsed_mode")]
    socket_mode: Option<u32>,
    /// As `--socket-owner` has it.
    #[serde(deserialize_with = "parsed_owner")]
    socket_owner: Option<Owner>,
}

/// Who owns a file; what is `None` stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Clients {
    /// The clients of one listener.
    pub fn of_listener(&self, of: &OfListener) -> Self {
        Self {
            admit: of.admit.clone().or_else(|| self.admit.clone()),
            socket_mode: of.socket_mode.or(self.socket_mode),
            socket_owner: of.socket_owner.or(self.socket_owner),
            forward_caller: self.forward_caller,
        }
    }

    /// Who may connect to a name.
    pub fn admission(&self) -> Admission {
        self.admit.clone().unwrap_or_default()
    }

    /// Whether a client over HTTP/2 may connect.
    pub fn admits(&self, origin: &Origin) -> bool {
        match (origin, &self.admit) {
            (Origin::Unix(client), Some(admission)) => {
                let admits = admission.admits(&Candidate::known_by(*client));
                if !admits {
                    let (pid, uid) = (client.pid, client.uid);
                    tracing::warn!(target: "notnets::admission", pid, uid, "a client was refused: see `admit`");
                }
                admits
            }
            _ => true,
        }
    }

    /// Who may use the file of a Unix socket.
    pub fn of_file(&self) -> FileAccess {
        let Owner { uid, gid } = self.socket_owner.unwrap_or(Owner { uid: None, gid: None });
        FileAccess { mode: self.socket_mode, uid, gid }
    }

    /// What servers are told of a process that calls, if they are.
    pub fn process(&self, peer: &PeerInfo) -> Option<HeaderValue> {
        self.forward_caller.then(|| {
            let mut text = format!("uid={};gid={}", peer.uid, peer.gid);
            if let Some(pid) = peer.pid {
                write!(text, ";pid={pid}").expect("a string");
            }
            if let Some(host) = peer.host {
                write!(text, ";host={host}").expect("a string");
            }
            value(&text)
        })
    }

    /// The same of a client over HTTP/2.
    pub fn origin(&self, origin: &Origin) -> Option<HeaderValue> {
        match origin {
            Origin::Tcp { remote, .. } | Origin::Tls { remote, .. } => {
                self.forward_caller.then(|| value(&format!("address={remote}")))
            }
            Origin::Unix(client) => self.forward_caller.then(|| {
                let mut text = format!("uid={};gid={}", client.uid, client.gid);
                if let Some(pid) = client.pid {
                    write!(text, ";pid={pid}").expect("a string");
                }
                value(&text)
            }),
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("numbers and an address")
}

fn admission(text: &str) -> Result<Admission, String> {
    Ok(match ids(text)? {
        None => Admission::Anyone,
        Some((uids, gids)) => Admission::Listed { uids, gids },
    })
}

fn parsed_admission<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Admission>, D::Error> {
    parsed(text, admission)
}

fn parsed_mode<'de, D: Deserializer<'de>>(text: D) -> Result<Option<u32>, D::Error> {
    parsed(text, mode)
}

fn parsed_owner<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Owner>, D::Error> {
    parsed(text, owner)
}

/// A text of a file, read as an option of the command line is.
fn parsed<'de, T, D: Deserializer<'de>>(
    text: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(text)?;
    text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "not a mode in octal: write for example 0660".to_owned())
}

fn owner(text: &str) -> Result<Owner, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("`{text}` is no uid or gid")),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    match (number(uid)?, number(gid)?) {
        (None, None) => Err("write UID, UID:GID or :GID".to_owned()),
        (uid, gid) => Ok(Owner { uid, gid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_and_how_is_parsed() {
        assert_eq!(admission("any"), Ok(Admission::Anyone));
        let listed = Admission::Listed { uids: vec![7], gids: vec![500] };
        assert_eq!(admission("7, gid:500"), Ok(listed));
        assert_eq!((mode("0660"), mode("7")), (Ok(0o660), Ok(7)));
        for wrong in ["", "9", "1777", "rw"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
        let of = |uid, gid| Ok(Owner { uid, gid });
        assert_eq!(owner("1"), of(Some(1), None));
        assert_eq!(owner("1:2"), of(Some(1), Some(2)));
        assert_eq!(owner(":2"), of(None, Some(2)));
        for wrong in ["", ":", "root", "1:x"] {
            assert!(owner(wrong).is_err(), "{wrong}");
        }
    }
}
