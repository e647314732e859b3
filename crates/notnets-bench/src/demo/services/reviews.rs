//! Reviews of products.

use tonic::{Request, Response, Status};

use super::data;
use crate::demo::proto::{ReviewList, ReviewsRequest, reviews_server};

/// Serves `shop.Reviews`.
pub struct Reviews;

#[tonic::async_trait]
impl reviews_server::Reviews for Reviews {
    async fn latest(&self, request: Request<ReviewsRequest>) -> Result<Response<ReviewList>, Status> {
        Ok(Response::new(data::reviews(request.get_ref().product_id)))
    }
}
