//! etcd's client over a channel, which it takes as one of its user's making.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue,
    PbKvServer, PbKvService, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbRangeStreamResponse, PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
    PbWatchServer, PbWatchService,
};
use etcd_client::{Channel, Client, EventType};
use notnets_foreign_crates::{Bed, within};
use tokio::sync::broadcast;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// As much of etcd as is asked for here.
#[derive(Clone)]
struct Store {
    values: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    changes: broadcast::Sender<PbKeyValue>,
}

impl Store {
    fn new() -> Self {
        Self { values: Arc::default(), changes: broadcast::channel(64).0 }
    }

    fn values(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_value(key: Vec<u8>, value: Vec<u8>) -> PbKeyValue {
    PbKeyValue { key, value, ..PbKeyValue::default() }
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not asked for here"))
}

#[tonic::async_trait]
impl PbKvService for Store {
    type RangeStreamStream = Messages<PbRangeStreamResponse>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let key = request.into_inner().key;
        let found = self.values().get(&key).cloned();
        let kvs: Vec<_> = found.map(|value| key_value(key, value)).into_iter().collect();
        Ok(Response::new(PbRangeResponse { count: kvs.len() as i64, kvs, ..PbRangeResponse::default() }))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let PbPutRequest { key, value, .. } = request.into_inner();
        self.values().insert(key.clone(), value.clone());
        // Nobody may be watching.
        let _ = self.changes.send(key_value(key, value));
        Ok(Response::new(PbPutResponse::default()))
    }

    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        unimplemented()
    }

    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unimplemented()
    }

    async fn txn(&self, _: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        unimplemented()
    }

    async fn compact(
        &self,
        _: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        unimplemented()
    }
}

#[tonic::async_trait]
impl PbWatchService for Store {
    type WatchStream = Messages<PbWatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let mut changes = self.changes.subscribe();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let Some(Ok(PbWatchRequest { request_union: Some(PbWatchRequestUnion::CreateRequest(wanted)) })) =
                requests.next().await
            else {
                return;
            };
            let created = PbWatchResponse { created: true, ..PbWatchResponse::default() };
            let mut next = Some(created);
            while let Some(response) = next {
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
                next = loop {
                    match changes.recv().await {
                        Ok(change) if change.key == wanted.key => {
                            let event = PbEvent { kv: Some(change), ..PbEvent::default() };
                            break Some(PbWatchResponse {
                                events: vec![event],
                                ..PbWatchResponse::default()
                            });
                        }
                        Ok(_) => {}
                        Err(_) => break None,
                    }
                };
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }
}

async fn etcd() -> (Bed, Client) {
    let store = Store::new();
    let (kv, watch) = (PbKvServer::new(store.clone()), PbWatchServer::new(store));
    let (bed, channel) = Bed::native(|server| server.add_service(kv).add_service(watch)).await;
    let channel = ServiceExt::<http::Request<Body>>::map_err(channel, tower::BoxError::from);
    let channel = Channel::Custom(BoxCloneSyncService::new(channel));
    (bed, within(Client::from_channel(channel, None)).await.expect("a client"))
}

#[tokio::test]
async fn values_are_put_and_read() {
    let (_bed, mut client) = etcd().await;
    within(client.put("stock", "3", None)).await.expect("it is put");
    let large = vec![b'x'; 1 << 20];
    within(client.put("large", large.clone(), None)).await.expect("it is put");
    for (key, value) in [("stock", b"3".to_vec()), ("large", large)] {
        let found = within(client.get(key, None)).await.expect("it is there");
        assert_eq!((found.count(), found.kvs()[0].key()), (1, key.as_bytes()));
        assert!(found.kvs()[0].value() == value);
    }
    assert_eq!(within(client.get("nothing", None)).await.expect("an answer").count(), 0);
    let error = within(client.delete("stock", None)).await.expect_err("this server can't");
    assert!(error.to_string().contains("not asked for here"), "{error}");
}

#[tokio::test]
async fn a_watch_goes_on_while_values_are_put() {
    let (_bed, mut client) = etcd().await;
    let mut watch = within(client.watch("stock", None)).await.expect("a watch");
    assert!(within(watch.message()).await.expect("a response").expect("it is there").created());
    for value in ["2", "1", "0"] {
        within(client.put("other", value, None)).await.expect("it is put");
        within(client.put("stock", value, None)).await.expect("it is put");
        let response = within(watch.message()).await.expect("a response").expect("the watch goes on");
        let event = &response.events()[0];
        assert_eq!(event.event_type(), EventType::Put);
        assert_eq!(event.kv().expect("what was put").value(), value.as_bytes());
    }
}
