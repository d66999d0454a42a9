//! The one word of each resource, from what control knows at the moment.

use std::collections::BTreeMap;

use rap_control_core::{
    State,
    access::{Known, Outlook},
};
use rap_proto::{OrganizationId, Timestamp, api::Reachable};

use super::call::Call;
use crate::app::App;

pub(super) fn outlook(call: &Call, organization: OrganizationId) -> Outlook<'_> {
    Outlook::new(known(&call.app, &call.state, call.now), organization)
}

/// What the words rest on at the moment.
pub(crate) fn known<'a>(app: &'a App, state: &'a State, now: Timestamp) -> Known<'a> {
    Known {
        state,
        live: Box::new(move |node| app.live.live(node)),
        listening_since: app.listening_since(),
        now,
        frozen: app.frozen().is_some(),
    }
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
