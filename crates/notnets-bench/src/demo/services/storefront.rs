//! The customers' entrance: it asks the others and puts their answers together.

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{Name, onward};
use crate::demo::proto::catalogue_client::CatalogueClient;
use crate::demo::proto::inventory_client::InventoryClient;
use crate::demo::proto::orders_client::OrdersClient;
use crate::demo::proto::pricing_client::PricingClient;
use crate::demo::proto::reviews_client::ReviewsClient;
use crate::demo::proto::*;
use crate::demo::transport::Channel;

/// Serves `shop.Storefront`.
pub struct Storefront<C> {
    catalogue: CatalogueClient<C>,
    pricing: PricingClient<C>,
    inventory: InventoryClient<C>,
    reviews: ReviewsClient<C>,
    orders: OrdersClient<C>,
}

impl<C: Channel> Storefront<C> {
    /// A storefront that asks those that `peer` leads to.
    pub fn new(peer: impl Fn(Name) -> C) -> Self {
        // The default limit of 4 MiB for a reply is more than the shop's largest.
        Self {
            catalogue: CatalogueClient::new(peer(Name::Catalogue)),
            pricing: PricingClient::new(peer(Name::Pricing)),
            inventory: InventoryClient::new(peer(Name::Inventory)),
            reviews: ReviewsClient::new(peer(Name::Reviews)),
            orders: OrdersClient::new(peer(Name::Orders)),
        }
    }
}

#[tonic::async_trait]
impl<C: Channel> storefront_server::Storefront for Storefront<C> {
    type WatchPriceStream = Streaming<PriceUpdate>;
    type HaggleStream = Streaming<CounterOffer>;

    async fn browse(&self, request: Request<BrowseRequest>) -> Result<Response<ProductPage>, Status> {
        let (metadata, _, BrowseRequest { product_id, customer_id }) = request.into_parts();
        let mut catalogue = self.catalogue.clone();
        let mut pricing = self.pricing.clone();
        let mut inventory = self.inventory.clone();
        let mut reviews = self.reviews.clone();
        let (product, quote, stock, reviews) = tokio::try_join!(
            catalogue.describe(onward(&metadata, ProductRequest { product_id })),
            pricing.price(onward(&metadata, QuoteRequest { product_id, customer_id })),
            inventory.count(onward(&metadata, StockRequest { product_id })),
            reviews.latest(onward(&metadata, ReviewsRequest { product_id })),
        )?;
        Ok(Response::new(ProductPage {
            product: Some(product.into_inner()),
            quote: Some(quote.into_inner()),
            stock: Some(stock.into_inner()),
            reviews: Some(reviews.into_inner()),
        }))
    }

    async fn checkout(&self, request: Request<Order>) -> Result<Response<Receipt>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.orders.clone().place(onward(&metadata, order)).await
    }

    async fn picture(&self, request: Request<PictureRequest>) -> Result<Response<PictureReply>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.catalogue.clone().picture(onward(&metadata, ask)).await
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<ExportReply>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.catalogue.clone().export(onward(&metadata, ask)).await
    }

    async fn watch_price(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchPriceStream>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.pricing.clone().watch_price(onward(&metadata, ask)).await
    }

    async fn fill_cart(
        &self,
        request: Request<Streaming<CartLine>>,
    ) -> Result<Response<CartSummary>, Status> {
        let (metadata, _, lines) = request.into_parts();
        self.orders.clone().fill_cart(onward(&metadata, relay(lines))).await
    }

    async fn haggle(
        &self,
        request: Request<Streaming<Offer>>,
    ) -> Result<Response<Self::HaggleStream>, Status> {
        let (metadata, _, offers) = request.into_parts();
        self.pricing.clone().haggle(onward(&metadata, relay(offers))).await
    }
}

/// Passes on what the customer sends. A generated client takes messages and no errors, so that a
/// customer that breaks off ends the stream; there is no one left to take the reply.
fn relay<T: Send + 'static>(messages: Streaming<T>) -> impl Stream<Item = T> + Send + 'static {
    messages.map_while(std::result::Result::ok)
}
