//! What methods and messages a server has: as it says by [reflection], or as files say.
//!
//! Google's well-known types are known without either, and so is the health service.

pub mod any;
pub mod describe;
mod files;
mod pruned;
mod reflection;

use std::collections::HashMap;

use notnets::Channel;
use prost::Message;
use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::{DescriptorProto, FileDescriptorProto};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

pub use self::files::Args;
use self::pruned::Files;
use self::reflection::Reflection;
use crate::failure::{Failure, code_name};
use crate::target::Target;

const HEALTH: &str = "grpc.health.v1.Health";

/// A server's descriptors.
pub struct Schema {
    /// Where those are fetched that are needed, unless files have them all.
    reflection: Option<Reflection>,
    /// Who describes, as it is named in sentences.
    source: String,
    pool: DescriptorPool,
    /// Methods whose messages are not described, with the file that is missing.
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
    /// The failure of having asked `server`, or looked into files.
    fn of(self, server: &str) -> Failure {
        let sentence = match &self {
            Self::Answer(sentence) => return Failure::new(format!("{server}: {sentence}")),
            Self::Status(status) if status.code() == Code::Unimplemented => format!(
                "{server} has no server reflection, neither v1 nor v1alpha, so its methods and messages are not \
                 known; give the files that have them (--proto), or add it to the server (in Rust: tonic-reflection)"
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

impl Schema {
    /// What `server` says of itself, which is asked through `client`, with `headers` on each call.
    pub fn of_server(server: &Target, client: Grpc<Channel>, headers: MetadataMap) -> Self {
        Self {
            reflection: Some(Reflection::new(client, headers)),
            source: server.to_string(),
            pool: DescriptorPool::global(),
            undescribed: HashMap::new(),
        }
    }

    /// What files describe, which are called `source`.
    fn of_files(source: String, files: Files) -> Result<Self, Error> {
        let pool = DescriptorPool::global();
        let mut schema = Self { reflection: None, source, pool, undescribed: HashMap::new() };
        schema.add(files)?;
        Ok(schema)
    }

    /// The failure of having asked for a method, or for what there is.
    pub fn failure(&self, error: Error) -> Failure {
        error.of(&self.source)
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
                    Err("it is not described".to_owned())
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
                "the messages of `{text}` are not described: `{file}` is missing"
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
            format!("`{service}` is listed, but not described")
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
        let missing = || Error::Answer(format!("the description of `{name}` does not contain it"));
        self.pool.get_service_by_name(name).ok_or_else(missing)
    }

    async fn service_names(&mut self) -> Result<Vec<String>, Error> {
        if self.reflection.is_none() {
            let mut names: Vec<_> =
                self.pool.services().map(|service| service.full_name().to_owned()).collect();
            names.sort();
            return Ok(names);
        }
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
                self.do_without(&import, &mut files);
            }
        }
        self.add(files)
    }

    /// Leaves out what can't be described without a file that is missing.
    fn do_without(&mut self, import: &str, files: &mut Files) {
        let gone = pruned::remove(import, files, &self.pool);
        self.undescribed.extend(gone.into_iter().map(|method| (method, import.to_owned())));
    }

    /// Adds files to the pool.
    fn add(&mut self, mut files: Files) -> Result<(), Error> {
        while let Some(import) = self.missing_import(&files) {
            self.do_without(&import, &mut files);
        }
        files.retain(|name, _| self.pool.get_file_by_name(name).is_none());
        self.pool
            .add_file_descriptor_protos(files.into_values())
            .map_err(|error| Error::Answer(format!("the descriptions contradict each other: {error}")))
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

    /// Asks the server. Where files describe, they have it already or not at all.
    async fn ask(&mut self, request: MessageRequest) -> Result<MessageResponse, Error> {
        match &mut self.reflection {
            Some(reflection) => reflection.ask(request).await,
            None => Err(Status::not_found("it is not in the files").into()),
        }
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
}

fn unexpected() -> Error {
    Error::Answer("the server's reflection gave an answer that does not fit the question".to_owned())
}
