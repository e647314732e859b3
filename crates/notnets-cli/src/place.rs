//! Where names are found, and who may serve them: options that several commands have.

use std::path::PathBuf;

use notnets::{Endpoint, ExpectedServer, Server};
use notnets_core::link::rendezvous::Directory;

use crate::tls;

/// Where names are found.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// The rendezvous directory, instead of the environment's (NOTNETS_DIR)
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
}

impl Place {
    pub fn directory(&self) -> Directory {
        self.directory.as_ref().map_or_else(Directory::from_env, Directory::at)
    }

    pub fn of_server(&self, server: Server) -> Server {
        match &self.directory {
            Some(directory) => server.directory(directory),
            None => server,
        }
    }
}

/// Where names are found, who may serve them, and how servers elsewhere show who they are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Servers {
    #[command(flatten)]
    pub place: Place,
    /// Whom to take for a server of a name: uids and gid:N with commas between them, or `any`. Unless given,
    /// processes of the own uid and of root, and of the owner of a directory that is its alone
    #[arg(long, value_name = "WHO", value_parser = expected)]
    expect_server: Option<ExpectedServer>,
    #[command(flatten)]
    pub tls: tls::OfServers,
}

impl Servers {
    pub fn of_endpoint(&self, endpoint: Endpoint) -> Endpoint {
        let endpoint = match &self.place.directory {
            Some(directory) => endpoint.directory(directory),
            None => endpoint,
        };
        endpoint.expect_server(self.expect_server.clone().unwrap_or_default())
    }
}

fn expected(text: &str) -> Result<ExpectedServer, String> {
    Ok(match ids(text)? {
        None => ExpectedServer::Anyone,
        Some((uids, gids)) => ExpectedServer::Listed { uids, gids },
    })
}

/// Uids and gids.
type Ids = (Vec<u32>, Vec<u32>);

/// Those that `1001,gid:500` stands for. `None` for `any`.
pub fn ids(text: &str) -> Result<Option<Ids>, String> {
    if text == "any" {
        return Ok(None);
    }
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for who in text.split(',').map(str::trim) {
        let (ids, number) = match who.strip_prefix("gid:") {
            Some(number) => (&mut gids, number),
            None => (&mut uids, who),
        };
        ids.push(number.parse().map_err(|_| format!("`{who}` is neither a uid, nor gid:N, nor `any`"))?);
    }
    Ok(Some((uids, gids)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_expected_is_a_list_or_anyone() {
        assert_eq!(expected("any"), Ok(ExpectedServer::Anyone));
        let listed = ExpectedServer::Listed { uids: vec![1001, 0], gids: vec![500] };
        assert_eq!(expected("1001, gid:500,0"), Ok(listed));
        for text in ["", "root", "gid:", "1001,any"] {
            assert!(expected(text).is_err(), "{text}");
        }
    }
}
