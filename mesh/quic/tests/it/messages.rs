//! Channels of messages, from a client over its entry to whoever serves them at the egress.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, pending},
};
use rap_mesh::{
    Carrier, Cut, DialRequest, FlowEnd, MessageChannel, MessageService, SendError,
    channel::{Counters, Delivery, Key, Message, Policy},
    client::{ClientSession, OpenError},
};
use rap_proto::{
    ChannelKind, NodeRole, RefusalCode,
    observation::EndReason,
    refusal::Refusal,
    token::{AccessClaims, ChannelGrant},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::{
    carry::{until, until_so},
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, client_key, platform},
    resume::over_brittle_connections,
    targets::echo,
};

/// Takes every channel on, and hands it to the test.
struct Taken(mpsc::UnboundedSender<(DialRequest, MessageChannel)>);

impl MessageService for Taken {
    fn accept(
        &self,
        request: DialRequest,
        channel: MessageChannel,
    ) -> BoxFuture<'_, Result<BoxFuture<'static, ()>, Refusal>> {
        self.0.send((request, channel)).unwrap();
        async { Ok(pending().boxed()) }.boxed()
    }
}

/// A session for every kind of channel, and who serves them.
struct World {
    fabric: Fabric,
    session: ClientSession,
    served: Mutex<mpsc::UnboundedReceiver<(DialRequest, MessageChannel)>>,
}

fn kinds() -> impl Iterator<Item = (ChannelKind, Policy)> {
    let policy = |kind: &ChannelKind| Some((*kind, *Policy::of(*kind)?));
    ChannelKind::ALL.iter().filter_map(policy)
}

/// Claims for each kind on its lane.
fn claims(fabric: &Fabric) -> AccessClaims {
    let mut claims = fabric.claims();
    let grant = |policy: Policy| ChannelGrant { lanes: [policy.lane].into(), max_open: 4 };
    claims.channels = kinds().map(|(kind, policy)| (kind, grant(policy))).collect();
    claims
}

impl World {
    async fn start() -> Self {
        Self::on(Fabric::start(&[], echo().await), None).await
    }

    async fn on(fabric: Fabric, carrier: Option<Carrier>) -> Self {
        let claims = claims(&fabric);
        Self::with(fabric, carrier, &claims).await
    }

    async fn with(fabric: Fabric, carrier: Option<Carrier>, claims: &AccessClaims) -> Self {
        let (taken, served) = mpsc::unbounded_channel();
        assert!(fabric.dialer.messages.set(Box::new(Taken(taken))).is_ok());
        let token = fabric.token(claims);
        let session = fabric.connect_on(carrier, token, client_key()).await.unwrap();
        Self { fabric, session, served: Mutex::new(served) }
    }

    /// A channel's two ends: the client's, and the one at the egress.
    async fn open(&self, kind: ChannelKind) -> (MessageChannel, MessageChannel) {
        let opened = timeout(PATIENCE, self.session.open_messages(kind, None)).await.unwrap();
        let (request, channel) = self.served.lock().await.recv().await.unwrap();
        assert_eq!(request.channel, kind);
        (opened.unwrap(), channel)
    }
}

fn numbered(key: Option<u64>, number: u64, length: usize) -> Message {
    let mut bytes = vec![0; length.max(8)];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Message { key: key.map(Key), bytes: Bytes::from(bytes) }
}

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(*message.bytes.first_chunk().unwrap())
}

async fn send(channel: &MessageChannel, message: Message) {
    timeout(PATIENCE, channel.send(message)).await.expect("there is room").unwrap();
}

/// Sends a message that finds its place at once.
fn send_now(channel: &MessageChannel, message: Message) {
    channel.send(message).now_or_never().expect("nothing waits").unwrap();
}

async fn receive(channel: &MessageChannel) -> Option<Message> {
    timeout(PATIENCE, channel.receive()).await.expect("something comes").unwrap()
}

