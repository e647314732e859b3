//! What a server says of itself: gRPC server reflection, `v1` or, from servers that have only that,
//! `v1alpha`. The two differ in their name alone.

use http::uri::PathAndQuery;
use notnets::Channel;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::{Error, unexpected};

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// A server that is asked.
pub struct Reflection {
    client: Grpc<Channel>,
    headers: MetadataMap,
    path: &'static str,
}

impl Reflection {
    /// Asks through `client`, with `headers` on each call.
    pub fn new(client: Grpc<Channel>, headers: MetadataMap) -> Self {
        Self { client, headers, path: V1 }
    }

    /// One question, one answer, each on a call of its own.
    pub async fn ask(&mut self, request: MessageRequest) -> Result<MessageResponse, Error> {
        match self.ask_at(self.path, request.clone()).await {
            Err(status) if status.code() == Code::Unimplemented && self.path == V1 => {
                let answer = self.ask_at(V1ALPHA, request).await?;
                self.path = V1ALPHA;
                answered(answer)
            }
            answer => answered(answer?),
        }
    }

    async fn ask_at(
        &mut self,
        path: &'static str,
        request: MessageRequest,
    ) -> Result<Option<MessageResponse>, Status> {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut request = Request::new(tokio_stream::once(question));
        *request.metadata_mut() = self.headers.clone();
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        self.client.ready().await?;
        let call = self.client.streaming(request, PathAndQuery::from_static(path), codec);
        Ok(call.await?.into_inner().message().await?.and_then(|answer| answer.message_response))
    }
}

fn answered(answer: Option<MessageResponse>) -> Result<MessageResponse, Error> {
    match answer {
        Some(MessageResponse::ErrorResponse(error)) => {
            Err(Status::new(Code::from(error.error_code), error.error_message).into())
        }
        Some(answer) => Ok(answer),
        None => Err(unexpected()),
    }
}
