#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, time::Duration};

use rap_proto::{ClusterId, Digest, Moment, NodeId, NodeRole, OrganizationId};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex},
    net::{TcpStream, UnixListener, UnixStream},
    time::{Instant, timeout},
};

use super::{
    serve::{Listener, MAX_HEAD_BYTES, MAX_SCRAPES, SCRAPE_TIMEOUT, answer},
    *,
};
use crate::{
    CertificateStatus, ClassReport, ControllersReport, FlowsReport, HoleReport, LaneReport,
    MessagesDown, MessagesReport, MessagesUp, MetricsAt, PeerCount, SnapshotStatus, board::Board,
    clock::Clock,
};

const PATIENCE: Duration = Duration::from_secs(30);
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

const CLOCK: Clock = Clock { moment: Moment::default, now: || at(103) };

fn board() -> Board {
    Board::new("edge-of-acme".parse().unwrap(), Digest::of(b"key"), at(0))
}

fn lane(relay: Option<NodeId>, onward: usize, step: &str) -> LaneReport {
    LaneReport {
        egress: NodeId::from_u128(7),
        lane: rap_proto::Lane::Bulk,
        relay,
        onward: vec![NodeId::from_u128(9); onward],
        rtt_ms: 3,
        switches: 1,
        last_switch: None,
        recovery: (step == "idle").then(|| "cold".to_owned()),
        refused_datagrams: 2,
        hole: HoleReport { step: step.to_owned(), ..HoleReport::default() },
    }
}

/// The report of a node that has seen something of everything.
fn report() -> StatusReport {
    let mut report = board().read();
    let relay = Some(NodeId::from_u128(8));
    report.node = Some(NodeId::from_u128(5));
    report.cluster = Some(ClusterId::from_u128(6));
    report.snapshot = Some(SnapshotStatus {
        version: 42,
        digest: Digest::of(b"manifest"),
        authority_epoch: 1,
        issued_at: at(100),
        expires_at: at(90),
        roles: [NodeRole::EntryNode].into(),
        draining: false,
    });
    report.certificate = Some(CertificateStatus { renewal: 1, expires_at: at(200) });
    report.mesh.listening = Some(([192, 0, 2, 1], 4433).into());
    report.mesh.lanes = vec![
        lane(None, 0, "idle"),
        lane(None, 0, "open"),
        lane(relay, 0, "given_up"),
        lane(relay, 1, ""),
        lane(relay, 2, ""),
    ];
    report.mesh.bandwidth = vec![ClassReport {
        organization: Some(OrganizationId::from_u128(0xacce)),
        traffic: None,
        user: None,
        session: None,
        cap_bits_per_second: Some(1),
        reserved_bits_per_second: None,
        flows: 1,
        up_bits_per_second: 1,
        down_bits_per_second: 1,
        up_waited_ms: 1,
        down_waited_ms: 1,
    }];
    report.mesh.shaped_up.waited_ms = 12_034;
    report.mesh.bbr = Some("not_permitted".to_owned());
    report.mesh.controllers = ControllersReport { bbr: 2, changed: 9, changed_back: 5, refused: 4 };
    report.mesh.counted.steps.insert("cold".to_owned(), 3);
    report.mesh.counted.refused.insert("limit_reached".to_owned(), 4);
    report.mesh.counted.flows = vec![FlowsReport {
        end: "egress".to_owned(),
        lane: rap_proto::Lane::Bulk,
        open: 1,
        begun: 6,
        up: 1_000,
        down: 2_000,
    }];
    report.mesh.counted.messages = vec![MessagesReport {
        channel: rap_proto::ChannelKind::VpnPackets,
        down: MessagesDown { taken_in: 90, sent: 50, full: 30, stale: 8, coalesced: 0 },
        up: MessagesUp { came: 40, handed_out: 37, put_aside: 3 },
    }];
    report.peers.counts =
        vec![PeerCount { class: "active".to_owned(), is_relay: true, count: 2, up: 1, resting: 0 }];
    report.peers.recovery_steps.insert("discovery".to_owned(), 5);
    report.spool.waiting = 7;
    report.control.server = Some("https://acme-control.example:8443".to_owned());
    (report.control.servers, report.control.server_changes) = (3, 2);
    report
}

