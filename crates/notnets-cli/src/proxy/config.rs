//! What a proxy does: its listeners and where their calls go, as the command line or a file says.

use std::collections::BTreeSet;
use std::path::Path;

use notnets::ServiceConfig;
use notnets::names;
use serde::Deserialize;

use super::clients;
use crate::failure::Failure;
use crate::target::{HTTPS, Target};
use crate::tls;

const TO_ADD_TLS: &str = "add --cert and --key, or `tls` to the listener in the file";

/// All that a file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub listeners: Vec<Listener>,
}

/// Addresses, and the routes of the calls that come there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    #[serde(deserialize_with = "target")]
    pub listen: Target,
    /// What is shown to clients at `https://` addresses.
    pub tls: Option<tls::OfListener>,
    /// Who may connect, if not as the command line says.
    #[serde(default)]
    pub clients: clients::OfListener,
    /// The first that matches a call takes it.
    pub routes: Vec<Route>,
}

/// Which calls go where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The service, as `package.Service`; any if left out.
    pub service: Option<String>,
    /// The host that the client has called, with or without its port; any if left out.
    pub authority: Option<String>,
    #[serde(deserialize_with = "target")]
    to: Target,
    /// What counts more than the `loadBalancingConfig` of the service config.
    pick: Option<Pick>,
    /// gRPC's, as it is written for clients.
    service_config: Option<serde_json::Value>,
    /// How servers at `https://` addresses show who they are, if not as the command line says.
    tls: Option<tls::OfServers>,
}

/// Where calls go.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub to: Target,
    pub pick: Option<Pick>,
    pub service_config: Option<serde_json::Value>,
    pub tls: Option<tls::OfServers>,
}

/// How to choose among servers that are equally near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Pick {
    /// The first that can be reached
    First,
    /// One after the other
    RoundRobin,
    /// Of two that are drawn by lot the one with fewer open calls of the same client
    LeastOutstanding,
}

impl From<Pick> for names::Pick {
    fn from(pick: Pick) -> Self {
        match pick {
            Pick::First => Self::First,
            Pick::RoundRobin => Self::RoundRobin,
            Pick::LeastOutstanding => Self::LeastOutstanding,
        }
    }
}

fn target<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Target, D::Error> {
    String::deserialize(text)?.parse().map_err(serde::de::Error::custom)
}

impl Config {
    /// All calls that come to `listen` go to `to`.
    pub fn simple(listen: Target, tls: Option<tls::OfListener>, to: Target, pick: Option<Pick>) -> Self {
        let route = Route { service: None, authority: None, to, pick, service_config: None, tls: None };
        let clients = clients::OfListener::default();
        Self { listeners: vec![Listener { listen, tls, clients, routes: vec![route] }] }
    }

