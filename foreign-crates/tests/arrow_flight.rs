//! Arrow Flight over a channel, for which its client is generic.

use std::pin::Pin;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::{DataType, Field, Schema};
use futures_util::{Stream, TryStreamExt as _, stream};
use notnets_foreign_crates::{Bed, within};
use tonic::{Request, Response, Status, Streaming};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// As many rows for a ticket as it says.
fn batch(rows: i64) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
    ]);
    let ids = Int64Array::from_iter_values(0..rows);
    let names = StringArray::from_iter_values((0..rows).map(|row| format!("row {row}")));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(names)])
        .expect("columns of one length")
}

/// Gives batches, and says how many rows it was given.
struct Flights;

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not asked for here"))
}

#[tonic::async_trait]
impl FlightService for Flights {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = String::from_utf8(request.into_inner().ticket.to_vec());
        let rows = ticket.ok().and_then(|rows| rows.parse().ok());
        let rows = rows.ok_or_else(|| Status::invalid_argument("a ticket is a number of rows"))?;
        let batches = stream::iter([Ok(batch(rows)), Ok(batch(rows))]);
        let data = FlightDataEncoderBuilder::new().build(batches).map_err(Status::from);
        Ok(Response::new(Box::pin(data)))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let data = request.into_inner().map_err(Into::into);
        let batches = FlightRecordBatchStream::new_from_flight_data(data);
        let rows = batches.map_ok(|batch| PutResult { app_metadata: batch.num_rows().to_string().into() });
        Ok(Response::new(Box::pin(rows.map_err(Status::from))))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        unimplemented()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        unimplemented()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        unimplemented()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        unimplemented()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        unimplemented()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        unimplemented()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        unimplemented()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        unimplemented()
    }
}

#[tokio::test]
async fn batches_go_both_ways() {
    let (_bed, channel) = Bed::native(|server| server.add_service(FlightServiceServer::new(Flights))).await;
    let mut client = FlightClient::new(channel);
    // Some that fit into a message of memory, and some that take many.
    for rows in [1, 200_000] {
        let batches = within(client.do_get(Ticket::new(rows.to_string()))).await.expect("a stream");
        let batches: Vec<_> = within(batches.try_collect()).await.expect("all of it");
        let (received, sent) = (batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2 * rows as usize);
        assert_eq!(received, sent);
        let first = batches[0].num_rows();
        assert_eq!(batches[0], batch(rows).slice(0, first));
    }
    let data = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch(30)), Ok(batch(5))]));
    let results = within(client.do_put(data)).await.expect("a stream");
    let results: Vec<_> = within(results.try_collect()).await.expect("all of it");
    let rows: Vec<_> = results.iter().map(|result| &result.app_metadata[..]).collect();
    assert_eq!(rows, [b"30".as_slice(), b"5"]);
}

#[tokio::test]
async fn a_status_is_an_error_of_its() {
    let (_bed, channel) = Bed::native(|server| server.add_service(FlightServiceServer::new(Flights))).await;
    let mut client = FlightClient::new(channel);
    let error = within(client.do_get(Ticket::new("many"))).await.expect_err("it is no number");
    assert!(error.to_string().contains("a ticket is a number of rows"), "{error}");
}
