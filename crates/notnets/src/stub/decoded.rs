//! Messages out of their bytes.

use bytes::{Buf, Bytes};
use notnets_core::call::Role;
use notnets_core::frame::PREFIX;
use prost::Message;
use tonic::Status;

use crate::message_prefix::{self, BadLength, Limit, MAX_MESSAGE_SIZE};
use crate::rpc::{Assembler, BadMessage, Pieces};

/// Puts messages together from a call's bytes, as a generated client or server receives them.
pub(super) struct Decoding {
    assembler: Assembler,
    receiver: Role,
}

impl Decoding {
    /// Refuses messages of more bytes than `limit`.
    pub(super) fn new(receiver: Role, limit: Option<usize>) -> Self {
        let limit = Limit { receiver, bytes: limit.unwrap_or(MAX_MESSAGE_SIZE) };
        Self { assembler: Assembler::new(limit), receiver }
    }

    /// Adds the next bytes. All messages of those before must have been taken.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.assembler.push(bytes);
    }

    /// Has the rest of a large message, of which a part has come, put together in one piece by its call, if
    /// that does.
    #[inline]
    pub(super) fn gather(&mut self, call: &impl Pieces) {
        self.assembler.gather(call);
    }

    /// No more bytes come.
    ///
    /// # Errors
    /// tonic's, if a part of another message has come.
    pub(super) fn end(&self) -> Result<(), Status> {
        if self.assembler.is_between_messages() {
            Ok(())
        } else {
            Err(Status::internal("Unexpected EOF decoding stream."))
        }
    }

    /// Returns the next message, once all of it is there.
    ///
    /// # Errors
    /// tonic's, for what is no message, or one that is too long.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match self.assembler.next() {
            Ok(None) => Ok(None),
            Ok(Some(payload)) if payload.is_compressed() => Err(compressed()),
            Ok(Some(payload)) => M::decode(payload).map(Some).map_err(|error| undecodable(&error)),
            Err(error) => Err(refuse(error, self.receiver)),
        }
    }
}

/// Returns `true` if these bytes are one whole message that is neither compressed nor over the limit: the
/// usual case, for which there is nothing to put together.
#[inline]
pub(super) fn is_whole(bytes: &Bytes, limit: Option<usize>) -> bool {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return false };
    let (flag, len) = message_prefix::decode(*prefix);
    flag == 0 && len == bytes.len() - PREFIX && len <= limit.unwrap_or(MAX_MESSAGE_SIZE)
}

/// Decodes bytes that are one whole message.
///
/// # Errors
/// tonic's, if they are not that of a message.
#[inline]
pub(super) fn decode_whole<M: Message + Default>(mut bytes: Bytes) -> Result<M, Status> {
    bytes.advance(PREFIX);
    M::decode(bytes).map_err(|error| undecodable(&error))
}

#[cold]
fn undecodable(error: &prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

#[cold]
fn compressed() -> Status {
    Status::internal(
        "protocol error: received message with compressed-flag but no grpc-encoding was specified",
    )
}

#[cold]
fn refuse(error: BadMessage, receiver: Role) -> Status {
    match error {
        BadMessage::Length(BadLength::OverLimit { length, limit }) => Status::out_of_range(format!(
            "Error, decoded message length too large: found {length} bytes, the limit is: {} bytes",
            limit.bytes
        )),
        BadMessage::Length(error) => Status::internal(error.to_string()),
        BadMessage::Flag(flag) => {
            let when = match receiver {
                Role::Client => " while receiving response with status: 200 OK",
                Role::Server => ", while sending request",
            };
            Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 \
                 and 1){when}"
            ))
        }
    }
}
