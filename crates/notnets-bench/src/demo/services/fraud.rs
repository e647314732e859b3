//! The fraud check: the end of the longest chain.

use tonic::{Request, Response, Status};

use super::{TRACE, data};
use crate::demo::proto::{JudgeRequest, Verdict, fraud_server};

/// Serves `shop.Fraud`.
pub struct Fraud;

#[tonic::async_trait]
impl fraud_server::Fraud for Fraud {
    async fn judge(&self, request: Request<JudgeRequest>) -> Result<Response<Verdict>, Status> {
        let trace = request.metadata().get(TRACE).and_then(|trace| trace.to_str().ok()).unwrap_or_default();
        let ask = request.get_ref();
        Ok(Response::new(data::verdict(ask.customer_id, ask.cents, trace)))
    }
}
