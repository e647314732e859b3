//! `notnets load`: calls one method of a running service again and again, and says how long that took.
//!
//! [`work`] is what each call does, [`pace`] when calls begin, [`recorder`] what is kept of those that ended,
//! [`report`] what is said of them.

mod pace;
mod recorder;
mod report;
mod work;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::time::Duration;

use notnets::Channel;
use notnets_cli_common::duration;
use prost_reflect::MethodDescriptor;
use tonic::client::Grpc;
use tonic::{Code, Status};

use self::pace::{Load, Pace, Plan};
use self::report::Report;
use self::work::Work;
use crate::call::input::Body;
use crate::failure::{Failure, code_name};
use crate::metadata;
use crate::place::Servers;
use crate::schema::{self, Schema, any};
use crate::target::{Settings, Target};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --rate the next call begins when one has ended (a closed loop): --concurrency are open at any time.
With --rate calls begin at fixed times whether or not others have ended (an open loop), and their latency
counts from those times, so that a server that stops for a while is seen by all calls that it delays.

Several messages in BODY are sent in turn, one with each call; a method that takes a stream gets all of
them in each call. The exit code is 0 if all calls ended well, 64 plus the gRPC code that most of the
others ended with, or 1 if no call could be made or some had not ended.

Examples:
  notnets load inventory shop.Inventory/Find '{\"sku\": \"A-7\"}'
  notnets load inventory shop.Inventory/Find @requests.json --rate 2000 --duration 30s --warm-up 2s
  notnets load http://127.0.0.1:50051 shop.Orders/Place - --proto shop.proto --concurrency 50 --json")]
pub struct Args {
    /// The server: a name, notnets:///NAME, http://HOST:PORT or unix:/PATH
    #[arg(value_name = "SERVER")]
    server: Target,
    /// The method, as package.Service/Method
    #[arg(value_name = "METHOD")]
    method: String,
    /// The requests as JSON, one or several in a row, @FILE to read them from a file, or - from standard
    /// input; nothing stands for an empty message or an empty stream
    #[arg(value_name = "BODY")]
    body: Option<String>,
    /// Calls that begin in each second, whether or not others have ended
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate: Option<f64>,
    /// Calls that are open at once; with --rate at most, 10 without and 1000 with it unless given
    #[arg(short, long, value_name = "CALLS")]
    concurrency: Option<NonZeroU32>,
    /// Connections, each with its part of the calls
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    connections: NonZeroU32,
    /// For how long calls begin; 10s unless this or --count is given
    #[arg(short = 'z', long, value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// How many calls are made
    #[arg(short = 'n', long, value_name = "CALLS")]
    count: Option<u64>,
    /// For how long calls are made before those that count
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    warm_up: Duration,
    /// The deadline of each call, like 500ms or 2s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Metadata to send; the value of a key that ends in -bin is base64
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = metadata::parse)]
    headers: Vec<metadata::Pair>,
    /// The largest reply that is accepted
    #[arg(long, value_name = "BYTES", default_value = "4194304")]
    max_message_size: usize,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    schema: schema::Args,
    #[command(flatten)]
    servers: Servers,
}

/// For how long a server is waited for before the first call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// Makes the calls and prints the report.
///
/// # Errors
/// When no call can be made, and when one did not end well.
pub async fn run(args: Args) -> Result<(), Failure> {
    let channels = args.connect().await?;
    let headers = metadata::collect(&args.headers);
    let client = Grpc::new(channels[0].clone());
    let mut schema = args.schema.schema(&args.server, client, headers)?;
    let body = Body::text(args.body.as_deref())?;
    let method = args.method(&mut schema, body.as_deref()).await?;
    let work = Work::new(&method, body.as_deref(), &args.headers, args.timeout, args.max_message_size)?;
    let plan = args.plan();
    let outcome = Load::new(work, channels, plan.clone()).run().await;
    let report = Report::new(args.server.to_string(), &args.method, args.connections.get(), &plan, &outcome);
    let text = if args.json { report.json() } else { report.text() };
    // A reader that has seen enough (`| head`) is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    report.failure().map_or(Ok(()), Err)
}

impl Args {
    /// Channels that are connected.
    async fn connect(&self) -> Result<Vec<Channel>, Failure> {
        let mut channels = Vec::new();
        for _ in 0..self.connections.get() {
            let settings = Settings { servers: self.servers.clone(), ..Settings::default() };
            let channel = self.server.connect_lazy(settings)?;
            let late = |_| Status::deadline_exceeded("it did not answer in time");
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, channel.wait_until_connected());
            connected.await.unwrap_or_else(|elapsed| Err(late(elapsed))).map_err(|status| {
                let code = code_name(status.code());
                let sentence = format!("could not connect to {}: {code}: {}", self.server, status.message());
                Failure::of_call(status.code(), sentence)
            })?;
            channels.push(channel);
        }
        Ok(channels)
    }

    /// The method, with all types that the requests name.
    async fn method(&self, schema: &mut Schema, body: Option<&str>) -> Result<MethodDescriptor, Failure> {
        let found = async {
            if let Some(json) = body {
                any::fetch_for_request(json, schema).await;
            }
            schema.method(&self.method).await
        };
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, found).await.map_err(|_| {
            let sentence = format!("{} did not say in time what its methods are", self.server);
            Failure::of_call(Code::DeadlineExceeded, sentence)
        })?;
        answer.map_err(|error| schema.failure(error))
    }

    fn plan(&self) -> Plan {
        let concurrency = self.concurrency.map(NonZeroU32::get);
        let pace = match self.rate {
            Some(rate) => Pace::Rate { per_second: rate, most_open: concurrency.unwrap_or(1000) },
            None => Pace::Open(concurrency.unwrap_or(10)),
        };
        let duration = self.duration.or(self.count.is_none().then_some(DEFAULT_DURATION));
        Plan { pace, warm_up: self.warm_up, duration, count: self.count }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e7 => Ok(rate),
        _ => Err("not a number of calls per second above 0".to_owned()),
    }
}
