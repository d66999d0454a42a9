//! Through flows: between client and egress, over sockets that the entry joins.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rap_mesh::{
    Carrier, EVENT_QUEUE,
    client::{ClientSession, OpenChannel, OpenError, SessionEnd, end_reason},
};
use rap_proto::{
    ChannelKind, Digest, Lane, NodeId, NodeRole, RefusalCode, Signer as _,
    key::LocalKey,
    observation::{EndReason, Observation, Vantage},
    signed,
    token::Proof,
    wire::{
        PREAMBLE,
        client::JoinSession,
        lane::{FlowReply, OpenFlow},
        resume::{FlowId, Resume},
        through::{Answer, Ask, OpenThrough, THROUGH_ALPN, Voucher, Wanted},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, until},
    fabric::{
        CLUSTER, EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, SESSION, client_key, key, now,
        own, start_seen, stream,
    },
    resume::{answer, lasting, over_brittle_connections},
    shaping::capped,
    targets::{counter, echo, serve},
    tcp::Raw,
    traffic::{exchange_on, pattern},
};

const ENTRY_2: NodeId = NodeId::from_u128(0xe4);

/// A session whose bulk is on through flows.
async fn session(fabric: &mut Fabric) -> ClientSession {
    fabric.through = true;
    fabric.session().await
}

fn through_flows(fabric: &Fabric, entry: NodeId) -> usize {
    fabric.nodes[&entry].endpoint.status().through_flows
}

