//! Names in pods, without the feature `pod`.

use notnets_core::link::Established;
use notnets_core::name::Name;

use super::endpoint::Endpoint;
use crate::Error;
use crate::error::Cause;

impl Endpoint {
    pub(super) async fn connect_in_pod(&self, _pod: &Name, _name: &Name) -> Result<Established, Error> {
        Err(Cause::WithoutPods.into())
    }
}
