//! Histories: any events that decode fold into every aggregate without a panic, also those that
//! no rule would have let happen, and the same history folds to the same state.

use rap_events::{
    Aggregate, EventCodec, api_token::ApiToken, authority::Authority, catalogue::catalogue,
    cluster::Cluster, guessing::Guessing, join_token::JoinToken, leadership::Leadership,
    login::Login, membership::Membership, node::Node, node_report::NodeReport,
    organization::Organization, policy::Policy, pool::Pool, resource::Resource, session::Session,
    user::User, vpn_connection::VpnConnection,
};

/// The most events of one history.
const MAX_EVENTS: usize = 64;

/// The input is a list of events: the type's place in the catalogue, the payload's length (two
/// bytes, big-endian), the payload.
pub fn target(data: &[u8]) {
    let history = cut(data);
    fold::<Cluster>(&history);
    fold::<Organization>(&history);
    fold::<User>(&history);
    fold::<Membership>(&history);
    fold::<Login>(&history);
    fold::<ApiToken>(&history);
    fold::<JoinToken>(&history);
    fold::<Node>(&history);
    fold::<NodeReport>(&history);
    fold::<Pool>(&history);
    fold::<Resource>(&history);
    fold::<Policy>(&history);
    fold::<Session>(&history);
    fold::<VpnConnection>(&history);
    fold::<Leadership>(&history);
    fold::<Guessing>(&history);
    fold::<Authority>(&history);
}

struct Stored<'a> {
    event_type: &'static str,
    schema: u16,
    payload: &'a [u8],
}

fn cut(mut data: &[u8]) -> Vec<Stored<'_>> {
    let kinds = catalogue();
    let mut history = Vec::new();
    while let Some(([place, high, low], rest)) = data.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        data = rest;
        let kind = kinds[usize::from(*place) % kinds.len()];
        history.push(Stored { event_type: kind.event_type, schema: kind.schema, payload });
        if history.len() == MAX_EVENTS {
            break;
        }
    }
    history
}

fn fold<A: Aggregate>(history: &[Stored<'_>]) {
    let (mut state, mut again) = (A::default(), A::default());
    for stored in history {
        let Ok(event) = A::Event::decode(stored.event_type, stored.schema, stored.payload) else {
            continue;
        };
        state.evolve(&event);
        let own = event.encode();
        let kind = event.kind();
        if let Ok(event) = A::Event::decode(kind.event_type, kind.schema, &own) {
            again.evolve(&event);
        } else {
            again = state.clone();
        }
        let _ = state.organization();
    }
    assert_eq!(state, again);
}
