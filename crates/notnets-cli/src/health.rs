//! `notnets health`: whether a server, or one of its services, is serving. For probes of orchestrators.

use std::io::{self, Write};
use std::time::Duration;

use notnets_cli_common::duration;
use serde_json::json;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::failure::{Failure, code_name};
use crate::place::Servers;
use crate::target::{Settings, Target};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks by gRPC's health protocol (grpc.health.v1) and prints the answer. The exit code is 0 if that is
SERVING, 1 if it is anything else, and 64 plus the gRPC code if there was no answer. Nothing but the
health service is needed of the server: no reflection.

Examples:
  notnets health inventory
  notnets health unix:/run/shop.sock shop.Orders --timeout 500ms")]
pub struct Args {
    /// The server: a name, notnets:///NAME, http://HOST:PORT or unix:/PATH
    #[arg(value_name = "SERVER")]
    server: Target,
    /// The service, as package.Service; the server as a whole if left out
    #[arg(value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    /// How long connecting and the answer may take together
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    timeout: Duration,
    /// Print the answer, and errors, as JSON objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

/// Asks and prints the answer.
///
/// # Errors
/// When it is not `SERVING`.
pub async fn run(args: Args) -> Result<(), Failure> {
    let servers = args.servers.clone();
    // The call's deadline is to end it, whatever it waits for: so the exit code is always the same.
    let settings = Settings { connect_timeout: args.timeout * 2, servers, ..Settings::default() };
    let mut client = HealthClient::new(args.server.connect_lazy(settings)?);
    let mut request = Request::new(HealthCheckRequest { service: args.service.clone() });
    request.set_timeout(args.timeout);
    let whom = args.whom();
    let answer = tokio::time::timeout(args.timeout, client.check(request)).await.map_err(|_| {
        let sentence = format!("{whom} did not answer within {:?} (DEADLINE_EXCEEDED)", args.timeout);
        Failure::of_call(Code::DeadlineExceeded, sentence)
    })?;
    let status = match answer {
        Ok(reply) => reply.into_inner().status(),
        Err(status) => {
            let what = match status.code() {
                Code::Unimplemented => ": it has no health service (in Rust: tonic-health)".to_owned(),
                Code::NotFound => ": its health service does not know that service".to_owned(),
                _ => format!(": {}", status.message()),
            };
            let sentence = format!("{whom} gave no answer but {}{what}", code_name(status.code()));
            return Err(Failure::of_call(status.code(), sentence));
        }
    };
    let name = status.as_str_name();
    // The probe that started this looks at its exit code, and may have closed its output.
    let answer = if args.json { json!({"status": name}).to_string() } else { name.to_owned() };
    let _ = writeln!(io::stdout(), "{answer}");
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(Failure::new(format!("{whom} is {name}"))),
    }
}

impl Args {
    fn whom(&self) -> String {
        if self.service.is_empty() {
            self.server.to_string()
        } else {
            format!("{} at {}", self.service, self.server)
        }
    }
}
