//! A generated client's inside: which way its calls go.
//!
//! What a client is given is a service of a type that it does not know. If that is our
//! [`Channel`](crate::Channel), calls are made directly on it. If it is one behind an interceptor, the
//! interceptor gets each request's head, and the call is made directly with what has become of that. Calls go
//! by HTTP over everything else, and where the client compresses messages.

use std::any::TypeId;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Request, Uri};
use prost::Message;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::CompressionEncoding;
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::{GrpcMethod, InterceptedService, StdError};
use tonic::{CancellationHandle, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::calls::{self, Limits};
use super::method::Method;
use super::outbound::Head;
use crate::Channel;
use crate::http::{Arrival, Asked};

/// What a generated client calls methods with.
#[derive(Clone)]
pub struct Client<T> {
    inner: T,
    direct: Option<Direct>,
    origin: Uri,
    send: Option<CompressionEncoding>,
    accept: Vec<CompressionEncoding>,
    limits: Limits,
}

/// Where calls can be made without HTTP.
#[derive(Clone)]
struct Direct {
    channel: Channel,
    /// There is an interceptor in front of it.
    is_intercepted: bool,
}

impl<T: fmt::Debug> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("inner", &self.inner)
            .field("origin", &self.origin)
            .field("compression_encoding", &self.send)
            .field("accept_compression_encodings", &self.accept)
            .field("max_decoding_message_size", &self.limits.decoding)
            .field("max_encoding_message_size", &self.limits.encoding)
            .finish_non_exhaustive()
    }
}

impl<T> Client<T> {
    fn build(inner: T, direct: Option<Direct>, origin: Uri) -> Self {
        Self { inner, direct, origin, send: None, accept: Vec::new(), limits: Limits::default() }
    }

    /// Compresses requests.
    #[must_use]
    pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
        self.send = Some(encoding);
        self
    }

    /// Accepts compressed responses.
    #[must_use]
    pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
        self.accept.push(encoding);
        self
    }

    /// Refuses responses of more bytes.
    #[must_use]
    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.limits.decoding = Some(limit);
        self
    }

    /// Refuses requests of more bytes.
    #[must_use]
    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.limits.encoding = Some(limit);
        self
    }
}

