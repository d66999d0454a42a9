//! Values that tests share; all of them fixed, so that bytes made from them can be frozen.

use rap_proto::{
    AttachmentId, ChannelKind, ClusterId, Lane, MessageId, NodeId, OrganizationId, ResourceId,
    ResourceKind, SessionId, Signer, Timestamp, UserId,
    key::LocalKey,
    token::{AccessClaims, ChannelGrant},
};

pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);

pub(crate) fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

pub(crate) fn claims() -> AccessClaims {
    AccessClaims {
        id: MessageId::from_u128(1),
        cluster: ClusterId::from_u128(2),
        authority_epoch: 1,
        organization: OrganizationId::from_u128(3),
        user: UserId::from_u128(4),
        session: SessionId::from_u128(5),
        attachment: AttachmentId::from_u128(6),
        resource: ResourceId::from_u128(7),
        kind: ResourceKind::Ssh,
        entries: [NodeId::from_u128(8)].into(),
        egresses: [(NodeId::from_u128(9), 42)].into(),
        channels: [(
            ChannelKind::Stream,
            ChannelGrant { lanes: [Lane::Interactive].into(), max_open: 64 },
        )]
        .into(),
        not_before: NOW,
        connect_by: Timestamp::from_unix_millis(NOW.unix_millis() + 120_000),
        expires_at: Timestamp::from_unix_millis(NOW.unix_millis() + 600_000),
        client_key: key(7).public_key(),
        leased: None,
    }
}
