//! Links: how two processes of one host meet, share segments, wake each other and learn of each
//! other's end.
//!
//! A link is a Unix socket and two lanes. The socket carries the handshake, the descriptors of
//! segments, doorbells, and by its end the news that the peer is gone. It carries no message.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`rendezvous`] | names in a directory: listen, connect, look around |
//! | [`packet`] | the packets on the socket, byte by byte |
//! | [`socket`] | packets, descriptors and doorbells on a socket, without waiting |
//! | [`connect`], [`accept`] | from a name or a listener to an established link, as state machines |
//! | [`admission`] | who is admitted, and the reasons of rejections |
//! | [`candidate`], [`quota`] | what is known of a process that is judged, and what a user may take |
//! | [`label`] | labels of processes, by a security module of the kernel |
//! | [`expected`] | whom a client takes for its server |
//! | [`lobby`] | connections that have said nothing yet |
//! | [`handshake`] | the first packets on a connected socket |
//! | [`segments`] | more segments on demand |
//! | [`inspect`] | reading the counters of all servers |

pub mod accept;
pub mod admission;
pub mod candidate;
pub mod connect;
pub mod expected;
pub mod handshake;
pub mod inspect;
pub mod label;
pub mod lobby;
pub mod packet;
pub mod quota;
pub mod rendezvous;
pub mod segments;
pub mod socket;

pub use handshake::{Config, Established, IdentitySource, LinkError, LinkGuard, PeerIdentity};
pub use socket::Socket;
