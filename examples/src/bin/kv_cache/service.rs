//! The store as a service, over a pod and over TCP.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use notnets::SharedBytes;
use notnets_examples::Result;
use notnets_examples::kv_cache::kv_cache_server::{KvCache, KvCacheServer};
use notnets_examples::kv_cache::{
    AnnounceReply, AnnounceRequest, GetReply, GetRequest, LookupReply, LookupRequest, PutReply, PutRequest,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::store::Store;
use crate::transport::{FRAME, MAX_MESSAGE, PAGE, WINDOW, say, trust};

struct Service {
    store: Mutex<Store>,
    /// What comes as a copy is shared anew, for others to read in place.
    shares: bool,
}

impl Service {
    fn store<R>(&self, work: impl FnOnce(&mut Store) -> R) -> R {
        work(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tonic::async_trait]
impl KvCache for Service {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupReply>, Status> {
        let LookupRequest { hashes, pages } = request.into_inner();
        let runs = self.store(|store| store.get(&hashes));
        let found = runs.iter().map(|run| run.checksums.len() as u32).sum();
        let page = |data: &Bytes| data.slice(..data.len().min(PAGE));
        let pages = if pages { runs.iter().map(|run| page(&run.data)).collect() } else { Vec::new() };
        Ok(Response::new(LookupReply { found, pages }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let runs = self.store(|store| store.get(&request.into_inner().hashes));
        Ok(Response::new(GetReply { runs }))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        let in_place = SharedBytes::holds(&request.into_inner().page);
        Ok(Response::new(AnnounceReply { in_place }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { hashes, run } = request.into_inner();
        let mut run = run.ok_or_else(|| Status::invalid_argument("there are no blocks"))?;
        let blocks = hashes.len();
        if blocks == 0 || run.checksums.len() != blocks || run.data.is_empty() || run.data.len() % blocks != 0
        {
            return Err(Status::invalid_argument("blocks have one length, a hash and a checksum each"));
        }
        let in_place = SharedBytes::holds(&run.data);
        if self.shares && !in_place {
            let shared = SharedBytes::copy_from(&run.data);
            run.data = shared.map_err(|error| Status::resource_exhausted(error.to_string()))?.into();
        }
        // The hashes are parts of the message, which is not to be kept for their sake.
        let hashes = hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
        self.store(|store| store.put(hashes, run));
        Ok(Response::new(PutReply { in_place }))
    }
}

/// Serves a store at a name of a pod, or at an address of HTTP/2, for as long as this process lives.
pub async fn serve(address: &str, capacity: usize) -> Result {
    let in_pod = address.starts_with("notnets:");
    let service = Service { store: Mutex::new(Store::new(capacity)), shares: in_pod };
    let service = KvCacheServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    if in_pod {
        let server = notnets::Server::builder().trust_peer_memory(trust());
        let bound = server.add_service(service).bind(address).await?;
        say(&format!("READY {address}"))?;
        return Ok(bound.serve().await?);
    }
    let listener = TcpListener::bind(address.trim_start_matches("http://")).await?;
    say(&format!("READY http://{}", listener.local_addr()?))?;
    let mut server = tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_frame_size(FRAME);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(server.add_service(service).serve_with_incoming(incoming).await?)
}
