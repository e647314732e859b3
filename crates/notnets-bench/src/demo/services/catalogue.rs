//! The products, with pictures.

use tonic::{Request, Response, Status};

use super::data;
use crate::demo::proto::{
    ExportReply, ExportRequest, PictureReply, PictureRequest, Product, ProductRequest, catalogue_server,
};

/// Serves `shop.Catalogue`.
pub struct Catalogue;

#[tonic::async_trait]
impl catalogue_server::Catalogue for Catalogue {
    async fn describe(&self, request: Request<ProductRequest>) -> Result<Response<Product>, Status> {
        Ok(Response::new(data::product(request.get_ref().product_id)))
    }

    async fn picture(&self, request: Request<PictureRequest>) -> Result<Response<PictureReply>, Status> {
        let product_id = request.get_ref().product_id;
        let pixels = data::picture(product_id);
        Ok(Response::new(PictureReply { product_id, media_type: "image/x-rgb".into(), pixels }))
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<ExportReply>, Status> {
        let quarter = request.get_ref().quarter;
        Ok(Response::new(ExportReply { quarter, table: data::table(quarter) }))
    }
}
