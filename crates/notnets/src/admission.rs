//! Whom a server lets in.
//!
//! ```
//! use notnets::Admission;
//!
//! // Processes of uid 1001, of the group 500, and of the server's own uid.
//! let listed = Admission::Listed { uids: vec![1001], gids: vec![500] };
//! // Whom a function of who connects lets in.
//! let only_root = Admission::by(|peer| peer.uid == 0);
//! let server = notnets::blocking::Server::builder().admission(listed);
//! # drop((only_root, server));
//! ```

pub use notnets_core::link::admission::{Admission, Check, Rejection};
pub use notnets_core::link::candidate::Candidate;
pub use notnets_core::link::label::Label;
pub use notnets_core::link::quota::UserLimits;
pub use notnets_memory::process::PeerCredentials;
