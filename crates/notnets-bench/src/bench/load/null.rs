//! Calls that are answered where they are made: what is left is the generator.

use super::Caller;
use crate::Result;

/// Makes no call.
pub struct Null;

impl Caller for Null {
    async fn call(&mut self) -> Result {
        Ok(())
    }
}
