//! Takes orders, and fills carts line by line.

use tonic::{Request, Response, Status, Streaming};

use super::{data, onward};
use crate::demo::proto::inventory_client::InventoryClient;
use crate::demo::proto::payments_client::PaymentsClient;
use crate::demo::proto::{
    CartLine, CartSummary, ChargeRequest, Order, Receipt, ReserveRequest, orders_server,
};
use crate::demo::transport::Channel;

/// Serves `shop.Orders`.
pub struct Orders<C> {
    inventory: InventoryClient<C>,
    payments: PaymentsClient<C>,
}

impl<C: Channel> Orders<C> {
    /// Orders that ask `inventory` and `payments`.
    pub fn new(inventory: C, payments: C) -> Self {
        Self { inventory: InventoryClient::new(inventory), payments: PaymentsClient::new(payments) }
    }
}

#[tonic::async_trait]
impl<C: Channel> orders_server::Orders for Orders<C> {
    /// Reserves, then charges, so that a customer does not pay for what is not in stock.
    async fn place(&self, request: Request<Order>) -> Result<Response<Receipt>, Status> {
        let order = request.get_ref();
        let order_id = order.order_id;
        let customer_id = order.customer_id;
        let cents = data::total(order);
        let product_ids = order.lines.iter().map(|line| line.product_id).collect();

        let ask = onward(request.metadata(), ReserveRequest { order_id, product_ids });
        let reservation = self.inventory.clone().reserve(ask).await?.into_inner();

        let ask = onward(request.metadata(), ChargeRequest { order_id, customer_id, cents });
        let payment = self.payments.clone().charge(ask).await?.into_inner();

        Ok(Response::new(Receipt { order_id, cents, reservation: Some(reservation), payment: Some(payment) }))
    }

    async fn fill_cart(
        &self,
        request: Request<Streaming<CartLine>>,
    ) -> Result<Response<CartSummary>, Status> {
        let mut lines = request.into_inner();
        let mut cart = CartSummary::default();
        while let Some(line) = lines.message().await? {
            data::add_to_cart(&mut cart, &line);
        }
        Ok(Response::new(cart))
    }
}
