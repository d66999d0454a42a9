//! Frozen bytes of what nodes and clients say on lanes, hops and channels.

use rap_proto::{
    Lane, NodeId, OrganizationId, Signer as _,
    observation::EndReason,
    refusal::{Refusal, RefusalCode},
    token::Proof,
    wire::{
        client, hop, lane,
        resume::{FlowId, Resume},
        through,
    },
};

use crate::{
    fixtures::key,
    golden::{check, check_bytes},
};

#[test]
fn frames() {
    let proof = Proof::make(b"token", [1; 32], &key(7));
    let hello = client::Hello { token: b"token".to_vec(), proof: proof.clone() };
    check("client_hello.v1", &hello);
    let session = rap_proto::SessionId::from_u128(3);
    check("client_join.v1", &client::JoinSession { session, proof: proof.clone() });
    check("client_refresh.v1", &client::ClientControl::Refresh(hello));
    check("entry_ended.v1", &client::EntryControl::Ended { reason: EndReason::Terminated });
    check(
        "open_channel.v1",
        &client::OpenChannel {
            channel: rap_proto::ChannelKind::Stream,
            lane: Lane::Bulk,
            traceparent: None,
            resume: None,
        },
    );
    let flow = FlowId::from_random([5; 16]);
    let resume = Some(Resume { flow, generation: 2, received: 70_000 });
    check(
        "open_channel.v2",
        &client::OpenChannel {
            channel: rap_proto::ChannelKind::Stream,
            lane: Lane::Bulk,
            traceparent: None,
            resume,
        },
    );
    check("channel_attached.v1", &client::ChannelReply::Attached { received: 9 });
    check("channel_gone.v1", &client::ChannelReply::Gone);
    let refusal = Refusal::new(RefusalCode::AccessDenied, "no policy allows this");
    check("channel_refused.v1", &client::ChannelReply::Refused(refusal));
    check(
        "open_flow.v1",
        &lane::OpenFlow {
            token: b"token".to_vec(),
            proof: proof.clone(),
            channel: rap_proto::ChannelKind::Stream,
            traceparent: None,
            resume: None,
        },
    );
    check(
        "open_flow.v2",
        &lane::OpenFlow {
            token: b"token".to_vec(),
            proof,
            channel: rap_proto::ChannelKind::Stream,
            traceparent: None,
            resume,
        },
    );
    check("flow_opened.v1", &lane::FlowReply::Opened);
    check("flow_attached.v1", &lane::FlowReply::Attached { received: 9 });
    check("flow_gone.v1", &lane::FlowReply::Gone);
    let target = NodeId::from_u128(9);
    // As askers said it that could not knock, and as it is now.
    for (name, hop_port) in [("hop_set_up_flow.v1", None), ("hop_set_up_flow.v2", Some(4434))] {
        let (lane, from_port) = (Lane::Interactive, 4433);
        check(name, &hop::Request::SetUpFlow { target, lane, from_port, hop_port });
    }
    check("hop_flow_ready.v1", &hop::Reply::FlowReady { flow: 1, port: 40_000 });
    check("hop_set_up_stream.v1", &hop::Request::SetUpStream { target, lane: Lane::Bulk });
    check("hop_stream_ready.v1", &hop::Reply::StreamReady { ticket: [9; 32] });
}

#[test]
fn frames_of_through_flows() {
    let (channel, lane) = (rap_proto::ChannelKind::Stream, Lane::Bulk);
    let flow = FlowId::from_random([5; 16]);
    let (egress, session) = (NodeId::from_u128(9), rap_proto::SessionId::from_u128(3));
    let wanted = through::Wanted { channel, lane, flow, egress: None };
    check("through_ask.v1", &through::Ask::Through(wanted.clone()));
    let further = through::Wanted { egress: Some(egress), ..wanted };
    check("through_ask_further.v1", &through::Ask::Through(further));
    let way = through::Way { egress, ticket: [9; 32], voucher: b"voucher".to_vec() };
    check("through_way.v1", &through::Answer::Way(way));
    check("through_plain.v1", &through::Answer::Plain);
    check("through_leave.v1", &through::Word::Leave);
    let voucher = through::Voucher {
        cluster: rap_proto::ClusterId::from_u128(1),
        entry: NodeId::from_u128(8),
        entry_key: key(7).public_key(),
        egress,
        session,
        flow,
        channel,
        lane,
        until: rap_proto::Timestamp::from_unix_millis(1_000),
    };
    check("through_voucher.v1", &voucher);
    let proof = Proof::make(b"token", [1; 32], &key(7));
    let flow = lane::OpenFlow {
        token: b"token".to_vec(),
        proof,
        channel,
        traceparent: None,
        resume: Some(Resume::opening(flow)),
    };
    check("through_open.v1", &through::OpenThrough { voucher: b"voucher".to_vec(), flow });
    let expires_at = rap_proto::Timestamp::from_unix_millis(1_000);
    for (name, lanes) in [("hello_accepted.v2", false), ("hello_accepted.v3", true)] {
        check(name, &client::HelloReply::Accepted { expires_at, through: true, lanes });
    }
}

