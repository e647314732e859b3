//! `notnets call`: calls a method that was not known when this was compiled.
//!
//! The server describes its messages through reflection
//! ([`reflection`]); JSON is turned into them and back ([`input`], [`codec`]).
//! All four kinds of call are made as a stream of requests and a stream of
//! replies, which is what they are on the wire.

mod any;
mod codec;
mod describe;
mod input;
mod metadata;
mod outcome;
mod pruned;
mod reflection;

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use notnets::Channel;
use notnets_cli_common::duration;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status, Streaming};

use self::codec::DynamicCodec;
use self::input::{Body, Input};
use self::reflection::Reflection;
use crate::failure::Failure;
use crate::place::Servers;
use crate::target::{Settings, Target};

/// gRPC's own default.
const MAX_MESSAGE_SIZE: &str = "4194304";

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The replies are printed as JSON, one on each line, as they come. The exit code is 0, 64 plus the
gRPC code if the call ended with a status other than OK, or 1 if no call could be made.

Examples:
  notnets call inventory --list
  notnets call inventory shop.Inventory/Find --describe
  notnets call inventory shop.Inventory/Find '{\"sku\": \"A-7\"}'
  tail -f orders.json | notnets call http://127.0.0.1:50051 shop.Orders/Follow -")]
pub struct Args {
    /// The server: a name, notnets:///NAME, http://HOST:PORT or unix:/PATH
    #[arg(value_name = "SERVER")]
    server: Target,
    /// The method, as package.Service/Method
    #[arg(value_name = "METHOD", required_unless_present = "list")]
    method: Option<String>,
    /// The request as JSON, several in a row for a method that takes a stream, or - to read them
    /// from standard input; nothing stands for an empty message or an empty stream
    #[arg(value_name = "BODY", conflicts_with_all = ["list", "describe"])]
    body: Option<String>,
    /// List the services and methods
    #[arg(long, conflicts_with_all = ["method", "describe"])]
    list: bool,
    /// Describe the method with its messages instead of calling it; or a service, message or enum of that
    /// name
    #[arg(long)]
    describe: bool,
    /// Metadata to send; the value of a key that ends in -bin is base64
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = metadata::parse)]
    headers: Vec<metadata::Pair>,
    /// The deadline of the whole call, like 500ms or 2s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// The largest reply that is accepted
    #[arg(long, value_name = "BYTES", default_value = MAX_MESSAGE_SIZE)]
    max_message_size: usize,
    /// Show fields that have their default values, too: zeros, empty strings and lists
    #[arg(long)]
    emit_defaults: bool,
    /// Print the response's metadata too, on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    servers: Servers,
}

/// Makes the call and prints what comes back.
///
/// # Errors
/// When no call can be made, and when it ends with a status other than OK.
pub async fn run(args: Args) -> Result<(), Failure> {
    let upstream =
        args.server.connect_lazy(Settings { servers: args.servers.clone(), ..Settings::default() })?;
    let headers = metadata::collect(&args.headers);
    let client = Grpc::new(upstream).max_decoding_message_size(args.max_message_size);
    let mut reflection = Reflection::new(client.clone(), headers.clone());
    let Some(name) = &args.method else {
        return print(&args.in_time(describe::services(&mut reflection)).await?);
    };
    if args.describe {
        return print(&args.in_time(describe::symbol(name, &mut reflection)).await?);
    }
    let mut method = args.in_time(reflection.method(name)).await?;
    let body = Body::new(args.body.as_deref(), &method)?;
    if let Body::Text(json) = &body {
        any::fetch_for_request(json, &mut reflection).await;
        // Its messages are of the types that were known when it was looked up.
        method = args.in_time(reflection.method(name)).await?;
    }
    let input = Input::new(body, &method)?;
    let call = Call { client, headers, method, args: &args, largest: Arc::default() };
    match call.make(input, &mut reflection).await {
        Ok(()) => Ok(()),
        Err(Ended::Failure(failure)) => Err(failure),
        Err(Ended::Status(status)) => {
            let sent = call.largest.load(Ordering::Relaxed);
            Err(outcome::failure(&status, &call.method, &args.server, sent, &mut reflection).await)
        }
    }
}

