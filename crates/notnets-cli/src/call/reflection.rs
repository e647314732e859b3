//! Asks a server what it serves: gRPC server reflection, `v1` or, from servers
//! that have only that, `v1alpha`. The two differ in their name alone.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::failure::{Failure, code_name};
use crate::target::{Target, Upstream};

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// A server's descriptors, fetched as they are needed.
pub struct Reflection {
    client: Grpc<Upstream>,
    headers: MetadataMap,
    path: &'static str,
    pool: DescriptorPool,
}

/// Why something is not known of a server.
#[derive(Debug)]
pub enum Error {
    /// The server could not be asked.
    Status(Status),
    /// The server's answers cannot be used, or do not have what was looked for.
    Answer(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Error {
    /// The failure of having asked `server`.
    pub fn at(self, server: &Target) -> Failure {
        let sentence = match &self {
            Self::Answer(sentence) => return Failure::new(format!("{server}: {sentence}")),
            Self::Status(status) if status.code() == Code::Unimplemented => format!(
                "{server} has no server reflection, neither v1 nor v1alpha, so its methods and messages are not \
                 known; add it to the server (in Rust: tonic-reflection)"
            ),
            Self::Status(status) => format!(
                "asking {server} for its services failed with {}: {}",
                code_name(status.code()),
                status.message()
            ),
        };
        match self {
            Self::Status(status) => Failure::of_call(status.code(), sentence),
            Self::Answer(_) => Failure::new(sentence),
        }
    }
}

impl Reflection {
    /// Asks through `client`, with `headers` on each call.
    pub fn new(client: Grpc<Upstream>, headers: MetadataMap) -> Self {
        Self { client, headers, path: V1, pool: DescriptorPool::new() }
    }

    /// All services, by name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn services(&mut self) -> Result<Vec<ServiceDescriptor>, Error> {
        let mut services = Vec::new();
        for name in self.service_names().await? {
            services.push(self.service(&name).await?);
        }
        Ok(services)
    }

    /// The method that the user means by `package.Service/Method`, perhaps with
    /// a `/` before it or a dot instead of the slash.
    ///
    /// # Errors
    /// When there is no such method, with those that exist.
    pub async fn method(&mut self, text: &str) -> Result<MethodDescriptor, Error> {
        let text = text.trim_start_matches('/');
        let (service, method) = text.split_once('/').or_else(|| text.rsplit_once('.')).ok_or_else(|| {
            Error::Answer(format!(
                "`{text}` is not a method: write package.Service/Method, --list shows them"
            ))
        })?;
        let service = match self.service(service).await {
            Err(Error::Status(status)) if status.code() == Code::NotFound => {
                let names = self.service_names().await?.join(", ");
                return Err(Error::Answer(format!("there is no service `{service}`; there are {names}")));
            }
            found => found?,
        };
        service.methods().find(|candidate| candidate.name() == method).ok_or_else(|| {
            let names: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
            let service = service.full_name();
            let names = names.join(", ");
            Error::Answer(format!("{service} has no method `{method}`; it has {names}"))
        })
    }

    /// The message type of that full name, if the server knows it.
    pub async fn message(&mut self, name: &str) -> Option<MessageDescriptor> {
        if self.pool.get_message_by_name(name).is_none() {
            self.fetch_symbol(name).await.ok()?;
        }
        self.pool.get_message_by_name(name)
    }

    async fn service(&mut self, name: &str) -> Result<ServiceDescriptor, Error> {
        if self.pool.get_service_by_name(name).is_none() {
            self.fetch_symbol(name).await?;
        }
        let missing = || Error::Answer(format!("the server's description of `{name}` does not contain it"));
        self.pool.get_service_by_name(name).ok_or_else(missing)
    }

    async fn service_names(&mut self) -> Result<Vec<String>, Error> {
        match self.ask(MessageRequest::ListServices(String::new())).await? {
            MessageResponse::ListServicesResponse(list) => {
                let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
                names.sort();
                Ok(names)
            }
            _ => Err(unexpected()),
        }
    }

    /// Adds the file that contains `symbol` to the pool, and all it imports.
    async fn fetch_symbol(&mut self, symbol: &str) -> Result<(), Error> {
        let mut files = BTreeMap::new();
        self.fetch(MessageRequest::FileContainingSymbol(symbol.to_owned()), &mut files).await?;
        // Some servers send the imports along, some only when asked.
        while let Some(import) = self.missing_import(&files) {
            self.fetch(MessageRequest::FileByFilename(import.clone()), &mut files).await?;
            if !files.contains_key(&import) {
                return Err(Error::Answer(format!("the server does not send `{import}`, which it imports")));
            }
        }
        files.retain(|name, _| self.pool.get_file_by_name(name).is_none());
        self.pool
            .add_file_descriptor_protos(files.into_values())
            .map_err(|error| Error::Answer(format!("the server describes itself inconsistently: {error}")))
    }

    fn missing_import(&self, files: &BTreeMap<String, FileDescriptorProto>) -> Option<String> {
        let known = |name: &String| files.contains_key(name) || self.pool.get_file_by_name(name).is_some();
        files.values().flat_map(|file| &file.dependency).find(|name| !known(name)).cloned()
    }

    async fn fetch(
        &mut self,
        request: MessageRequest,
        files: &mut BTreeMap<String, FileDescriptorProto>,
    ) -> Result<(), Error> {
        let MessageResponse::FileDescriptorResponse(response) = self.ask(request).await? else {
            return Err(unexpected());
        };
        for bytes in response.file_descriptor_proto {
            let file = FileDescriptorProto::decode(bytes.as_slice())
                .map_err(|error| Error::Answer(format!("the server sent a damaged description: {error}")))?;
            files.insert(file.name().to_owned(), file);
        }
        Ok(())
    }

    /// One question, one answer, each on a call of its own.
    async fn ask(&mut self, request: MessageRequest) -> Result<MessageResponse, Error> {
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

fn unexpected() -> Error {
    Error::Answer("the server's reflection gave an answer that does not fit the question".to_owned())
}
