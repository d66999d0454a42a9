//! Answers to flows that go on which nobody takes: their time is over, and the flows are where they were.

use std::time::{Duration, Instant};

use quinn::Connection;
use rap_mesh::Identity;
use rap_mesh_core::carrier::Part;
use rap_proto::{
    Lane, NodeId,
    wire::{
        CLIENT_ALPN,
        client::{ChannelReply, OpenChannel},
        lane::FlowReply,
        lane_alpn,
        resume::{FlowId, Resume},
    },
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, SESSION, client_key, stream},
    raw::{LONG, dial_with, introduce, write},
    resume::{ask, introduced, join, request},
    targets::echo,
    tcp::Raw,
};

/// So long an answer may take to be taken.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// So many bytes of a stream may be on their way: fewer than an answer has.
const NARROW: u32 = 8;
const FLOW: FlowId = FlowId::from_random([7; 16]);

/// A connection to a node that nothing long comes through before it is read.
async fn narrow(
    fabric: &Fabric,
    identity: Option<Identity>,
    node: NodeId,
    alpn: &[u8],
) -> Connection {
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(LONG.try_into().unwrap()));
    transport.stream_receive_window(NARROW.into());
    dial_with(fabric, identity, node, alpn, transport).await
}

/// The flow still runs where it did, and hears only now what was held back since `asked`.
async fn check_stayed(first: &mut Raw, asked: Instant) {
    first.send(b"x").await;
    assert_eq!(first.hear().await, (b"x".to_vec(), Some(Part::Acknowledged(1))));
    assert!(asked.elapsed() >= ANSWER_LIMIT, "the answer could still be taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_gives_up_an_answer_that_is_not_taken_in_time() {
    let fabric = Fabric::start(&[], echo().await);
    let of = |generation, received| {
        let resume = Resume { flow: FLOW, generation, received };
        request(&fabric, &fabric.claims(), resume)
    };
    let (mut first, reply) = ask(&fabric, ENTRY, Lane::Bulk, &of(0, 0)).await;
    assert_eq!(reply, FlowReply::Attached { received: 0 });
    let entry = Some(fabric.renewed_identity(ENTRY));
    let lane = narrow(&fabric, entry, EGRESS, lane_alpn(Lane::Bulk)).await;
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    let asked = Instant::now();
    write(&mut send, &of(2, 0)).await;
    // The answer has begun.
    recv.read_exact(&mut [0]).await.unwrap();
    let (_late, reply) = ask(&fabric, ENTRY, Lane::Bulk, &of(1, 0)).await;
    assert_eq!(reply, FlowReply::Gone, "a newer one is asked for");
    check_stayed(&mut first, asked).await;
    let (_again, reply) = ask(&fabric, ENTRY, Lane::Bulk, &of(2, 1)).await;
    assert_eq!(reply, FlowReply::Gone, "a generation counts once");
    let (_second, reply) = ask(&fabric, ENTRY, Lane::Bulk, &of(3, 1)).await;
    assert_eq!(reply, FlowReply::Attached { received: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_gives_up_an_answer_that_is_not_taken_in_time() {
    let fabric = Fabric::start(&[], echo().await);
    let client = (SESSION, &client_key());
    let _session = introduced(&fabric, client.0, client.1).await;
    let (mut first, reply) = join(&fabric, client, Lane::Bulk, Resume::opening(FLOW)).await;
    assert_eq!(reply, ChannelReply::Attached { received: 0 });
    let connection = narrow(&fabric, None, ENTRY, CLIENT_ALPN).await;
    let _control = introduce(&fabric, &connection).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let asked = Instant::now();
    let resume = Some(Resume { flow: FLOW, generation: 1, received: 0 });
    write(&mut send, &OpenChannel { resume, ..stream(Lane::Bulk) }).await;
    recv.read_exact(&mut [0]).await.unwrap();
    check_stayed(&mut first, asked).await;
    let again = Resume { flow: FLOW, generation: 2, received: 1 };
    let (_second, reply) = join(&fabric, client, Lane::Bulk, again).await;
    assert_eq!(reply, ChannelReply::Attached { received: 1 });
}
