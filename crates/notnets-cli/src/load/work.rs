//! What each call does.

use std::time::Duration;

use bytes::Bytes;
use notnets::Channel;
use notnets::rpc::{Metadata, Method, Payload, Receiver, Request, Status};
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};

use crate::call::{input, path};
use crate::failure::Failure;
use crate::metadata::{self, Pair};

/// A call that can be made again and again.
pub struct Work {
    request: Request,
    timeout: Option<Duration>,
    is_client_streaming: bool,
    is_server_streaming: bool,
    /// Encoded.
    messages: Vec<Bytes>,
}

/// How much of a call went each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volume {
    pub sent_bytes: u64,
    pub received_messages: u64,
    pub received_bytes: u64,
}

impl Work {
    /// A call of `method` with the messages of `body`.
    ///
    /// # Errors
    /// When the body does not fit the method, or the metadata can't be sent.
    pub fn new(
        method: &MethodDescriptor,
        body: Option<&str>,
        headers: &[Pair],
        timeout: Option<Duration>,
        max_message_size: usize,
    ) -> Result<Self, Failure> {
        let failure = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
        let mut messages = Vec::new();
        for message in input::parse(body.unwrap_or_default().as_bytes(), &method.input()) {
            messages.push(Bytes::from(message?.encode_to_vec()));
        }
        if messages.is_empty() && !method.is_client_streaming() {
            messages.push(DynamicMessage::new(method.input()).encode_to_vec().into());
        }
        let path = Method::new(path(method).as_str()).map_err(|error| failure(&error))?;
        let mut request = Request::new(path).max_message_size(max_message_size);
        request.metadata = sent(headers)?;
        Ok(Self {
            request,
            timeout,
            is_client_streaming: method.is_client_streaming(),
            is_server_streaming: method.is_server_streaming(),
            messages,
        })
    }

    /// Makes the call for the `n`th time.
    pub async fn call(&self, channel: &Channel, n: u64) -> Result<Volume, Status> {
        let mut request = self.request.clone();
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if self.is_client_streaming {
            return self.stream(channel, request).await;
        }
        let message = self.messages[(n % self.messages.len() as u64) as usize].clone();
        let mut volume = Volume { sent_bytes: message.len() as u64, ..Volume::default() };
        if self.is_server_streaming {
            let mut receiver = channel.server_streaming_call(request, message).await?;
            receive(&mut receiver, &mut volume).await?;
        } else {
            let reply = channel.unary_call(request, message).await?;
            count(&reply.message, &mut volume);
        }
        Ok(volume)
    }

    /// Sends all messages, and takes the replies meanwhile.
    async fn stream(&self, channel: &Channel, request: Request) -> Result<Volume, Status> {
        let (mut sender, mut receiver) = channel.streaming_call(request).await?;
        let mut volume = Volume::default();
        let mut sent_bytes = 0;
        let sending = async {
            for message in &self.messages {
                sent_bytes += message.len() as u64;
                sender.send(message.clone()).await?;
            }
            sender.finish().await
        };
        // That it can't be sent is told by the status, too.
        let (_, received) = tokio::join!(sending, receive(&mut receiver, &mut volume));
        received?;
        Ok(Volume { sent_bytes, ..volume })
    }
}

async fn receive(receiver: &mut Receiver, volume: &mut Volume) -> Result<(), Status> {
    while let Some(message) = receiver.message().await? {
        count(&message, volume);
    }
    Ok(())
}

fn count(message: &Payload, volume: &mut Volume) {
    volume.received_messages += 1;
    volume.received_bytes += message.len() as u64;
}

fn sent(headers: &[Pair]) -> Result<Metadata, Failure> {
    let mut metadata = Metadata::new();
    for pair @ (name, value) in headers {
        let key = name.as_str();
        let added = match metadata::binary(pair) {
            Some(bytes) => metadata.append_bin(key, bytes),
            None => metadata.append(key, value.as_bytes().to_vec()),
        };
        added.map_err(|error| Failure::new(error.to_string()))?;
    }
    Ok(metadata)
}
