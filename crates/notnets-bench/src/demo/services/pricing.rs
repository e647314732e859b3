//! Prices, their changes, and answers to offers.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::data;
use crate::demo::proto::{
    CounterOffer, Offer, PriceUpdate, Quote, QuoteRequest, WatchRequest, pricing_server,
};

/// Serves `shop.Pricing`.
pub struct Pricing;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl pricing_server::Pricing for Pricing {
    type WatchPriceStream = Replies<PriceUpdate>;
    type HaggleStream = Replies<CounterOffer>;

    async fn price(&self, request: Request<QuoteRequest>) -> Result<Response<Quote>, Status> {
        let ask = request.get_ref();
        Ok(Response::new(data::quote(ask.product_id, ask.customer_id)))
    }

    async fn watch_price(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchPriceStream>, Status> {
        let WatchRequest { product_id, updates } = request.into_inner();
        let changes = (0..updates).map(move |number| Ok(data::price_update(product_id, number)));
        Ok(Response::new(Box::pin(tokio_stream::iter(changes))))
    }

    async fn haggle(
        &self,
        request: Request<Streaming<Offer>>,
    ) -> Result<Response<Self::HaggleStream>, Status> {
        let answers = request.into_inner().map(|offer| Ok(data::counter_offer(&offer?)));
        Ok(Response::new(Box::pin(answers)))
    }
}
