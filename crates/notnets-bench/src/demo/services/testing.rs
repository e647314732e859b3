//! The whole shop in one process, without a transport, for unit tests.

use super::*;
use crate::demo::transport::boxed;

/// A way to a storefront whose services call each other directly.
pub fn storefront() -> Channel {
    let fraud = boxed(FraudServer::new(Fraud));
    let payments = boxed(PaymentsServer::new(Payments::new(fraud)));
    let inventory = boxed(InventoryServer::new(Inventory));
    let orders = boxed(OrdersServer::new(Orders::new(inventory.clone(), payments)));
    let catalogue = boxed(CatalogueServer::new(Catalogue));
    let pricing = boxed(PricingServer::new(Pricing));
    let reviews = boxed(ReviewsServer::new(Reviews));
    boxed(StorefrontServer::new(Storefront::new(|name| match name {
        Name::Catalogue => catalogue.clone(),
        Name::Pricing => pricing.clone(),
        Name::Inventory => inventory.clone(),
        Name::Reviews => reviews.clone(),
        Name::Orders => orders.clone(),
        other => unreachable!("the storefront does not ask {other:?}"),
    })))
}
