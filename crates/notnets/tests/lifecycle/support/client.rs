//! A client of the [`Probe`](super::service::Probe) service.

use std::path::Path;

use bytes::Bytes;
use http::uri::PathAndQuery;
use notnets::{Channel, Endpoint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{IntoStreamingRequest, Request, Response, Status, Streaming};

use super::helper::Helper;
use super::raw::Raw;
use super::{NAME, within};

/// Calls over a channel.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: Grpc<Channel>,
}

/// An endpoint for the name that helpers serve.
pub fn endpoint(directory: &Path) -> Endpoint {
    Endpoint::from_static(NAME).directory(directory)
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel) }
    }

    /// Connects to what a helper serves.
    pub async fn connect(directory: &Path) -> Self {
        Self::new(within(endpoint(directory).connect()).await.expect("the helper serves"))
    }

    /// Receives larger messages.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.grpc = self.grpc.max_decoding_message_size(bytes);
        self
    }

    pub async fn unary(&self, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.grpc.clone().unary(request, path(method), Raw).await
    }

    /// A unary call's reply as text.
    pub async fn text(&self, method: &str, request: impl Into<Bytes>) -> Result<String, Status> {
        let reply = self.unary(method, Request::new(request.into())).await?.into_inner();
        Ok(String::from_utf8(reply.into()).expect("replies are text"))
    }

    /// Calls until this server answers.
    pub async fn until_answered_by(&self, server: &Helper) {
        let pid = server.pid().to_string();
        within(async { while self.text("pid", "").await.unwrap() != pid {} }).await;
    }

    pub async fn stream(&self, method: &str, request: impl Into<Bytes>) -> Result<Streaming<Bytes>, Status> {
        let request = Request::new(request.into());
        Ok(self.grpc.clone().server_streaming(request, path(method), Raw).await?.into_inner())
    }

    pub async fn collect(
        &self,
        method: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Bytes, Status> {
        let requests = requests.into_streaming_request();
        Ok(self.grpc.clone().client_streaming(requests, path(method), Raw).await?.into_inner())
    }

    pub async fn duplex(
        &self,
        method: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        let requests = requests.into_streaming_request();
        Ok(self.grpc.clone().streaming(requests, path(method), Raw).await?.into_inner())
    }
}

/// A call to a server, that ends when its sender is dropped.
pub async fn open_call(
    client: &Client,
    server: &mut Helper,
) -> (mpsc::Sender<Bytes>, JoinHandle<Result<Bytes, Status>>) {
    let (sender, requests) = mpsc::channel(1);
    let caller = client.clone();
    let call = tokio::spawn(async move { caller.collect("count", ReceiverStream::new(requests)).await });
    sender.send(Bytes::from("one")).await.unwrap();
    server.expect("count began");
    server.expect("count: one message");
    (sender, call)
}

fn path(method: &str) -> PathAndQuery {
    format!("/lives.Probe/{method}").parse().expect("is a path")
}