impl<T> Client<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    /// A client over a service.
    pub fn new(inner: T) -> Self {
        Self::with_origin(inner, Uri::default())
    }

    /// A client over a service, to which it sends requests with that scheme and authority, and with that path
    /// in front of the methods'.
    pub fn with_origin(mut inner: T, origin: Uri) -> Self {
        // An origin is a part of HTTP requests.
        let channel = if origin == Uri::default() { channel(&mut inner) } else { None };
        let direct = channel.map(|channel| Direct { channel, is_intercepted: false });
        Self::build(inner, direct, origin)
    }

    /// A client over a service, whose requests an interceptor sees first.
    pub fn with_interceptor<F>(mut inner: T, interceptor: F) -> Client<InterceptedService<T, F>> {
        let direct = channel(&mut inner).map(|channel| Direct { channel, is_intercepted: true });
        Client::build(InterceptedService::new(inner, interceptor), direct, Uri::default())
    }

    /// Makes a call with one message that is answered by one.
    ///
    /// # Errors
    /// The call's status.
    pub async fn unary<M1, M2>(
        &mut self,
        request: tonic::Request<M1>,
        method: Method,
    ) -> Result<Response<M2>, Status>
    where
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        // Mostly there is nothing to find.
        if let Some(Direct { channel, is_intercepted: false }) = &self.direct
            && self.is_plain(&request)
        {
            let (metadata, _extensions, message) = request.into_parts();
            let head = Head::new(method.path, metadata.into_headers());
            return calls::unary(channel, head, message, self.limits).await;
        }
        match self.find_way(request, method).await? {
            Way::Direct(direct, message) => {
                calls::unary(&direct.channel, direct.head, message, self.limits).await
            }
            Way::Http(request, path) => {
                self.by_http().await?.unary(request, path, ProstCodec::default()).await
            }
        }
    }

    /// Makes a call with one message that is answered by a stream of them.
    ///
    /// # Errors
    /// The call's status, if it ends before the stream begins.
    pub async fn server_streaming<M1, M2>(
        &mut self,
        request: tonic::Request<M1>,
        method: Method,
    ) -> Result<Response<Streaming<M2>>, Status>
    where
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        match self.find_way(request, method).await? {
            Way::Direct(direct, message) => {
                calls::server_streaming(&direct.channel, direct.head, message, self.limits).await
            }
            Way::Http(request, path) => {
                self.by_http().await?.server_streaming(request, path, ProstCodec::default()).await
            }
        }
    }

    /// Makes a call with a stream of messages that is answered by one.
    ///
    /// # Errors
    /// The call's status.
    pub async fn client_streaming<S, M1, M2>(
        &mut self,
        request: tonic::Request<S>,
        method: Method,
    ) -> Result<Response<M2>, Status>
    where
        S: Stream<Item = M1> + Send + 'static,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        match self.find_way(request, method).await? {
            Way::Direct(direct, stream) => {
                calls::client_streaming(&direct.channel, direct.head, stream, self.limits).await
            }
            Way::Http(request, path) => {
                self.by_http().await?.client_streaming(request, path, ProstCodec::default()).await
            }
        }
    }

    /// Makes a call with a stream of messages that is answered by another one.
    ///
    /// # Errors
    /// The call's status, if it ends before the stream begins.
    pub async fn streaming<S, M1, M2>(
        &mut self,
        request: tonic::Request<S>,
        method: Method,
    ) -> Result<Response<Streaming<M2>>, Status>
    where
        S: Stream<Item = M1> + Send + 'static,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        match self.find_way(request, method).await? {
            Way::Direct(direct, stream) => {
                calls::streaming(&direct.channel, direct.head, stream, self.limits).await
            }
            Way::Http(request, path) => {
                self.by_http().await?.streaming(request, path, ProstCodec::default()).await
            }
        }
    }

    /// Finds the way of a call.
    ///
    /// # Errors
    /// When an interceptor refuses it.
    async fn find_way<M>(&mut self, request: tonic::Request<M>, method: Method) -> Result<Way<M>, Status> {
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_plain(&request)) else {
            return Ok(Way::http(request, method));
        };
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        if !direct.is_intercepted {
            let head = Head::new(method.path, headers);
            return Ok(Way::Direct(DirectCall { channel: direct.channel.clone(), head }, message));
        }
        let call = self.intercept(headers, extensions, method).await?;
        Ok(Way::Direct(call, message))
    }

    /// Returns `true` if nothing is asked for that only tonic does.
    #[inline]
    fn is_plain<M>(&self, request: &tonic::Request<M>) -> bool {
        let extensions = request.extensions();
        self.send.is_none()
            && self.accept.is_empty()
            && (extensions.is_empty() || extensions.get::<CancellationHandle>().is_none())
    }

    /// Lets the interceptor see and change the head of a request.
    async fn intercept(
        &mut self,
        mut headers: HeaderMap,
        extensions: Extensions,
        method: Method,
    ) -> Result<DirectCall, Status> {
        for reserved in ["grpc-message", "grpc-message-type", "grpc-status"] {
            headers.remove(reserved);
        }
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut request = Request::new(Body::empty());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = PathAndQuery::from_static(method.path).into();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        request.extensions_mut().insert(GrpcMethod::new(method.service, method.name));
        let asked = Asked::default();
        asked.mark(&mut request);
        self.ready().await?;
        let response = self.inner.call(request).await.map_err(|error| Status::from_error(error.into()))?;
        match asked.arrival() {
            Some(Arrival { channel, head }) => {
                Ok(DirectCall { channel, head: Head::new(method.path, head.headers) })
            }
            None => Err(Status::from_header_map(response.headers())
                .filter(|status| status.code() != tonic::Code::Ok)
                .unwrap_or_else(|| Status::internal("Missing response message."))),
        }
    }

    /// Returns tonic's client, for one call.
    async fn by_http(&mut self) -> Result<Grpc<ByReference<'_, T>>, Status> {
        self.ready().await?;
        let mut grpc = Grpc::with_origin(ByReference(&mut self.inner), self.origin.clone());
        if let Some(encoding) = self.send {
            grpc = grpc.send_compressed(encoding);
        }
        for encoding in &self.accept {
            grpc = grpc.accept_compressed(*encoding);
        }
        if let Some(limit) = self.limits.decoding {
            grpc = grpc.max_decoding_message_size(limit);
        }
        if let Some(limit) = self.limits.encoding {
            grpc = grpc.max_encoding_message_size(limit);
        }
        Ok(grpc)
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = poll_fn(|cx| self.inner.poll_ready(cx)).await;
        ready.map_err(|error| Status::unknown(format!("Service was not ready: {}", error.into())))
    }
}

/// The way of a call.
enum Way<M> {
    Direct(DirectCall, M),
    Http(tonic::Request<M>, PathAndQuery),
}

/// A call that is made directly.
struct DirectCall {
    channel: Channel,
    head: Head,
}

impl<M> Way<M> {
    fn http(mut request: tonic::Request<M>, method: Method) -> Self {
        request.extensions_mut().insert(GrpcMethod::new(method.service, method.name));
        Self::Http(request, PathAndQuery::from_static(method.path))
    }
}

/// Returns the channel that a service is, if it is one.
fn channel<T: GrpcService<Body>>(service: &mut T) -> Option<Channel> {
    // A service need not be 'static, so it can't be cast. But one of that type answers itself.
    if typeid::of::<T>() != TypeId::of::<Channel>() {
        return None;
    }
    let asked = Asked::default();
    let mut request = Request::new(Body::empty());
    asked.mark(&mut request);
    drop(service.call(request));
    asked.arrival().map(|arrival| arrival.channel)
}

/// A service that is called by reference.
struct ByReference<'a, T>(&'a mut T);

impl<T> tower_service::Service<Request<Body>> for ByReference<'_, T>
where
    T: GrpcService<Body>,
{
    type Response = http::Response<T::ResponseBody>;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> T::Future {
        self.0.call(request)
    }
}