#[test]
fn numbers_are_those_of_the_report() {
    let page = render(&report(), at(103));
    for line in [
        "rap_node_snapshot_version 42",
        "rap_node_snapshot_age_seconds 3.000",
        "rap_node_snapshot_left_seconds 0.000",
        "rap_node_certificate_left_seconds 97.000",
        "rap_node_state{state=\"pending\"} 1",
        "rap_node_authority{state=\"unheard\"} 1",
        "rap_node_peers{class=\"active\",role=\"relay\"} 2",
        "rap_node_peers{class=\"active\",role=\"other\"} 0",
        "rap_node_peers_up{role=\"relay\"} 1",
        "rap_node_peer_recovery_steps_total{step=\"discovery\"} 5",
        "rap_node_lane_recovery_steps_total{step=\"cold\"} 3",
        "rap_node_lanes_recovering{step=\"cold\"} 1",
        "rap_node_refusals_total{code=\"limit_reached\"} 4",
        "rap_node_flow_bytes_total{end=\"egress\",lane=\"bulk\",direction=\"down\"} 2000",
        "rap_node_flows_total{end=\"egress\",lane=\"bulk\"} 6",
        "rap_node_messages_total{channel=\"vpn_packets\",direction=\"down\"} 90",
        "rap_node_messages_total{channel=\"vpn_packets\",direction=\"up\"} 40",
        "rap_node_messages_left_out_total{channel=\"vpn_packets\",direction=\"down\",reason=\"full\"} 30",
        "rap_node_messages_left_out_total{channel=\"vpn_packets\",direction=\"down\",reason=\"stale\"} 8",
        "rap_node_messages_left_out_total{channel=\"vpn_packets\",direction=\"up\",reason=\"put_aside\"} 3",
        "rap_node_messages_left_out_total{channel=\"input\",direction=\"down\",reason=\"coalesced\"} 0",
        "rap_node_shaped_wait_seconds_total{direction=\"up\"} 12.034",
        "rap_node_lane_refused_datagrams 10",
        "rap_node_bbr{state=\"available\"} 0",
        "rap_node_bbr{state=\"not_permitted\"} 1",
        "rap_node_bbr_connections 2",
        "rap_node_controller_changes_total{outcome=\"bbr\"} 9",
        "rap_node_controller_changes_total{outcome=\"refused\"} 4",
        "rap_node_control_servers 3",
        "rap_node_control_server_changes_total 2",
        "rap_node_spool_waiting 7",
    ] {
        assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
    }
    for way in ["direct", "hole", "one_relay", "two_relays", "three_relays"] {
        let line = format!("rap_node_lanes{{lane=\"bulk\",path=\"{way}\"}} 1\n");
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
}

#[test]
fn every_step_and_reason_is_there_before_it_happens() {
    let page = render(&board().read(), at(0));
    for (name, count) in [
        ("rap_node_peer_recovery_steps_total{", 5),
        ("rap_node_lane_recovery_steps_total{", 5),
        ("rap_node_lane_switches_total{", 8),
        ("rap_node_holes_failed_total{", 9),
        ("rap_node_flow_bytes_total{", 12),
    ] {
        let zeros = page.lines().filter(|line| line.starts_with(name) && line.ends_with(" 0"));
        assert_eq!(zeros.count(), count, "{name}");
    }
    assert!(!page.contains("\nrap_node_snapshot_version "), "there is none");
}

/// The format's rules: each name once with its kind, and each of its samples once behind that.
#[test]
fn the_page_is_well_formed() {
    let page = render(&report(), at(103));
    let (mut families, mut samples, mut last) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} is there twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            last = name;
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(sample), "{sample} is there twice");
            assert_eq!(sample.split('{').next(), Some(last), "{line}");
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
        }
    }
}

