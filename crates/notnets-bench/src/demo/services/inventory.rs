//! Where things lie.

use tonic::{Request, Response, Status};

use super::data;
use crate::demo::proto::{Reservation, ReserveRequest, Stock, StockRequest, inventory_server};

/// Serves `shop.Inventory`.
pub struct Inventory;

#[tonic::async_trait]
impl inventory_server::Inventory for Inventory {
    async fn count(&self, request: Request<StockRequest>) -> Result<Response<Stock>, Status> {
        Ok(Response::new(data::stock(request.get_ref().product_id)))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<Reservation>, Status> {
        let ask = request.get_ref();
        Ok(Response::new(data::reservation(ask.order_id, &ask.product_ids)))
    }
}
