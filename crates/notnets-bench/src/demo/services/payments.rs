//! Takes the money, if fraud has nothing against it.

use tonic::{Request, Response, Status};

use super::{data, onward};
use crate::demo::proto::fraud_client::FraudClient;
use crate::demo::proto::{ChargeRequest, JudgeRequest, Payment, payments_server};
use crate::demo::transport::Channel;

/// Serves `shop.Payments`.
pub struct Payments<C> {
    fraud: FraudClient<C>,
}

impl<C: Channel> Payments<C> {
    /// Payments that ask `fraud`.
    pub fn new(fraud: C) -> Self {
        Self { fraud: FraudClient::new(fraud) }
    }
}

#[tonic::async_trait]
impl<C: Channel> payments_server::Payments for Payments<C> {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<Payment>, Status> {
        let &ChargeRequest { order_id, customer_id, cents } = request.get_ref();
        let ask = onward(request.metadata(), JudgeRequest { customer_id, cents });
        let verdict = self.fraud.clone().judge(ask).await?.into_inner();
        let reference = data::payment_reference(order_id, cents);
        Ok(Response::new(Payment { order_id, reference, verdict: Some(verdict) }))
    }
}