async fn finish(channel: &MessageChannel) {
    timeout(PATIENCE, channel.finish()).await.expect("it is written").unwrap();
}

/// Sends a message until it comes: a droppable one may be stale on a busy machine.
async fn pass(from: &MessageChannel, to: &MessageChannel, policy: &Policy, message: Message) {
    send(from, message.clone()).await;
    let again = policy.delivery == Delivery::Droppable;
    let came = loop {
        let limit = if again { Duration::from_millis(50) } else { PATIENCE };
        match timeout(limit, to.receive()).await {
            Ok(came) => break came.unwrap(),
            Err(_) if again => send(from, message.clone()).await,
            Err(_) => panic!("nothing comes"),
        }
    };
    assert_eq!(came, Some(message));
}

/// Reads what is left: the same messages again, if any.
async fn ends(channel: &MessageChannel, policy: &Policy) {
    while let Some(message) = receive(channel).await {
        assert_eq!(policy.delivery, Delivery::Droppable, "{message:?}");
    }
}

/// One message each way, and the end of both.
async fn exchange(world: &World, kind: ChannelKind, length: usize) {
    let policy = Policy::of(kind).unwrap();
    let (client, service) = world.open(kind).await;
    pass(&client, &service, policy, numbered(Some(1), 7, length)).await;
    finish(&client).await;
    ends(&service, policy).await;
    assert_eq!(client.send(numbered(None, 8, 8)).await, Err(SendError::Finished), "{kind}");
    // The other direction goes on.
    pass(&service, &client, policy, numbered(None, 9, length)).await;
    finish(&service).await;
    ends(&client, policy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_passes_both_ways_direct_and_through_a_relay_on_both_carriers() {
    for (carrier, relayed) in
        [Carrier::Quic, Carrier::Tcp].into_iter().flat_map(|it| [(it, false), (it, true)])
    {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        if relayed {
            fabric.cut_direct_path();
        }
        let world = World::on(fabric, Some(carrier)).await;
        for (kind, policy) in kinds() {
            exchange(&world, kind, 40).await;
            exchange(&world, kind, policy.max_message).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_entry_and_egress_serves_them_itself() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.plan.roles.get_mut(&ENTRY).unwrap().push(platform(NodeRole::StreamWorker));
    fabric.plan.resources_at.insert(ENTRY);
    fabric.publish();
    let mut claims = claims(&fabric);
    claims.egresses = [(ENTRY, fabric.plan.version)].into();
    let world = World::with(fabric, None, &claims).await;
    exchange(&world, ChannelKind::Control, 40).await;
    assert!(world.fabric.nodes[&ENTRY].endpoint.status().lanes.is_empty());
}

async fn refused(session: &ClientSession, kind: ChannelKind) -> RefusalCode {
    match timeout(PATIENCE, session.open_messages(kind, None)).await.unwrap() {
        Err(OpenError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_no_messages_or_whose_token_permits_none_gets_none() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.connect(&claims(&fabric)).await.unwrap();
    assert_eq!(refused(&session, ChannelKind::Render).await, RefusalCode::ChannelNotServed);
    fabric.expect_refusal(EGRESS, RefusalCode::ChannelNotServed, true).await;
    assert_eq!(refused(&session, ChannelKind::Stream).await, RefusalCode::Malformed);
    assert!(fabric.dialer.requests.lock().unwrap().is_empty(), "no target is dialled for them");

    let mut less = claims(&fabric);
    less.channels.remove(&ChannelKind::Input);
    let world = World::with(fabric, None, &less).await;
    exchange(&world, ChannelKind::Control, 8).await;
    let code = refused(&world.session, ChannelKind::Input).await;
    assert_eq!(code, RefusalCode::ChannelNotPermitted);
}

/// Fills a channel of large messages whose other end reads nothing. Returns how many were sent.
async fn fill(client: &MessageChannel, service: &MessageChannel, policy: &Policy) -> u64 {
    let bound = (policy.bound.bytes / policy.max_message) as u64;
    for sent in 0..2 * bound {
        send(client, numbered(None, sent, policy.max_message)).await;
    }
    until("what may be ahead has come", || service.arrived().came == bound).await;
    let more = client.send(numbered(None, 2 * bound, policy.max_message));
    assert!(more.now_or_never().is_none(), "the next one waits");
    assert_eq!(client.counters().taken_in, 2 * bound);
    2 * bound
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_stops_a_reliable_sender_and_loses_nothing() {
    let world = World::start().await;
    for (kind, policy) in kinds().filter(|(_, it)| it.delivery == Delivery::Reliable) {
        let (client, service) = world.open(kind).await;
        let filled = fill(&client, &service, &policy).await;
        let rest = tokio::spawn(async move {
            for more in filled..2 * filled {
                send(&client, numbered(None, more, policy.max_message)).await;
            }
            finish(&client).await;
        });
        for expected in 0..2 * filled {
            assert_eq!(receive(&service).await.as_ref().map(number), Some(expected), "{kind}");
        }
        assert_eq!(receive(&service).await, None, "{kind}");
        rest.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_passes_while_a_file_transfer_stands_still() {
    let world = World::start().await;
    let (files, still) = world.open(ChannelKind::FileTransfer).await;
    fill(&files, &still, Policy::of(ChannelKind::FileTransfer).unwrap()).await;
    // Another of the same kind stands on its own as well.
    exchange(&world, ChannelKind::FileTransfer, 1024).await;
    exchange(&world, ChannelKind::Input, 40).await;
    assert_eq!(still.arrived().handed_out, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_droppable_sender_never_waits_and_its_reader_comes_to_what_is_new() {
    let world = World::start().await;
    for kind in [ChannelKind::Render, ChannelKind::VpnPackets] {
        let (client, service) = world.open(kind).await;
        let mut made = 0;
        // Much more than may be ahead and may wait together.
        while made < 2_000 {
            send_now(&client, numbered(None, made, 16 * 1024));
            made += 1;
            tokio::task::yield_now().await;
        }
        let ahead = (Policy::of(kind).unwrap().ahead.bytes / (16 * 1024)) as u64;
        assert!(service.arrived().came <= ahead, "{kind}: {:?}", service.arrived());
        let returned = made;
        let last = loop {
            send_now(&client, numbered(None, made, 16 * 1024));
            made += 1;
            let came = timeout(Duration::from_millis(5), service.receive()).await;
            if let Ok(came) = came
                && let Some(number) = came.unwrap().as_ref().map(number)
                && number >= returned
            {
                break number;
            }
        };
        assert!(last < made);
        let (read, sent) = (service.arrived(), client.counters());
        let counted = world.fabric.nodes[&EGRESS].endpoint.status().counted.messages[&kind];
        assert!(counted.up.came >= read.came && counted.up.handed_out == read.handed_out);
        assert!(sent.dropped_full + sent.dropped_stale > 0, "{kind}: {sent:?}");
        assert!(read.came <= sent.sent && sent.sent < sent.taken_in, "{kind}: {sent:?} {read:?}");
        assert_eq!(sent.taken_in, made, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_counts_what_it_drops_of_messages_and_keeps_the_count_when_a_channel_ends() {
    let world = World::start().await;
    let (client, service) = world.open(ChannelKind::Render).await;
    let counted = || {
        let counted = world.fabric.nodes[&EGRESS].endpoint.status().counted;
        counted.messages[&ChannelKind::Render].down
    };
    // The client reads nothing.
    for made in 0..1_000 {
        send_now(&service, numbered(None, made, 16 * 1024));
    }
    assert_eq!(counted().taken_in, 1_000);
    assert!(counted().dropped_full > 0, "{:?}", counted());
    // One that waits too long on a busy machine is dropped.
    until_so("one came", || {
        send_now(&client, numbered(None, 0, 8));
        service.arrived().came > 0
    })
    .await;
    until("nothing waits any more", || {
        let Counters { taken_in, sent, dropped_full, dropped_stale, coalesced } =
            service.counters();
        taken_in == sent + dropped_full + dropped_stale + coalesced
    })
    .await;
    let last = service.counters();
    let open = || {
        let counted = world.fabric.nodes[&EGRESS].endpoint.status().counted;
        counted.flows[&(FlowEnd::Egress, Policy::of(ChannelKind::Render).unwrap().lane)].open
    };
    assert_eq!((open(), counted()), (1, last));
    drop((client, service));
    until("the channel is over", || open() == 0).await;
    assert_eq!(counted(), last);
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_give_way_to_later_ones_while_nobody_reads_and_no_click_is_lost() {
    let world = World::start().await;
    let (client, service) = world.open(ChannelKind::Input).await;
    let moves = 20_000;
    for number in 0..moves {
        send_now(&client, numbered(Some(1), number, 8));
    }
    send_now(&client, numbered(None, moves, 8));
    let finished = tokio::spawn(async move {
        finish(&client).await;
        client.counters()
    });
    let mut read = Vec::new();
    while let Some(message) = receive(&service).await {
        read.push(number(&message));
    }
    assert!(read.is_sorted() && read.len() < 1_000, "{} were read", read.len());
    assert!(read.ends_with(&[moves - 1, moves]), "{:?}", read.last());
    let counters = finished.await.unwrap();
    assert_eq!(counters.sent, read.len() as u64);
    assert_eq!(counters.sent + counters.coalesced, moves + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_at_most_one_sample_each_100_ms_and_the_newest() {
    let world = World::start().await;
    let (client, service) = world.open(ChannelKind::Telemetry).await;
    let (start, mut made, mut read) = (Instant::now(), 0, Vec::new());
    while read.len() < 4 {
        send_now(&client, numbered(Some(1), made, 8));
        made += 1;
        if let Ok(came) = timeout(Duration::from_millis(2), service.receive()).await {
            read.push(came.unwrap().as_ref().map(number).unwrap());
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(read.is_sorted() && client.counters().coalesced > 0, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reliable_channel_outlives_connections_that_die_again_and_again() {
    let lives_for = 3 * 1024 * 1024;
    let (fabric, _open, connections) = over_brittle_connections(echo().await, lives_for).await;
    let world = World::on(fabric, None).await;
    let (client, service) = world.open(ChannelKind::FileTransfer).await;
    let length = Policy::of(ChannelKind::FileTransfer).unwrap().max_message;
    let sending = tokio::spawn(async move {
        for number in 0..64 {
            send(&client, numbered(None, number, length)).await;
        }
        finish(&client).await;
        client
    });
    for expected in 0..64 {
        let message = receive(&service).await.unwrap();
        assert_eq!((number(&message), message.bytes.len()), (expected, length));
    }
    assert_eq!(receive(&service).await, None);
    sending.await.unwrap();
    assert!(connections.lost() >= 3, "{connections:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_cut_says_why_and_one_that_is_left_says_that() {
    let mut world = World::start().await;
    let (client, service) = world.open(ChannelKind::Control).await;
    send(&service, numbered(None, 1, 8)).await;
    drop(service);
    let left = timeout(PATIENCE, async {
        while client.receive().await?.is_some() {}
        Ok(())
    });
    assert_eq!(left.await.unwrap(), Err(Cut::Lost), "nobody finished it");

    let (client, service) = world.open(ChannelKind::Control).await;
    world.fabric.plan.users.clear();
    world.fabric.publish();
    let cut = timeout(PATIENCE, client.receive()).await.unwrap();
    assert_eq!(cut, Err(Cut::Ended(EndReason::Terminated)));
    assert_eq!(timeout(PATIENCE, service.receive()).await.unwrap(), Err(Cut::Lost));
    let refused = timeout(PATIENCE, async {
        loop {
            if let Err(error) = client.send(numbered(None, 2, 8)).await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(matches!(refused.await.unwrap(), SendError::Cut(_)));
}
