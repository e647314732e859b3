//! The requests: JSON from the command line, from a file or from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::thread;

use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Deserializer, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::failure::Failure;

/// The requests of one call, as they come.
pub type Messages = Pin<Box<dyn Stream<Item = DynamicMessage> + Send>>;

/// The fault of a request, and the sending end of the stream, which must
/// not end: the server would take the half for the whole.
type Broken = (Failure, mpsc::Sender<DynamicMessage>);

/// The requests as they were given.
pub enum Body {
    /// Nothing was.
    Nothing,
    /// JSON.
    Text(String),
    /// A file or standard input, read while the call runs.
    Input(Box<dyn Read + Send>),
}

impl Body {
    /// The body that an argument stands for: JSON, `@FILE`, or `-` for standard input. A file is read to its
    /// end if the method takes one message.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn new(argument: Option<&str>, method: &MethodDescriptor) -> Result<Self, Failure> {
        let Some(argument) = argument else { return Ok(Self::Nothing) };
        match source(argument)? {
            Some((input, _)) if method.is_client_streaming() => Ok(Self::Input(input)),
            source => text(argument, source).map(Self::Text),
        }
    }

    /// The same of a body that is wanted whole.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text(argument: Option<&str>) -> Result<Option<String>, Failure> {
        argument.map(|argument| text(argument, source(argument)?)).transpose()
    }
}

fn text(argument: &str, source: Source) -> Result<String, Failure> {
    let Some((mut input, what)) = source else { return Ok(argument.to_owned()) };
    let mut text = String::new();
    match input.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!("cannot read {what}: {error}"))),
    }
}

/// What is to be read, and what it is called; `None` for JSON.
type Source = Option<(Box<dyn Read + Send>, String)>;

fn source(argument: &str) -> Result<Source, Failure> {
    match argument.strip_prefix('@') {
        None if argument != "-" => Ok(None),
        None | Some("-") => Ok(Some((Box::new(io::stdin()), "standard input".to_owned()))),
        Some(path) => {
            let file =
                File::open(path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
            Ok(Some((Box::new(file), path.to_owned())))
        }
    }
}

/// Where a call's requests come from.
pub struct Input {
    messages: Option<Messages>,
    failure: Option<oneshot::Receiver<Broken>>,
}

impl Input {
    /// The requests that `body` stands for.
    ///
    /// # Errors
    /// When the body is known to be wrong before the call.
    pub fn new(body: Body, method: &MethodDescriptor) -> Result<Self, Failure> {
        let request = method.input();
        match body {
            Body::Nothing if method.is_client_streaming() => Ok(Self::ready(Vec::new())),
            Body::Nothing => Ok(Self::ready(vec![DynamicMessage::new(request)])),
            Body::Input(input) => Ok(Self::reading(input, request)),
            Body::Text(json) if method.is_client_streaming() => {
                parse(json.as_bytes(), &request).collect::<Result<_, _>>().map(Self::ready)
            }
            Body::Text(json) => single(parse(json.as_bytes(), &request), &request),
        }
    }

    /// The requests, once.
    pub fn messages(&mut self) -> Messages {
        self.messages.take().unwrap_or_else(|| Box::pin(tokio_stream::empty()))
    }

    /// Resolves if a request turns out to be wrong while the call runs.
    pub async fn failure(&mut self) -> Broken {
        if let Some(failure) = self.failure.take()
            && let Ok(broken) = failure.await
        {
            return broken;
        }
        std::future::pending().await
    }

    fn ready(messages: Vec<DynamicMessage>) -> Self {
        Self { messages: Some(Box::pin(tokio_stream::iter(messages))), failure: None }
    }

    /// Reads on a thread of its own: a read of standard input cannot be
    /// interrupted, and the command must be able to end before its input does.
    fn reading(input: Box<dyn Read + Send>, request: MessageDescriptor) -> Self {
        let (send, messages) = mpsc::channel(1);
        let (fail, failure) = oneshot::channel();
        thread::spawn(move || {
            for message in parse(input, &request) {
                match message {
                    Ok(message) => {
                        if send.blocking_send(message).is_err() {
                            return;
                        }
                    }
                    Err(failure) => {
                        let _ = fail.send((failure, send));
                        return;
                    }
                }
            }
        });
        Self { messages: Some(Box::pin(ReceiverStream::new(messages))), failure: Some(failure) }
    }
}

fn single(
    mut messages: impl Iterator<Item = Result<DynamicMessage, Failure>>,
    request: &MessageDescriptor,
) -> Result<Input, Failure> {
    let message = messages.next().unwrap_or_else(|| Ok(DynamicMessage::new(request.clone())))?;
    match messages.next() {
        None => Ok(Input::ready(vec![message])),
        Some(_) => Err(Failure::new(format!(
            "the body goes on after the first message, but the method takes one {}: give one JSON object",
            request.full_name()
        ))),
    }
}

/// The JSON values of `input`, each as soon as it is complete.
pub fn parse(
    input: impl Read,
    request: &MessageDescriptor,
) -> impl Iterator<Item = Result<DynamicMessage, Failure>> {
    let values = Deserializer::from_reader(io::BufReader::new(input)).into_iter::<Value>();
    values.enumerate().map(move |(index, value)| {
        let number = index + 1;
        let value =
            value.map_err(|error| Failure::new(format!("message {number} of the body is not JSON: {error}")))?;
        DynamicMessage::deserialize(request.clone(), value).map_err(|error| {
            let name = request.full_name();
            let fields: Vec<_> = request.fields().map(|field| field.json_name().to_owned()).collect();
            Failure::new(format!(
                "message {number} of the body is not a {name}: {error}; its fields are: {} (--describe says more)",
                fields.join(", ")
            ))
        })
    })
}
