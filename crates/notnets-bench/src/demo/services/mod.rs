//! The shop's eight services. Each runs in a process of its own.

mod catalogue;
mod fraud;
mod inventory;
mod orders;
mod payments;
mod pricing;
mod reviews;
mod storefront;
#[cfg(test)]
pub mod testing;

use std::collections::HashMap;

use clap::ValueEnum;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::data;
use super::proto::catalogue_server::CatalogueServer;
use super::proto::fraud_server::FraudServer;
use super::proto::inventory_server::InventoryServer;
use super::proto::orders_server::OrdersServer;
use super::proto::payments_server::PaymentsServer;
use super::proto::pricing_server::PricingServer;
use super::proto::reviews_server::ReviewsServer;
use super::proto::storefront_server::StorefrontServer;
use super::transport::{Channel, Place, serve};
use crate::Result;
use catalogue::Catalogue;
use fraud::Fraud;
use inventory::Inventory;
use orders::Orders;
use payments::Payments;
use pricing::Pricing;
use reviews::Reviews;
use storefront::Storefront;

/// The metadata key under which a trace goes from process to process.
pub const TRACE: &str = "traceparent";

/// Which service, in the order they are started in: none asks one that comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Name {
    /// Checks customers for fraud.
    Fraud,
    /// Takes the money; asks fraud.
    Payments,
    /// Knows where things lie.
    Inventory,
    /// Takes orders and carts; asks inventory and payments.
    Orders,
    /// Knows what there is.
    Catalogue,
    /// Knows what it costs.
    Pricing,
    /// Reviews of products.
    Reviews,
    /// The customers' entrance; asks catalogue, pricing, inventory, reviews and orders.
    Storefront,
}

impl Name {
    /// The name as it stands in addresses and arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fraud => "fraud",
            Self::Payments => "payments",
            Self::Inventory => "inventory",
            Self::Orders => "orders",
            Self::Catalogue => "catalogue",
            Self::Pricing => "pricing",
            Self::Reviews => "reviews",
            Self::Storefront => "storefront",
        }
    }

    /// Those that this one asks.
    pub fn peers(self) -> &'static [Name] {
        match self {
            Self::Payments => &[Self::Fraud],
            Self::Orders => &[Self::Inventory, Self::Payments],
            Self::Storefront => {
                &[Self::Catalogue, Self::Pricing, Self::Inventory, Self::Reviews, Self::Orders]
            }
            Self::Fraud | Self::Inventory | Self::Catalogue | Self::Pricing | Self::Reviews => &[],
        }
    }

    /// Serves for as long as the process lives. `peers` leads to [`Name::peers`].
    pub async fn serve<C: Channel>(
        self,
        place: &Place,
        peers: &HashMap<Name, C>,
        ready: impl FnOnce(String),
    ) -> Result {
        let name = self.as_str();
        let peer = |name| peers[&name].clone();
        match self {
            Self::Fraud => serve(place, name, FraudServer::new(Fraud), ready).await,
            Self::Payments => {
                let payments = Payments::new(peer(Self::Fraud));
                serve(place, name, PaymentsServer::new(payments), ready).await
            }
            Self::Inventory => serve(place, name, InventoryServer::new(Inventory), ready).await,
            Self::Orders => {
                let orders = Orders::new(peer(Self::Inventory), peer(Self::Payments));
                serve(place, name, OrdersServer::new(orders), ready).await
            }
            Self::Catalogue => {
                data::prepare();
                serve(place, name, CatalogueServer::new(Catalogue), ready).await
            }
            Self::Pricing => serve(place, name, PricingServer::new(Pricing), ready).await,
            Self::Reviews => serve(place, name, ReviewsServer::new(Reviews), ready).await,
            Self::Storefront => {
                let storefront = Storefront::new(peer);
                serve(place, name, StorefrontServer::new(storefront), ready).await
            }
        }
    }
}

/// A request to the next service, under the trace of the request that led to it.
fn onward<T>(metadata: &MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(trace) = metadata.get(TRACE) {
        request.metadata_mut().insert(TRACE, trace.clone());
    }
    request
}
