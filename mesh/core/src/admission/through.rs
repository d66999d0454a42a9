//! Through flows: an entry's word for a client that an egress hears from the client itself.

use rap_proto::{
    ChannelKind, Lane, NodeRole, OrganizationId, RefusalCode, Timestamp,
    signed::{OpenError, Trusted, Unverified},
    snapshot::Resource,
    token::{AccessClaims, CLOCK_SKEW_MS},
    wire::{
        resume::FlowId,
        through::{VOUCHER_TTL_MS, Voucher},
    },
};

use super::{Caller, Presented, admit_from, check_holder, trusted_peer};
use crate::{View, view::peer_has_role};

/// What a voucher says that was found in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouched {
    /// The entry, as its own connection would say it.
    pub caller: Caller,
    pub lane: Lane,
}

/// Checks an entry's voucher for this flow of a token's session, at its egress. Whether the entry may
/// vouch for anybody is a matter of [`admit_through`].
pub fn check_voucher(
    view: &View,
    voucher: &[u8],
    claims: &AccessClaims,
    (channel, flow): (ChannelKind, FlowId),
    now: Timestamp,
) -> Result<Vouched, RefusalCode> {
    let malformed = |_: OpenError| RefusalCode::Malformed;
    let unverified = Unverified::<Voucher>::parse(voucher).map_err(malformed)?;
    // The key that it names itself: what that is worth, the snapshot says.
    let key = unverified.peek().map_err(malformed)?.entry_key;
    let verified = unverified.verify(&Trusted::one(key));
    let voucher = verified.map_err(|_| RefusalCode::PeerNotTrusted)?.into_inner();
    if voucher.cluster != view.cluster {
        return Err(RefusalCode::TokenWrongCluster);
    }
    if voucher.egress != view.node {
        return Err(RefusalCode::TokenWrongAudience);
    }
    let same =
        voucher.session == claims.session && voucher.channel == channel && voucher.flow == flow;
    if !same {
        return Err(RefusalCode::AccessDenied);
    }
    let skew = CLOCK_SKEW_MS.cast_signed();
    let left = voucher.until.unix_millis().saturating_sub(now.unix_millis());
    if left > VOUCHER_TTL_MS.cast_signed() + skew {
        return Err(RefusalCode::Malformed);
    }
    if left < -skew {
        return Err(RefusalCode::TokenExpired);
    }
    let caller =
        Caller { cluster: voucher.cluster, node: voucher.entry, key: voucher.entry_key.id() };
    Ok(Vouched { caller, lane: voucher.lane })
}

/// An egress' check of a new flow on a client's own connection, whose exported value this is; returns
/// the resource to dial.
pub fn admit_through<'v>(
    view: &'v View,
    caller: &Caller,
    presented: Presented<'_>,
    exported: &[u8; 32],
    (channel, lane): (ChannelKind, Lane),
    now: Timestamp,
) -> Result<&'v Resource, RefusalCode> {
    check_holder(view, presented, exported)?;
    admit_from(view, caller, presented.claims, (channel, lane), now)
}

/// Whether flows of the organization may come through this entry.
pub fn may_lead_through(view: &View, caller: &Caller, organization: OrganizationId) -> bool {
    trusted_peer(view, caller)
        .is_ok_and(|peer| peer_has_role(peer, NodeRole::EntryNode, organization))
}