    /// What is in a file of JSON.
    ///
    /// # Errors
    /// When it can't be read, and when what it says can't be done.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let of_file = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| of_file(&error))?;
        let config: Self = serde_json::from_str(&text).map_err(|error| of_file(&error))?;
        config.check().map_err(|sentence| of_file(&sentence))?;
        Ok(config)
    }

    /// # Errors
    /// When it can't be done.
    pub fn check(&self) -> Result<(), String> {
        if self.listeners.is_empty() {
            return Err("there are no listeners: add one with `listen` and `routes`".to_owned());
        }
        let mut seen = BTreeSet::new();
        for listener in &self.listeners {
            for address in listener.listen.clone().into_uris() {
                if !seen.insert(address.clone()) {
                    return Err(format!("{address} is listened on twice: put its routes into one listener"));
                }
            }
            let listen = &listener.listen;
            let https = listen.clone().into_uris().find(|uri| uri.starts_with(HTTPS));
            match (https, &listener.tls) {
                (Some(uri), None) => {
                    return Err(format!("{uri} needs a certificate and its key: {TO_ADD_TLS}"));
                }
                (None, Some(_)) => {
                    return Err(format!(
                        "nothing on {listen} is by TLS, and a certificate is given: write https://HOST:PORT"
                    ));
                }
                _ => {}
            }
            match listener.routes.iter().position(Route::takes_all) {
                None if listener.routes.is_empty() => {
                    return Err(format!("the listener on {listen} has no routes: add one with `to`"));
                }
                Some(at) if at + 1 < listener.routes.len() => {
                    return Err(format!(
                        "route {} of the listener on {listen} has neither `service` nor `authority` and takes \
                         all calls: put it last",
                        at + 1
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Route {
    /// Where the calls go.
    pub fn upstream(&self) -> Upstream {
        let Self { to, pick, service_config, tls, .. } = self.clone();
        Upstream { to, pick, service_config, tls }
    }

    fn takes_all(&self) -> bool {
        self.service.is_none() && self.authority.is_none()
    }
}

impl Upstream {
    /// The service config, if there is one.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn service_config(&self) -> Result<Option<ServiceConfig>, Failure> {
        let config = self.service_config.as_ref().map(|json| ServiceConfig::from_json(&json.to_string()));
        config
            .transpose()
            .map_err(|error| Failure::new(format!("the service config for {}: {error}", self.to)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy.json");
        std::fs::write(&path, text).expect("writable");
        let said = |failure: Failure| {
            let sentence = failure.to_string();
            sentence.strip_prefix(&format!("{}: ", path.display())).expect("it names the file").to_owned()
        };
        Config::read(&path).map_err(said)
    }

    #[test]
    fn a_file_has_listeners_with_routes() {
        let config = read(
            r#"{"listeners": [{
                "listen": "127.0.0.1:0, unix:/run/x.sock",
                "routes": [
                    {"service": "shop.Cart", "to": "a:1 b:1", "pick": "round_robin"},
                    {"authority": "x", "to": "cart", "service_config": {"methodConfig": []}},
                    {"to": "cart, c:1"}
                ]
            }]}"#,
        );
        let config = config.expect("it is right");
        let routes = &config.listeners[0].routes;
        assert_eq!(config.listeners[0].listen.clone().into_uris().count(), 2);
        assert_eq!((routes[0].pick, routes[1].pick), (Some(Pick::RoundRobin), None));
        assert!(routes[1].upstream().service_config().expect("it is right").is_some());
        assert_eq!(routes[2].to.to_string(), "notnets:///cart,c:1");
    }

    #[test]
    fn nonsense_is_told_in_a_sentence() {
        for (text, words) in [
            ("", "EOF while parsing"),
            ("{}", "missing field `listeners`"),
            (r#"{"listeners": []}"#, "there are no listeners"),
            (r#"{"listeners": [{"listen": "a:1", "routes": []}]}"#, "on a:1 has no routes"),
            (r#"{"listeners": [{"listen": "a:1", "routes": [{}]}]}"#, "missing field `to`"),
            (r#"{"listeners": [{"listen": "", "routes": []}]}"#, "the address is empty"),
            (r#"{"listeners": [{"listen": "a:1", "rules": []}]}"#, "unknown field `rules`"),
            (
                r#"{"listeners": [{"listen": "a:1", "routes": [{"to": "b", "two": "c"}]}]}"#,
                "unknown field `two`",
            ),
            (
                r#"{"listeners": [{"listen": "a:1", "routes": [{"to": "b"}, {"to": "c", "service": "d"}]}]}"#,
                "route 1 of the listener on a:1 has neither",
            ),
            (r#"{"listeners": [{"listen": "a:1,a:1", "routes": [{"to": "b"}]}]}"#, "listened on twice"),
            (
                r#"{"listeners": [{"listen": "https://a:1", "routes": [{"to": "b"}]}]}"#,
                "https://a:1 needs a certificate and its key: add --cert and --key, or `tls`",
            ),
            (
                r#"{"listeners": [{"listen": "a:1", "tls": {"certificate": "c", "key": "k"}, "routes": [{"to": "b"}]}]}"#,
                "nothing on a:1 is by TLS",
            ),
            (
                r#"{"listeners": [{"listen": "https://a:1", "tls": {"key": "k"}, "routes": [{"to": "b"}]}]}"#,
                "missing field `certificate`",
            ),
            (
                r#"{"listeners": [{"listen": "a:1", "routes": [{"to": "b", "pick": "best"}]}]}"#,
                "unknown variant `best`",
            ),
        ] {
            let sentence = read(text).expect_err(text);
            assert!(sentence.contains(words), "{text}: {sentence}");
        }
    }
}
