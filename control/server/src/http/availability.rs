//! The one word of each resource, from what control knows at the moment.

use std::collections::BTreeMap;

use rap_control_core::access::{Known, Outlook};
use rap_proto::{OrganizationId, api::Reachable};

use super::call::Call;

pub(super) fn outlook(call: &Call, organization: OrganizationId) -> Outlook<'_> {
    let known = Known {
        state: &call.state,
        live: Box::new(|node| call.app.live.live(node)),
        listening_since: call.app.listening_since(),
        now: call.now,
        frozen: call.app.frozen().is_some(),
    };
    Outlook::new(known, organization)
}

/// Fills in the words of one page.
pub(super) fn fill(call: &Call, items: &mut [Reachable]) {
    let mut outlooks = BTreeMap::new();
    for item in items {
        let organization = item.organization;
        let outlook = outlooks.entry(organization).or_insert_with(|| outlook(call, organization));
        let found = call.state.within(organization).resources().get(item.id);
        item.availability = found.map(|resource| outlook.of(resource));
    }
}
