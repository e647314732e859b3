//! The whole shop in one process, without a transport, for unit tests.

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};

use super::*;

/// A way to a service in this process, of one type for all.
pub type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// Wraps a service.
pub fn boxed<S>(service: S) -> Boxed
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(service.map_err(|error| Status::from_error(error.into())))
}

/// A way to a storefront whose services call each other directly.
pub fn storefront() -> Boxed {
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