impl Args {
    /// The deadline applies to asking the server about itself as well.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, reflection::Error>>,
    ) -> Result<T, Failure> {
        let answer = match self.timeout {
            None => asked.await,
            Some(timeout) => {
                tokio::time::timeout(timeout, asked).await.map_err(|_| self.too_late(timeout))?
            }
        };
        answer.map_err(|error| error.at(&self.server))
    }

    fn too_late(&self, timeout: Duration) -> Failure {
        let sentence = format!("{} did not answer within {timeout:?} (DEADLINE_EXCEEDED)", self.server);
        Failure::of_call(Code::DeadlineExceeded, sentence)
    }
}

/// How a call ended that did not end well.
enum Ended {
    Status(Status),
    Failure(Failure),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

struct Call<'a> {
    client: Grpc<Channel>,
    headers: MetadataMap,
    method: MethodDescriptor,
    args: &'a Args,
    /// The length of the largest request that was sent.
    largest: Arc<AtomicUsize>,
}

impl Call<'_> {
    async fn make(&self, mut input: Input, reflection: &mut Reflection) -> Result<(), Ended> {
        let messages = input.messages();
        // A fault of the input ends the call, which drops its stream.
        tokio::select! {
            biased;
            (failure, _open) = input.failure() => Err(Ended::Failure(failure)),
            ended = self.exchange_in_time(messages, reflection) => ended,
        }
    }

    async fn exchange_in_time(
        &self,
        messages: input::Messages,
        reflection: &mut Reflection,
    ) -> Result<(), Ended> {
        let Some(timeout) = self.args.timeout else {
            return self.exchange(messages, reflection).await;
        };
        let began = Instant::now();
        match tokio::time::timeout(timeout, self.exchange(messages, reflection)).await {
            // The server's clock may have been a little faster than ours, and
            // tonic's servers then answer CANCELLED.
            Ok(Err(Ended::Status(_))) if began.elapsed() >= timeout => {}
            Ok(ended) => return ended,
            Err(_) => {}
        }
        Err(Ended::Failure(self.args.too_late(timeout)))
    }

    async fn exchange(&self, messages: input::Messages, reflection: &mut Reflection) -> Result<(), Ended> {
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.headers.clone();
        if let Some(timeout) = self.args.timeout {
            request.set_timeout(timeout);
        }
        let mut client = self.client.clone();
        client.ready().await?;
        let codec = DynamicCodec::new(self.method.output(), Arc::clone(&self.largest));
        let response = client.streaming(request, path(&self.method), codec).await?;
        self.show("metadata", response.metadata());
        let mut replies: Streaming<DynamicMessage> = response.into_inner();
        while let Some(reply) = replies.message().await? {
            let (reply, unknown) = any::with_known_types(reply, reflection).await;
            for name in unknown {
                eprintln!("notnets: the server does not describe {name}: its content is not shown");
            }
            self.print_reply(&reply).map_err(Ended::Failure)?;
        }
        if let Some(trailers) = replies.trailers().await? {
            self.show("trailer", &trailers);
        }
        Ok(())
    }

    fn print_reply(&self, reply: &DynamicMessage) -> Result<(), Failure> {
        let options = SerializeOptions::new().skip_default_fields(!self.args.emit_defaults);
        let mut line = Vec::new();
        reply
            .serialize_with_options(&mut serde_json::Serializer::new(&mut line), &options)
            .map_err(|error| Failure::new(format!("a reply cannot be shown as JSON: {error}")))?;
        line.push(b'\n');
        print(&String::from_utf8_lossy(&line))
    }

    fn show(&self, what: &str, metadata: &MetadataMap) {
        if self.args.verbose {
            for (key, value) in metadata.clone().into_headers().iter() {
                eprintln!("{what} {key}: {}", String::from_utf8_lossy(value.as_bytes()));
            }
        }
    }
}

fn path(method: &MethodDescriptor) -> PathAndQuery {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().expect("names in a descriptor are identifiers")
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough (`| head`): end as quietly as it did.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