/// What went up over each connection to some address.
type Taken = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A way to `target` that keeps what goes up.
async fn tapped(target: SocketAddr) -> (SocketAddr, Taken) {
    let taken = Taken::default();
    let tap = taken.clone();
    let address = serve(move |stream| {
        let heard = Arc::new(Mutex::new(Vec::new()));
        tap.lock().unwrap().push(heard.clone());
        async move {
            let Ok(target) = TcpStream::connect(target).await else { return };
            let ((mut from, mut to), (mut back, mut on)) =
                (stream.into_split(), target.into_split());
            let down = tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                heard.lock().unwrap().extend_from_slice(&piece[..count]);
                if on.write_all(&piece[..count]).await.is_err() {
                    break;
                }
            }
            let _ = on.shutdown().await;
            let _ = down.await;
        }
    })
    .await;
    (address, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entry_passes_on_is_the_ciphertext_of_its_client() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    let (at_entry, from_client) = tapped(fabric.address(ENTRY)).await;
    let (at_egress, from_entry) = tapped(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), at_egress);
    fabric.publish();
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(at_entry, token, client_key()).await.unwrap();
    assert_eq!(session.carrier(), Carrier::Tcp, "only that is tapped");
    let mut channel = lasting(&session).await;
    assert_eq!(through_flows(&fabric, ENTRY), 1);
    channel.write_all(b"a word that nobody between the two reads").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(PATIENCE, channel.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, b"a word that nobody between the two reads");
    let passed =
        from_entry.lock().unwrap().iter().map(|it| it.lock().unwrap().clone()).collect::<Vec<_>>();
    let [passed] = &passed[..] else { panic!("{} connections to the egress", passed.len()) };
    let sent =
        from_client.lock().unwrap().iter().map(|it| it.lock().unwrap().clone()).collect::<Vec<_>>();
    let joined = sent.iter().find(|sent| sent.starts_with(PREAMBLE)).expect("it brought a ticket");
    assert!(joined[PREAMBLE.len() + 32..].starts_with(passed), "as the client sent them");
    assert!(passed.len() > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_is_a_channel_of_its_session_and_ends_with_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = session(&mut fabric).await;
    let mut channel = lasting(&session).await;
    assert_eq!(fabric.observation(EGRESS).await, start_seen(Vantage::Egress));
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(SESSION);
    fabric.publish();
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated));
    let Observation::SessionEnded { reason, bytes_up, .. } = fabric.observation(ENTRY).await else {
        panic!("the session is over")
    };
    assert_eq!(reason, EndReason::Terminated);
    assert!(bytes_up > 1, "all that TLS adds is in it: {bytes_up}");
    until("nothing is left", || through_flows(&fabric, ENTRY) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_that_break_again_and_again_lose_and_double_nothing() {
    let (mut fabric, _gate, count) = over_brittle_connections(echo().await, 1_234_567).await;
    fabric.through = true;
    let mut claims = fabric.claims();
    // However many ways it has had, it has one place.
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = 1;
    let session = fabric.connect(&claims).await.unwrap();
    let sent = pattern(12_000_000);
    let digest = Digest::of(&sent);
    let channel = session.open_lasting(stream(Lane::Bulk)).await.unwrap();
    let received = exchange_on(channel, sent);
    let received = timeout(2 * PATIENCE, received).await.unwrap();
    assert_eq!((received.len(), Digest::of(&received)), (12_000_000, digest));
    assert!(count.lost() >= 9, "{count:?}");
    assert_eq!(fabric.observation(EGRESS).await, start_seen(Vantage::Egress));
    session.close().await;
    let Observation::SessionEnded { bytes_up, bytes_down, .. } = fabric.observation(ENTRY).await
    else {
        panic!("one session")
    };
    assert!(bytes_up >= 12_000_000 && bytes_down >= 12_000_000, "{bytes_up} {bytes_down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_goes_on_when_its_entry_dies() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    fabric.plan.roles.insert(ENTRY_2, vec![own(NodeRole::EntryNode)]);
    fabric.add_node(ENTRY_2, 60);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(ENTRY, 55, &mortal);
    let mut claims = fabric.claims();
    claims.entries.insert(ENTRY_2);
    let token = fabric.token(&claims);
    let session = fabric.connect_to(ENTRY, token.clone(), client_key()).await.unwrap();
    let mut channel = lasting(&session).await;
    mortal.shutdown_background();
    let again = fabric.connect_to(ENTRY_2, token, client_key()).await.unwrap();
    again.succeed(&session);
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
    assert_eq!(through_flows(&fabric, ENTRY_2), 1);
}

/// A session of through flows at the first of two entries, and the token that names both.
async fn at_one_of_two_entries() -> (Fabric, Vec<u8>, ClientSession) {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    fabric.plan.roles.insert(ENTRY_2, vec![own(NodeRole::EntryNode)]);
    fabric.add_node(ENTRY_2, 60);
    let mut claims = fabric.claims();
    claims.entries.insert(ENTRY_2);
    let token = fabric.token(&claims);
    let session = fabric.connect_to(ENTRY, token.clone(), client_key()).await.unwrap();
    (fabric, token, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_goes_on_when_its_entry_is_stopped_and_both_entries_tell_their_part() {
    let (mut fabric, token, session) = at_one_of_two_entries().await;
    let mut transfer =
        Transfer::begin_with(session.open_lasting(stream(Lane::Bulk)).await.unwrap());
    transfer.goes_on(PART).await;
    fabric.nodes[&ENTRY].endpoint.clone().shut_down(PATIENCE).await;
    let end = session.ended().await;
    assert!(end == SessionEnd::Ended(EndReason::NodeLeft) && end.may_go_on(), "{end}");
    assert_eq!(fabric.observed(ENTRY).await, start_seen(Vantage::Entry));
    let (left, there) = ended(&fabric.observed(ENTRY).await);
    assert_eq!(left, EndReason::NodeLeft);
    let again = fabric.connect_to(ENTRY_2, token, client_key()).await.unwrap();
    again.succeed(&session);
    transfer.goes_on(PART).await;
    assert_eq!(fabric.observed(ENTRY_2).await, start_seen(Vantage::Entry));
    transfer.ends_whole().await;
    again.close().await;
    let (over, here) = ended(&fabric.observed(ENTRY_2).await);
    // Both sides end their directions at the same moment.
    assert!(matches!(over, EndReason::ClientClosed | EndReason::TargetClosed), "{over}");
    assert!(there > 0 && here > 0, "each tells of its bytes: {there} {here}");
    assert_eq!(fabric.observed(EGRESS).await, start_seen(Vantage::Egress));
    assert!(fabric.nodes.get_mut(&EGRESS).unwrap().events.try_recv().is_err(), "one session");
}

/// Why the session ended, by an entry's word, and how many bytes passed there each way, at least.
fn ended(observed: &Observation) -> (EndReason, u64) {
    let Observation::SessionEnded { session, reason, bytes_up, bytes_down } = observed else {
        panic!("expected an end, got {observed:?}")
    };
    assert_eq!(*session, SESSION);
    (*reason, *bytes_up.min(bytes_down))
}

/// Opens what is refused until nobody can tell the agent anything more.
async fn fill_the_queue(fabric: &Fabric, session: &ClientSession) {
    let unfit = OpenChannel { channel: ChannelKind::Clipboard, ..stream(Lane::Interactive) };
    for _ in 0..=EVENT_QUEUE {
        session.open(unfit.clone()).await.unwrap_err();
    }
    assert!(fabric.nodes[&ENTRY].endpoint.status().dropped_events > 0, "the queue is full");
}

/// Lives once, and is over at the entry.
async fn live_once(fabric: &Fabric, session: ClientSession) {
    let mut channel = lasting(&session).await;
    channel.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, channel.read_to_end(&mut Vec::new())).await.unwrap().unwrap(), 0);
    drop(channel);
    session.close().await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    until("the session is over", || entry.status().entry_sessions == 0).await;
}

/// What an entry tells of its sessions until so many have ended there.
async fn told(fabric: &mut Fabric, ends: usize) -> Vec<Observation> {
    let mut told = Vec::new();
    let is_end = |observed: &&Observation| matches!(observed, Observation::SessionEnded { .. });
    while told.iter().filter(is_end).count() < ends {
        let observed = fabric.observed(ENTRY).await;
        if !matches!(observed, Observation::AccessRefused { .. }) {
            told.push(observed);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_before_its_start_could_be_told_is_told_from_its_start() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = session(&mut fabric).await;
    fill_the_queue(&fabric, &session).await;
    live_once(&fabric, session).await;
    let told = told(&mut fabric, 1).await;
    let [start, end] = &told[..] else { panic!("a start and an end: {told:?}") };
    assert_eq!(*start, start_seen(Vantage::Entry));
    assert!(ended(end).1 > 0, "{end:?}");
}

/// Counts how often it is looked at.
async fn looked_at<F: Future>(future: F) -> (F::Output, u32) {
    let (mut future, mut looks) = (pin!(future), 0);
    let output = poll_fn(|context| {
        looks += 1;
        future.as_mut().poll(context)
    });
    (output.await, looks)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_until_all_is_taken_is_woken_by_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = session(&mut fabric).await;
    fill_the_queue(&fabric, &session).await;
    live_once(&fabric, session).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    let mut waiting = tokio::spawn(async move { looked_at(entry.events_taken()).await });
    let early = timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "a start and an end wait for room");
    let mut told = Vec::new();
    let waited = async {
        loop {
            tokio::select! {
                biased;
                waited = &mut waiting => return waited.unwrap(),
                observed = fabric.observed(ENTRY) => told.push(observed),
            }
        }
    };
    let ((), looks) = timeout(PATIENCE, waited).await.unwrap();
    assert!(looks <= 8, "{looks}");
    let [.., start, end] = &told[..] else { panic!("a start and an end: {told:?}") };
    assert_eq!(*start, start_seen(Vantage::Entry));
    assert!(ended(end).1 > 0, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_back_before_its_end_could_be_told_starts_behind_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let first = session(&mut fabric).await;
    fill_the_queue(&fabric, &first).await;
    live_once(&fabric, first).await;
    let second = session(&mut fabric).await;
    live_once(&fabric, second).await;
    let told = told(&mut fabric, 2).await;
    let is_start = |observed: &Observation| *observed == start_seen(Vantage::Entry);
    let starts: Vec<_> = told.iter().map(is_start).collect();
    assert_eq!(starts, [true, false, true, false], "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_leads_over_a_relay_and_goes_on_when_that_dies() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 55, &mortal);
    fabric.cut_direct_path();
    let session = session(&mut fabric).await;
    let mut transfer =
        Transfer::begin_with(session.open_lasting(stream(Lane::Bulk)).await.unwrap());
    transfer.goes_on(PART).await;
    assert_eq!(through_flows(&fabric, ENTRY), 1);
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 1);
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(RELAY_2, roles);
    fabric.add_node(RELAY_2, 56);
    mortal.shutdown_background();
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
    until("the way is given back", || through_flows(&fabric, ENTRY) == 0).await;
}

fn voucher(fabric: &Fabric, by: NodeId, flow: FlowId) -> Voucher {
    let key = fabric.node_key(by);
    Voucher {
        cluster: CLUSTER,
        entry: by,
        entry_key: key.public_key(),
        egress: EGRESS,
        session: SESSION,
        flow,
        channel: ChannelKind::Stream,
        lane: Lane::Bulk,
        until: now() + Duration::from_secs(30),
    }
}

/// Asks the egress for a flow, on a connection without a certificate.
async fn ask(fabric: &Fabric, voucher: &[u8], resume: Resume, by: &LocalKey) -> (Raw, FlowReply) {
    let mut raw = Raw::dial(fabric, EGRESS, THROUGH_ALPN, None).await;
    let token = fabric.token(&fabric.claims());
    let proof = Proof::make(&token, raw.exported(), by);
    let channel = ChannelKind::Stream;
    let flow = OpenFlow { token, proof, channel, traceparent: None, resume: Some(resume) };
    raw.say(&OpenThrough { voucher: voucher.to_vec(), flow }).await;
    let reply = raw.frame().await;
    (raw, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_takes_clients_for_whom_an_entry_vouches_and_nobody_else() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let flow = FlowId::from_random([7; 16]);
    let seal = |voucher: &Voucher, by: LocalKey| signed::seal(voucher, &[&by]);
    let entry_key = fabric.node_key(ENTRY);
    let good = seal(&voucher(&fabric, ENTRY, flow), entry_key.clone());
    let by_relay = seal(&voucher(&fabric, RELAY, flow), fabric.node_key(RELAY));
    let forged = seal(&voucher(&fabric, ENTRY, flow), client_key());
    let other_flow = voucher(&fabric, ENTRY, FlowId::from_random([8; 16]));
    let other_flow = seal(&other_flow, entry_key);
    for (voucher, by, code) in [
        (&b"none"[..], client_key(), RefusalCode::Malformed),
        (&forged, client_key(), RefusalCode::PeerNotTrusted),
        (&other_flow, client_key(), RefusalCode::AccessDenied),
        (&by_relay, client_key(), RefusalCode::TokenWrongAudience),
        (&good, key(78), RefusalCode::TokenWrongKey),
    ] {
        let (_raw, reply) = ask(&fabric, voucher, Resume::opening(flow), &by).await;
        let FlowReply::Refused(refusal) = reply else { panic!("{code}: {reply:?}") };
        assert_eq!(refusal.code, code);
        fabric.expect_refusal(EGRESS, code, true).await;
    }
    let (raw, reply) = ask(&fabric, &good, Resume::opening(flow), &client_key()).await;
    assert_eq!(reply, FlowReply::Attached { received: 0 });
    drop(raw);
    // What an entry opened itself is not its client's to take over, nor the other way round.
    let again = Resume { flow, generation: 1, received: 0 };
    let of_entry = crate::resume::request(&fabric, &fabric.claims(), again);
    let (_raw, reply) = crate::resume::ask(&fabric, ENTRY, Lane::Bulk, &of_entry).await;
    let FlowReply::Refused(refusal) = reply else { panic!("{reply:?}") };
    assert_eq!(refusal.code, RefusalCode::AccessDenied);
    let (_raw, reply) = ask(&fabric, &good, again, &client_key()).await;
    assert_eq!(reply, FlowReply::Attached { received: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_entry_is_trusted_no_more_goes_on_through_another() {
    let (mut fabric, token, session) = at_one_of_two_entries().await;
    let mut channel = lasting(&session).await;
    fabric.plan.version += 1;
    fabric.plan.denied_nodes.insert(ENTRY);
    fabric.plan.roles.remove(&ENTRY);
    // The entry itself does not hear of it, and carries on.
    fabric.publish_to(EGRESS);
    fabric.publish_to(ENTRY_2);
    let again = fabric.connect_to(ENTRY_2, token, client_key()).await.unwrap();
    again.succeed(&session);
    // What was written before the egress took the way from it may have got through.
    let entry = fabric.nodes[&ENTRY_2].endpoint.clone();
    let mut byte = 2;
    while entry.status().through_flows == 0 {
        assert_eq!(answer(&mut channel, byte).await.unwrap(), byte);
        byte = byte.wrapping_add(1);
    }
    assert_eq!(answer(&mut channel, 1).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_suits_quic_or_ends_at_the_entry_itself_is_an_ordinary_channel() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[], echo().await);
    let session = session(&mut fabric).await;
    let mut channel = lasting(&session).await;
    assert_eq!(through_flows(&fabric, ENTRY), 0);
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.plan.roles.insert(ENTRY, vec![own(NodeRole::EntryNode), own(NodeRole::StreamWorker)]);
    fabric.plan.resources_at.insert(ENTRY);
    fabric.publish();
    fabric.through = true;
    let mut claims = fabric.claims();
    claims.egresses = [(ENTRY, fabric.plan.version)].into();
    let session = fabric.connect(&claims).await.unwrap();
    let mut channel = lasting(&session).await;
    assert_eq!(through_flows(&fabric, ENTRY), 0);
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_through_flows_are_open_as_the_token_says() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    let mut claims = fabric.claims();
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = 1;
    let session = fabric.connect(&claims).await.unwrap();
    let channel = lasting(&session).await;
    let second = session.open_lasting(stream(Lane::Bulk)).await;
    let Err(OpenError::Refused(refusal)) = second else { panic!("{second:?}") };
    assert_eq!(refusal.code, RefusalCode::LimitReached);
    drop(channel);
    until("its place is given back", || through_flows(&fabric, ENTRY) == 0).await;
    lasting(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_slows_a_through_flow_and_lets_it_go() {
    let mut fabric = Fabric::start(&[], counter().await);
    fabric.through = true;
    fabric.plan.bandwidth = capped("8mbit");
    fabric.publish();
    let session = fabric.session().await;
    let channel = session.open_lasting(stream(Lane::Bulk)).await.unwrap();
    let begun = Instant::now();
    assert_eq!(through_flows(&fabric, ENTRY), 1);
    let counted = timeout(PATIENCE, exchange_on(channel, pattern(1_000_000))).await.unwrap();
    assert_eq!(counted, b"1000000");
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
    let channel = session.open_lasting(stream(Lane::Bulk)).await.unwrap();
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    let before = entry.status().shaped_up.waits;
    let running = tokio::spawn(exchange_on(channel, pattern(40_000_000)));
    until("the entry has it waiting", || entry.status().shaped_up.waits > before).await;
    assert!(!running.is_finished());
    fabric.plan.bandwidth = capped("10gbit");
    fabric.publish();
    assert_eq!(timeout(PATIENCE, running).await.unwrap().unwrap(), b"40000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_swallows_what_it_takes_keeps_no_place_and_is_left_alone() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.through = true;
    // It takes connections, and nobody is behind it.
    let swallows = serve(|stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), swallows);
    fabric.publish();
    let mut claims = fabric.claims();
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = 2;
    let session = fabric.connect(&claims).await.unwrap();
    // The direct path is tried first, and by the ordinary channel the relay.
    let mut channel = lasting(&session).await;
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
    until("its way is given up", || through_flows(&fabric, ENTRY) == 0).await;
    // Another client's flow leads over the relay at once.
    claims.session = rap_proto::SessionId::from_u128(0x77);
    let other = fabric.connect(&claims).await.unwrap();
    let _through = lasting(&other).await;
    assert_eq!(through_flows(&fabric, ENTRY), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_expects_so_many_ways_and_one_flow_has_so_many() {
    let fabric = Fabric::start(&[], echo().await);
    let key = client_key();
    let _first = crate::resume::introduced(&fabric, SESSION, &key).await;
    // Shaking hands takes longest, and a ticket waits for a few seconds alone.
    let joined = async || {
        let mut raw = Raw::dial(&fabric, ENTRY, rap_proto::wire::CHANNEL_ALPN, None).await;
        raw.say(&JoinSession::make(SESSION, raw.exported(), &key)).await;
        raw
    };
    let mut joined = join_all(std::iter::repeat_with(joined).take(11)).await;
    let mut ask = async |flow: u8, egress: Option<NodeId>| {
        let mut raw = joined.pop().unwrap();
        let flow = FlowId::from_random([flow; 16]);
        let (channel, lane) = (ChannelKind::Stream, Lane::Bulk);
        raw.say(&Ask::Through(Wanted { channel, lane, flow, egress })).await;
        let answer: Answer = raw.frame().await;
        (raw, answer)
    };
    let mut open = Vec::new();
    for number in 0..3 {
        let (raw, answer) = ask(1, (number > 0).then_some(EGRESS)).await;
        assert!(matches!(answer, Answer::Way(_)), "{answer:?}");
        open.push(raw);
    }
    let (_raw, answer) = ask(1, Some(ENTRY_2)).await;
    assert!(matches!(answer, Answer::Refused(_)), "it is elsewhere: {answer:?}");
    let (_raw, answer) = ask(1, Some(EGRESS)).await;
    assert!(matches!(answer, Answer::Refused(_)), "a fourth of one flow: {answer:?}");
    for flow in 2..7 {
        let (raw, answer) = ask(flow, None).await;
        assert!(matches!(answer, Answer::Way(_)), "{answer:?}");
        open.push(raw);
    }
    let mut ninth = std::pin::pin!(ask(7, None));
    let early = timeout(Duration::from_millis(300), &mut ninth).await;
    assert!(early.is_err(), "a ninth waits");
    drop(open.pop());
    let (raw, answer) = timeout(PATIENCE, ninth).await.unwrap();
    assert!(matches!(answer, Answer::Way(_)), "{answer:?}");
    drop((open, raw));
    until("none is expected", || through_flows(&fabric, ENTRY) == 0).await;
}
