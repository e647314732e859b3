//! The codec of messages whose type is known only at run time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Encodes any message and decodes those of one type.
pub struct DynamicCodec {
    reply: MessageDescriptor,
    largest: Arc<AtomicUsize>,
}

impl DynamicCodec {
    /// A codec whose replies are of type `reply`; the length of the largest request goes to `largest`.
    pub fn new(reply: MessageDescriptor, largest: Arc<AtomicUsize>) -> Self {
        Self { reply, largest }
    }
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder { largest: Arc::clone(&self.largest) }
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder { reply: self.reply.clone() }
    }
}

/// Writes a message of any type.
pub struct DynamicEncoder {
    largest: Arc<AtomicUsize>,
}

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.largest.fetch_max(message.encoded_len(), Ordering::Relaxed);
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads messages of one type.
pub struct DynamicDecoder {
    reply: MessageDescriptor,
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.reply.clone(), buffer).map(Some).map_err(|error| {
            Status::internal(format!("a reply is not a {}: {error}", self.reply.full_name()))
        })
    }
}