#[test]
fn nobody_has_a_name_in_it() {
    let report = report();
    let page = render(&report, at(103));
    let ids = [5, 7, 8, 9].map(|id| NodeId::from_u128(id).to_string());
    let organization = OrganizationId::from_u128(0xacce).to_string();
    let others = ["acme".to_owned(), organization, "192.0.2".to_owned(), "4433".to_owned()];
    for name in ids.into_iter().chain(others) {
        assert!(!page.contains(&name), "{name} is in\n{page}");
    }
}

#[test]
fn the_cluster_is_named_once_it_is_known() {
    let (cluster, version) = (ClusterId::from_u128(6), env!("CARGO_PKG_VERSION"));
    let info = format!("rap_node_info{{cluster=\"{cluster}\",version=\"{version}\"}} 1\n");
    assert!(render(&report(), at(103)).contains(&info));
    assert!(!render(&board().read(), at(103)).contains("rap_node_info"));
}

/// `docs/operations.md` lists what there is, and nothing else.
#[test]
fn every_metric_is_in_the_operators_page_and_no_other_is() {
    let page = render(&report(), at(103));
    let said: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let is_part = |c: char| !(c.is_ascii_lowercase() || c == '_');
    let listed: BTreeSet<&str> =
        OPERATIONS.split(is_part).filter(|word| word.starts_with("rap_node_")).collect();
    assert_eq!(said, listed);
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn asked(request: &str) -> String {
    asked_of(board(), request).await
}

async fn asked_of(board: Board, request: &str) -> String {
    let (mut near, far) = duplex(64 * 1024);
    let (said, ()) = tokio::join!(ask(&mut near, request), answer(far, board, CLOCK));
    said
}

#[tokio::test]
async fn ages_are_counted_by_the_clock_that_the_agent_was_given() {
    let board = board();
    board.update(|shown| *shown = report());
    let said = asked_of(board, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(said.contains("rap_node_snapshot_age_seconds 3.000"), "{said}");
}

#[tokio::test]
async fn only_the_page_is_read_and_only_read() {
    let said = asked("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    assert!(said.contains("content-type: text/plain; version=0.0.4\r\n"), "{said}");
    assert!(said.contains("rap_node_state{state=\"pending\"} 1"), "{said}");
    let said = asked("GET /metrics?x=1 HTTP/1.0\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
    let said = asked("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    let said = asked("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 405 ") && said.contains("allow: GET, HEAD"), "{said}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let padding = "x".repeat(MAX_HEAD_BYTES);
    let said = asked(&format!("GET /metrics HTTP/1.1\r\nhost: x\r\npadding: {padding}")).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_slowly_is_not_waited_for() {
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET /met").await.unwrap();
    let begun = Instant::now();
    answer(far, board(), CLOCK).await;
    let waited = begun.elapsed();
    assert!(waited >= SCRAPE_TIMEOUT && waited < 2 * SCRAPE_TIMEOUT, "{waited:?}");
}

#[tokio::test]
async fn so_many_are_answered_at_once_and_the_next_one_waits() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(Listener::Tcp(listener), board(), CLOCK));
    let mut silent = Vec::new();
    for _ in 0..MAX_SCRAPES {
        silent.push(TcpStream::connect(place).await.unwrap());
    }
    let mut next = TcpStream::connect(place).await.unwrap();
    next.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut first = [0; 4];
    let early = timeout(Duration::from_millis(200), next.read_exact(&mut first)).await;
    assert!(early.is_err(), "every place is taken");
    drop(silent.pop());
    timeout(PATIENCE, next.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP");
    serving.abort();
}

#[tokio::test]
async fn a_socket_file_that_nobody_listens_on_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    drop(UnixListener::bind(&path).unwrap());
    let place = MetricsAt::Unix(path.clone());
    let listener = bind(&place).unwrap();
    assert!(bind(&place).is_err(), "somebody listens there");
    let serving = tokio::spawn(serve(listener, board(), CLOCK));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let said = ask(&mut stream, "GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
    serving.abort();
    let file = directory.path().join("precious");
    std::fs::write(&file, "kept").unwrap();
    assert!(bind(&MetricsAt::Unix(file.clone())).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
