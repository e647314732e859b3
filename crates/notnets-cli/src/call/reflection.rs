//! Asks a server what it serves: gRPC server reflection, `v1` or, from servers
//! that have only that, `v1alpha`. The two differ in their name alone.
//!
//! Google's well-known types are known without a server, and so is the health service.

use std::collections::HashMap;

use http::uri::PathAndQuery;
use notnets::Channel;
use prost::Message;
use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::{DescriptorProto, FileDescriptorProto};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::pruned::{self, Files};
use crate::failure::{Failure, code_name};
use crate::target::Target;

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

const HEALTH: &str = "grpc.health.v1.Health";

/// A server's descriptors, fetched as they are needed.
pub struct Reflection {
    client: Grpc<Channel>,
    headers: MetadataMap,
    path: &'static str,
    pool: DescriptorPool,
    /// Methods whose messages are not described, with the file that the server does not send.
    undescribed: HashMap<String, String>,
}

/// A service that a server lists.
pub struct Listed {
    /// Its full name.
    pub name: String,
    /// What it has, or why that is not known.
    pub description: Result<ServiceDescriptor, String>,
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
    pub fn new(client: Grpc<Channel>, headers: MetadataMap) -> Self {
        let pool = DescriptorPool::global();
        Self { client, headers, path: V1, pool, undescribed: HashMap::new() }
    }

    /// All services, by name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn services(&mut self) -> Result<Vec<Listed>, Error> {
        let mut services = Vec::new();
        for name in self.service_names().await? {
            let description = match self.service(&name).await {
                Ok(service) => Ok(service),
                Err(Error::Status(status)) if status.code() == Code::NotFound => {
                    Err("the server does not describe it".to_owned())
                }
                Err(Error::Answer(sentence)) => Err(sentence),
                Err(error) => return Err(error),
            };
            services.push(Listed { name, description });
        }
        Ok(services)
    }

    /// The methods of a service whose messages the server does not describe, with the files that are missing.
    pub fn undescribed(&self, service: &str) -> Vec<(&str, &str)> {
        let mut methods: Vec<_> = self
            .undescribed
            .iter()
            .filter_map(|(name, file)| {
                let (of, method) = name.split_once('/')?;
                (of == service).then_some((method, file.as_str()))
            })
            .collect();
        methods.sort_unstable();
        methods
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
                return Err(self.no_service(service).await?);
            }
            found => found?,
        };
        if let Some(file) = self.undescribed.get(&format!("{}/{method}", service.full_name())) {
            return Err(Error::Answer(format!(
                "the server does not describe the messages of `{text}`: it does not send `{file}`"
            )));
        }
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

    /// The enum of that full name, if it has been fetched.
    pub fn enumeration(&self, name: &str) -> Option<EnumDescriptor> {
        self.pool.get_enum_by_name(name)
    }

    /// Why a service is not described: it isn't there, or the server does not say what it has.
    async fn no_service(&mut self, service: &str) -> Result<Error, Error> {
        let names = self.service_names().await?;
        Ok(Error::Answer(if names.iter().any(|name| name == service) {
            format!("the server lists `{service}`, but does not describe it")
        } else {
            format!("there is no service `{service}`; there are {}", names.join(", "))
        }))
    }

    /// The service of that full name.
    ///
    /// # Errors
    /// When the server does not describe it.
    pub async fn service(&mut self, name: &str) -> Result<ServiceDescriptor, Error> {
        if self.pool.get_service_by_name(name).is_none()
            && let Err(error) = self.fetch_symbol(name).await
            && !self.add_health(name)
        {
            return Err(error);
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
        let mut files = Files::new();
        self.fetch(MessageRequest::FileContainingSymbol(symbol.to_owned()), &mut files).await?;
        // Some servers send the imports along, some only when asked, and some never.
        while let Some(import) = self.missing_import(&files) {
            match self.fetch(MessageRequest::FileByFilename(import.clone()), &mut files).await {
                Err(Error::Status(status)) if status.code() != Code::NotFound => return Err(status.into()),
                _ => {}
            }
            if !files.contains_key(&import) {
                let gone = pruned::remove(&import, &mut files, &self.pool);
                self.undescribed.extend(gone.into_iter().map(|method| (method, import.clone())));
            }
        }
        files.retain(|name, _| self.pool.get_file_by_name(name).is_none());
        self.pool
            .add_file_descriptor_protos(files.into_values())
            .map_err(|error| Error::Answer(format!("the server describes itself inconsistently: {error}")))
    }

    /// Adds the description of the health service, which is the same everywhere, if that is its name.
    fn add_health(&mut self, name: &str) -> bool {
        name == HEALTH && self.pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET).is_ok()
    }

    /// Lets a type be known that the server does not describe, without its fields. Returns `false` if that
    /// is no type's name.
    pub fn stand_in(&mut self, name: &str) -> bool {
        let (package, message) = name.rsplit_once('.').unwrap_or(("", name));
        let message = DescriptorProto { name: Some(message.to_owned()), ..DescriptorProto::default() };
        let file = FileDescriptorProto {
            name: Some(format!("not described: {name}")),
            package: Some(package.to_owned()),
            syntax: Some("proto3".to_owned()),
            message_type: vec![message],
            ..FileDescriptorProto::default()
        };
        self.pool.add_file_descriptor_proto(file).is_ok()
    }

    fn missing_import(&self, files: &Files) -> Option<String> {
        let known = |name: &String| files.contains_key(name) || self.pool.get_file_by_name(name).is_some();
        files.values().flat_map(|file| &file.dependency).find(|name| !known(name)).cloned()
    }

    async fn fetch(&mut self, request: MessageRequest, files: &mut Files) -> Result<(), Error> {
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
