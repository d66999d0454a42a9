//! Access claims: the checks of time hold together for any claims.

use rap_proto::{
    ChannelKind, Lane, Timestamp,
    signed::Payload as _,
    token::{AccessClaims, CLOCK_SKEW_MS, GRANT_TTL_MS, Proof},
};

use crate::round_trip::{check, choose, decoded};

pub fn target(data: &[u8]) {
    choose(&[claims, check::<Proof, 1024>], data);
}

fn claims(bytes: &[u8]) {
    let Some(claims) = decoded::<AccessClaims>(bytes, AccessClaims::MAX_BYTES) else { return };
    let edges = [claims.not_before, claims.connect_by, claims.expires_at];
    let near = edges.iter().flat_map(|edge| {
        [-5_001, -1, 0, 1, 5_001].map(|by| Timestamp::from_unix_millis(edge.unix_millis() + by))
    });
    for now in near {
        let open = claims.check_open(now);
        if claims.check_connect(now).is_ok() {
            assert!(open.is_ok(), "who may connect may open channels");
        }
        if open.is_ok() {
            let lifetime = claims.expires_at.since(claims.not_before).as_millis();
            assert!(lifetime <= u128::from(GRANT_TTL_MS + 2 * CLOCK_SKEW_MS));
            let skew = CLOCK_SKEW_MS.cast_signed();
            assert!(now.unix_millis() <= claims.expires_at.unix_millis() + skew);
            assert!(now.unix_millis() >= claims.not_before.unix_millis() - skew);
        }
    }
    for lane in Lane::ALL {
        let permitted = claims.check_channel(ChannelKind::Stream, *lane).is_ok();
        let granted = claims
            .channels
            .get(&ChannelKind::Stream)
            .is_some_and(|grant| grant.lanes.contains(lane));
        assert_eq!(permitted, granted);
    }
}
