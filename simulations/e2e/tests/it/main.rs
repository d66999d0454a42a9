//! The fabric's real programs on a network of their own, against Debian's servers and clients.
#![allow(clippy::unwrap_used)]

mod network;

use std::sync::Arc;

use rap_e2e::Lab;

/// The network, or `None` and a line that says which test was left out and why.
fn lab(test: &str) -> Option<Arc<Lab>> {
    match Lab::build() {
        Ok(lab) => Some(Arc::new(lab)),
        Err(reason) => {
            println!("SKIPPED {test}: no network namespaces here: {reason}");
            None
        }
    }
}
