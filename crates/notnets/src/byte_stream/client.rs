//! Opening streams.

use super::{ByteStream, METHOD};
use crate::Channel;
use crate::rpc::{Method, Request, Status};

impl Channel {
    /// Opens a [stream of bytes](crate::byte_stream) to the server. Returns once the server has accepted it.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when the server takes no byte streams, `UNAVAILABLE` when it can't be reached or
    /// accepts none any more.
    pub async fn byte_stream(&self) -> Result<ByteStream, Status> {
        let (sender, mut receiver) = self.streaming_call(Request::new(Method::from_static(METHOD))).await?;
        receiver.head().await?;
        let (call, buffered) = receiver.into_raw();
        ByteStream::of_client(call, sender.into_half(), buffered)
    }
}
