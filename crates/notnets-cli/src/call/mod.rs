//! `notnets call`: calls a method that was not known when this was compiled.
//!
//! The server or files describe its messages ([`schema`](crate::schema)); JSON is turned into them and back
//! ([`input`], [`codec`]).
//! All four kinds of call are made as a stream of requests and a stream of
//! replies, which is what they are on the wire.

mod codec;
pub mod input;
mod outcome;
mod timing;

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
use self::timing::Timing;
use crate::failure::Failure;
use crate::metadata;
use crate::place::Servers;
use crate::schema::{self, Schema, any, describe};
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
  notnets call inventory shop.Inventory/Find '{\"sku\": \"A-7\"}' --timing
  notnets call inventory shop.Inventory/Find @request.json --proto shop.proto -I protos
  tail -f orders.json | notnets call http://127.0.0.1:50051 shop.Orders/Follow -")]
pub struct Args {
    /// The server: a name, notnets:///NAME, http://HOST:PORT or unix:/PATH
    #[arg(value_name = "SERVER")]
    server: Target,
    /// The method, as package.Service/Method
    #[arg(value_name = "METHOD", required_unless_present = "list")]
    method: Option<String>,
    /// The request as JSON, several in a row for a method that takes a stream, @FILE to read them from a
    /// file, or - from standard input; nothing stands for an empty message or an empty stream
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
    /// Print errors, and what -v and --timing show, as one JSON object on each line of standard error
    #[arg(long)]
    json: bool,
    /// Print how long it took to connect, to know the method, and until the replies came, on standard error
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    schema: schema::Args,
    #[command(flatten)]
    servers: Servers,
}

/// Makes the call and prints what comes back.
///
/// # Errors
/// When no call can be made, and when it ends with a status other than OK.
pub async fn run(args: Args) -> Result<(), Failure> {
    let channel =
        args.server.connect_lazy(Settings { servers: args.servers.clone(), ..Settings::default() })?;
    let mut timing = Timing::new();
    if args.timing {
        // What keeps it from connecting is told by the call.
        let _ = channel.wait_until_connected().await;
        timing.connected();
    }
    let headers = metadata::collect(&args.headers);
    let client = Grpc::new(channel).max_decoding_message_size(args.max_message_size);
    let mut schema = args.schema.schema(&args.server, client.clone(), headers.clone())?;
    let Some(name) = &args.method else {
        return print(&args.in_time(&mut schema, describe::services).await?);
    };
    if args.describe {
        return print(&args.in_time(&mut schema, async |schema| describe::symbol(name, schema).await).await?);
    }
    let mut method = args.method(name, &mut schema).await?;
    let body = Body::new(args.body.as_deref(), &method)?;
    if let Body::Text(json) = &body {
        any::fetch_for_request(json, &mut schema).await;
        // Its messages are of the types that were known when it was looked up.
        method = args.method(name, &mut schema).await?;
    }
    let input = Input::new(body, &method)?;
    timing.described();
    let call = Call { client, headers, method, args: &args, largest: Arc::default() };
    let ended = call.make(input, &mut schema, &mut timing).await;
    timing.ended();
    if args.timing {
        if args.json { eprintln!("{}", timing.json()) } else { eprintln!("{}", timing.text()) }
    }
    match ended {
        Ok(()) => Ok(()),
        Err(Ended::Failure(failure)) => Err(failure),
        Err(Ended::Status(status)) => {
            let sent = call.largest.load(Ordering::Relaxed);
            Err(outcome::failure(&status, &call.method, &args.server, sent, &mut schema).await)
        }
    }
}

impl Args {
    async fn method(&self, name: &str, schema: &mut Schema) -> Result<MethodDescriptor, Failure> {
        self.in_time(schema, async |schema| schema.method(name).await).await
    }

    /// The deadline applies to asking the server about itself as well.
    async fn in_time<T>(
        &self,
        schema: &mut Schema,
        ask: impl AsyncFnOnce(&mut Schema) -> Result<T, schema::Error>,
    ) -> Result<T, Failure> {
        let answer = match self.timeout {
            None => ask(schema).await,
            Some(timeout) => {
                tokio::time::timeout(timeout, ask(schema)).await.map_err(|_| self.too_late(timeout))?
            }
        };
        answer.map_err(|error| schema.failure(error))
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
    async fn make(&self, mut input: Input, schema: &mut Schema, timing: &mut Timing) -> Result<(), Ended> {
        let messages = input.messages();
        // A fault of the input ends the call, which drops its stream.
        tokio::select! {
            biased;
            (failure, _open) = input.failure() => Err(Ended::Failure(failure)),
            ended = self.exchange_in_time(messages, schema, timing) => ended,
        }
    }

    async fn exchange_in_time(
        &self,
        messages: input::Messages,
        schema: &mut Schema,
        timing: &mut Timing,
    ) -> Result<(), Ended> {
        let Some(timeout) = self.args.timeout else {
            return self.exchange(messages, schema, timing).await;
        };
        let began = Instant::now();
        match tokio::time::timeout(timeout, self.exchange(messages, schema, timing)).await {
            // The server's clock may have been a little faster than ours, and
            // tonic's servers then answer CANCELLED.
            Ok(Err(Ended::Status(_))) if began.elapsed() >= timeout => {}
            Ok(ended) => return ended,
            Err(_) => {}
        }
        Err(Ended::Failure(self.args.too_late(timeout)))
    }

    async fn exchange(
        &self,
        messages: input::Messages,
        schema: &mut Schema,
        timing: &mut Timing,
    ) -> Result<(), Ended> {
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.headers.clone();
        if let Some(timeout) = self.args.timeout {
            request.set_timeout(timeout);
        }
        let mut client = self.client.clone();
        client.ready().await?;
        let codec = DynamicCodec::new(self.method.output(), Arc::clone(&self.largest));
        let response = client.streaming(request, path(&self.method), codec).await?;
        timing.head();
        self.show("metadata", response.metadata());
        let mut replies: Streaming<DynamicMessage> = response.into_inner();
        while let Some(reply) = replies.message().await? {
            timing.reply();
            let (reply, unknown) = any::with_known_types(reply, schema).await;
            for name in unknown {
                eprintln!("notnets: {name} is not described: its content is not shown");
            }
            self.print_reply(&reply).map_err(Ended::Failure)?;
        }
        if let Some(trailers) = replies.trailers().await? {
            self.show("trailers", &trailers);
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

    /// `what` is `metadata` or `trailers`.
    fn show(&self, what: &str, metadata: &MetadataMap) {
        if !self.args.verbose {
            return;
        }
        let headers = metadata.clone().into_headers();
        if self.args.json {
            eprintln!("{}", serde_json::json!({ what: metadata::to_json(&headers) }));
            return;
        }
        for (key, value) in &headers {
            eprintln!("{} {key}: {}", what.trim_end_matches('s'), String::from_utf8_lossy(value.as_bytes()));
        }
    }
}

/// The path of a method.
pub fn path(method: &MethodDescriptor) -> PathAndQuery {
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
