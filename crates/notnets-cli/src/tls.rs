//! Certificates and keys in files, for `https://` addresses.

use std::path::{Path, PathBuf};

use notnets::tls::{Certificate, ClientTls, ClientTlsConfig, Identity, ServerTlsConfig};
use serde::Deserialize;

use crate::failure::Failure;

/// How to deal with the TLS of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfServers {
    /// The certificates that vouch for servers at https:// addresses; the system's, unless given. This file
    /// and those below are PEM
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "ca")]
    server_ca: Option<PathBuf>,
    /// The name that their certificates have to be for, if that is not the host of the address
    #[arg(long, value_name = "HOST")]
    #[serde(rename = "name")]
    server_name: Option<String>,
    /// The certificate to show to servers that want one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    #[serde(rename = "certificate")]
    client_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    #[serde(rename = "key")]
    client_key: Option<PathBuf>,
}

/// What a listener shows to clients, and which clients it takes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
// It is not there unless one of its options is.
#[group(required = false)]
pub struct OfListener {
    /// The certificate that is shown to clients at https:// addresses. This file and those below are PEM
    #[arg(long, value_name = "FILE", required = false, requires = "key")]
    #[serde(rename = "certificate")]
    cert: PathBuf,
    /// Its private key
    #[arg(long, value_name = "FILE", required = false, requires = "cert")]
    key: PathBuf,
    /// Clients have to show a certificate that those in this file vouch for
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
}

impl OfServers {
    /// What the files say now, if anything is set.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&self) -> Result<Option<ClientTlsConfig>, Failure> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mut config = ClientTlsConfig::new();
        if let Some(path) = &self.server_ca {
            config = config.ca_certificate(certificate(path)?);
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Ok(Some(config.identity(identity(certificate, key)?))),
            (None, None) => Ok(Some(config)),
            _ => Err(Failure::new("a certificate for servers needs its key, and a key its certificate")),
        }
    }

    /// What channels go by, if anything is set.
    ///
    /// # Errors
    /// When a file can't be read or used.
    pub fn tls(&self) -> Result<Option<ClientTls>, Failure> {
        let failure = |error: notnets::Error| Failure::new(error.to_string());
        self.read()?.map(ClientTls::new).transpose().map_err(failure)
    }
}

impl OfListener {
    /// What the files say now.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn read(&self) -> Result<ServerTlsConfig, Failure> {
        let config = ServerTlsConfig::new().identity(identity(&self.cert, &self.key)?);
        match &self.client_ca {
            Some(path) => Ok(config.client_ca_root(certificate(path)?)),
            None => Ok(config),
        }
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, Failure> {
    Ok(Identity::from_pem(read(certificate)?, read(key)?))
}

fn certificate(path: &Path) -> Result<Certificate, Failure> {
    Ok(Certificate::from_pem(read(path)?))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}