#[test]
fn a_channel_and_a_way_that_a_client_asks_for_are_not_taken_for_each_other() {
    let wanted = through::Wanted {
        channel: rap_proto::ChannelKind::Stream,
        lane: Lane::Bulk,
        flow: FlowId::from_random([5; 16]),
        egress: None,
    };
    let ask = rap_proto::wire::frame(&through::Ask::Through(wanted));
    assert!(rap_proto::wire::unframe::<client::OpenChannel>(&ask[4..]).is_err());
    let channel = client::OpenChannel {
        channel: rap_proto::ChannelKind::Stream,
        lane: Lane::Bulk,
        traceparent: None,
        resume: None,
    };
    let channel = rap_proto::wire::frame(&channel);
    assert!(rap_proto::wire::unframe::<through::Ask>(&channel[4..]).is_err());
}

#[test]
fn frames_of_paths_over_several_relays() {
    let (target, organization) = (NodeId::from_u128(9), OrganizationId::from_u128(4));
    let relays = [7, 8].map(NodeId::from_u128).to_vec();
    let onward = hop::Onward { relays, target, lane: Lane::Interactive, organization };
    for (version, hop_port) in [(1, None), (2, Some(4434))] {
        let onward = onward.clone();
        let request = hop::Request::SetUpFlowOnward { onward, from_port: 4433, hop_port };
        check(&format!("hop_set_up_flow_onward.v{version}"), &request);
    }
    let onward = hop::Onward { relays: Vec::new(), target, lane: Lane::Bulk, organization };
    check("hop_set_up_stream_onward.v1", &hop::Request::SetUpStreamOnward { onward });
    let sentence = "the node was not assigned the role that this needs";
    let refusal = Refusal::new(RefusalCode::RoleNotAssigned, sentence);
    check("hop_refused_onward.v1", &hop::Reply::RefusedOnward { hop: 2, refusal });
}

#[test]
fn frames_of_nodes_that_keep_themselves_reachable() {
    check("hop_keep_reachable.v1", &hop::Request::KeepReachable {});
    check("call_knock.v1", &hop::Call::Knock { port: 40_000, secret: [9; 16] });
    check("call_heard.v1", &hop::Call::Heard { port: 40_000 });
    check("call_connect_back.v1", &hop::Call::ConnectBack { ticket: [9; 32] });
    check_bytes("knock.v1", &hop::knock(&[9; 16]));
}

#[test]
fn frames_of_nodes_that_ask_each_other_whether_they_are_there() {
    check("hop_heartbeat.v1", &hop::Request::Heartbeat {});
    check("hop_here.v1", &hop::Reply::Here { load: 250, bandwidth_kbps: 1_000_000 });
}

#[test]
fn frames_of_lanes_that_look_for_a_direct_path() {
    check("hop_see_me.v1", &hop::Request::SeeMe {});
    check("hop_knock_here.v1", &hop::Reply::KnockHere { port: 40_000, secret: [9; 16] });
    let addresses: Vec<std::net::SocketAddr> =
        vec!["203.0.113.9:4433".parse().unwrap(), "[2001:db8::9]:4433".parse().unwrap()];
    check("hop_seen_at.v1", &hop::Reply::SeenAt { address: addresses[0] });
    let seen = lane::Seen { addresses, mapping: lane::Mapping::Steady };
    check("lane_meet.v1", &lane::Request::Meet { round: 1, seen });
    let unseen = lane::Seen { addresses: Vec::new(), mapping: lane::Mapping::Unknown };
    check("lane_met.v1", &lane::RequestReply::Met(unseen));
    check_bytes("knock_context.v1", &lane::knock_context(lane::Knocker::Egress, 1));
}

#[test]
fn a_flow_and_a_request_of_a_lane_are_not_taken_for_each_other() {
    let seen = lane::Seen { addresses: Vec::new(), mapping: lane::Mapping::Symmetric };
    let request = rap_proto::wire::frame(&lane::Request::Meet { round: 1, seen });
    assert!(rap_proto::wire::unframe::<lane::OpenFlow>(&request[4..]).is_err());
    assert!(rap_proto::wire::unframe::<lane::Request>(&request[4..]).is_ok());
    assert_ne!(
        lane::knock_context(lane::Knocker::Entry, 1),
        lane::knock_context(lane::Knocker::Egress, 1)
    );
}

#[test]
fn a_knock_is_no_quic_and_too_short_for_an_answer() {
    let knock = hop::knock(&[0xff; 16]);
    // RFC 9000, section 17: the header form and the fixed bit.
    assert_eq!(knock[0] & 0b1100_0000, 0);
    // RFC 9443, section 3: dropped by whoever shares the port.
    assert!((4..16).contains(&knock[0]));
    // RFC 9000, section 10.3: no reset answers less than 22 bytes here (5 and a token of 16).
    assert!(knock.len() <= 21);
}
