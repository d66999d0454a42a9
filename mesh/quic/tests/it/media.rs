//! The lane `media`: on both carriers, through a relay, only where the token names it, and shaped.

use std::time::Duration;

use rap_mesh::{
    Carrier, ClassName, Path,
    client::{Channel, ClientSession, OpenError},
};
use rap_proto::{
    ChannelKind, Lane, RefusalCode,
    bandwidth::{Allowance, Bandwidth, BandwidthRule, OrganizationBandwidth, Traffic},
    token::{AccessClaims, STREAM_LANES},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, RELAY, stream},
    targets::echo,
    tcp::held,
    traffic::{exchange, pattern},
};

#[tokio::test(flavor = "multi_thread")]
async fn media_passes_direct_and_through_a_relay_on_both_carriers() {
    for (carrier, relayed) in
        [Carrier::Quic, Carrier::Tcp].into_iter().flat_map(|it| [(it, false), (it, true)])
    {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        if relayed {
            fabric.cut_direct_path();
        }
        let session = fabric.session_on(carrier).await;
        let _held = held(&session, Lane::Media).await;
        let relay = fabric.nodes[&RELAY].endpoint.status();
        assert_eq!(relay.relayed_flows, usize::from(relayed), "{carrier}");
        let status = fabric.nodes[&ENTRY].endpoint.status();
        let way = if relayed {
            Path::Relayed { relay: RELAY }
        } else {
            Path::Direct { address: fabric.address(EGRESS) }
        };
        let lanes: Vec<_> = status.lanes.iter().map(|lane| (lane.lane, lane.path)).collect();
        match carrier {
            Carrier::Quic => assert_eq!(lanes, [(Lane::Media, way)]),
            Carrier::Tcp => assert_eq!((lanes.len(), status.tcp_flows), (0, 1)),
        }
        let sent = pattern(2_000_000);
        assert!(exchange(&session, Lane::Media, sent.clone()).await == sent, "{carrier}");
    }
}

/// Claims for a stream on these lanes, the newer the later they expire.
fn claims(fabric: &Fabric, lanes: &[Lane], newer: u64) -> AccessClaims {
    let mut claims = fabric.claims();
    let grant = claims.channels.get_mut(&ChannelKind::Stream).unwrap();
    grant.lanes = lanes.iter().copied().collect();
    claims.expires_at = claims.not_before + Duration::from_secs(500 + newer);
    claims
}

async fn media_refused(session: &ClientSession) -> RefusalCode {
    match timeout(PATIENCE, session.open(stream(Lane::Media))).await.unwrap() {
        Err(OpenError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_media_from_the_token_on_that_names_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.connect(&claims(&fabric, &STREAM_LANES, 0)).await.unwrap();
    assert_eq!(media_refused(&session).await, RefusalCode::ChannelNotPermitted);
    fabric.expect_refusal(ENTRY, RefusalCode::ChannelNotPermitted, true).await;
    assert_eq!(exchange(&session, Lane::Bulk, b"as before".to_vec()).await, b"as before");

    session.refresh(fabric.token(&claims(&fabric, Lane::ALL, 1))).await.unwrap();
    let mut channel = held(&session, Lane::Media).await;
    // What is open goes on under a token that names the lane no more, and nothing new begins.
    session.refresh(fabric.token(&claims(&fabric, &STREAM_LANES, 2))).await.unwrap();
    assert_eq!(media_refused(&session).await, RefusalCode::ChannelNotPermitted);
    say(&mut channel, b"still").await;
}

async fn say(channel: &mut Channel, bytes: &[u8]) {
    channel.write_all(bytes).await.unwrap();
    channel.flush().await.unwrap();
    let mut back = vec![0; bytes.len()];
    timeout(PATIENCE, channel.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_for_media_shapes_media_and_the_status_shows_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let traffic = Traffic { lane: Some(Lane::Media), ..Traffic::default() };
    let allowance = Allowance { cap: Some("8mbit".parse().unwrap()), reserved: None };
    let said = OrganizationBandwidth {
        rules: vec![BandwidthRule { traffic, allowance }],
        ..OrganizationBandwidth::default()
    };
    fabric.plan.bandwidth =
        Bandwidth { organizations: [(ORGANIZATION, said)].into(), ..Bandwidth::default() };
    fabric.publish();
    let session = fabric.session().await;
    let _bulk = held(&session, Lane::Bulk).await;
    let _media = held(&session, Lane::Media).await;
    let classes = fabric.nodes[&ENTRY].endpoint.status().classes;
    let [class] = classes.as_slice() else { panic!("one class: {classes:?}") };
    assert_eq!(class.name, ClassName::Rule { organization: ORGANIZATION, traffic, one: None });
    assert_eq!((class.allowance, class.flows), (allowance, 1));
}
