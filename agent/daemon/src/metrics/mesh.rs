//! The mesh: peers, lanes and their paths, holes, flows, and what was turned away.

use rap_mesh::{BbrSupport, FlowEnd, Limit, RecoveryStep, SwitchReason, channel::Policy};
use rap_mesh_core::peers;
use rap_proto::{ChannelKind, Lane, RefusalCode, hole};

use super::Page;
use crate::{ControllersReport, LaneReport, MeshReport, MoveReport, PeersStatus};

/// How a lane reaches its egress. A path has three relays at most.
const WAYS: [&str; 5] = ["direct", "hole", "one_relay", "two_relays", "three_relays"];

pub(super) fn peers(page: &mut Page, peers: &PeersStatus) {
    let of = |class: &str, is_relay: bool| {
        peers.counts.iter().find(|it| it.class == class && it.is_relay == is_relay)
    };
    let kinds = ["active", "warm", "cold"]
        .into_iter()
        .flat_map(|class| [(class, "relay", true), (class, "other", false)]);
    let mut family = page.gauge("rap_node_peers", "Peers by class and role.");
    for (class, role, is_relay) in kinds.clone() {
        let count = of(class, is_relay).map_or(0, |it| it.count);
        family.of([("class", class), ("role", role)], count);
    }
    let mut family = page.gauge("rap_node_peers_up", "Peers that are connected and answer.");
    for (role, is_relay) in [("relay", true), ("other", false)] {
        family.of([("role", role)], of("active", is_relay).map_or(0, |it| it.up));
    }
    let help = "Peers that failed, and are left alone for a while.";
    let mut family = page.gauge("rap_node_peers_resting", help);
    for (class, role, is_relay) in kinds {
        let resting = of(class, is_relay).map_or(0, |it| it.resting);
        family.of([("class", class), ("role", role)], resting);
    }
    let help = "Whether peers answer, as the node says it.";
    let words = ["available", "degraded", "unavailable"];
    page.gauge("rap_node_peers_availability", help).one_of("state", &words, &peers.availability);
    let help = "How often each step of the way back was reached while no peer answered.";
    page.counter("rap_node_peer_recovery_steps_total", help).each(
        "step",
        peers::Step::ALL.map(peers::Step::as_str),
        &peers.recovery_steps,
    );
}

pub(super) fn lanes(page: &mut Page, mesh: &MeshReport) {
    let mut family = page.gauge("rap_node_lanes", "Lane connections by lane and path.");
    for lane in Lane::ALL {
        for way in WAYS {
            let of = |report: &&LaneReport| report.lane == *lane && self::way(report) == way;
            let count = mesh.lanes.iter().filter(of).count();
            family.of([("lane", lane.as_str()), ("path", way)], count);
        }
    }
    let help = "Lanes that look for a path, by the step of their search.";
    let mut family = page.gauge("rap_node_lanes_recovering", help);
    for step in RecoveryStep::ALL.map(RecoveryStep::as_str) {
        let of = |report: &&LaneReport| report.recovery.as_deref() == Some(step);
        family.of([("step", step)], mesh.lanes.iter().filter(of).count());
    }
    let counted = &mesh.counted;
    let help = "How often each step of the search for a lane's path was reached.";
    page.counter("rap_node_lane_recovery_steps_total", help).each(
        "step",
        RecoveryStep::ALL.map(RecoveryStep::as_str),
        &counted.steps,
    );
    page.counter("rap_node_lane_switches_total", "Changes of lanes' paths, by reason.").each(
        "reason",
        SwitchReason::ALL.map(SwitchReason::as_str),
        &counted.switches,
    );
    let help = "Direct paths through NATs that were found.";
    page.counter("rap_node_holes_found_total", help).is(counted.holes_found);
    let help = "Rounds that found no hole and holes that were lost, by reason.";
    page.counter("rap_node_holes_failed_total", help).each(
        "reason",
        hole::Failure::ALL.iter().map(|failure| failure.as_str()),
        &counted.holes_failed,
    );
    let help = "Datagrams of the lanes of the moment that came from no path of theirs.";
    let refused: u64 = mesh.lanes.iter().map(|lane| lane.refused_datagrams).sum();
    page.gauge("rap_node_lane_refused_datagrams", help).is(refused);
}

fn way(lane: &LaneReport) -> &'static str {
    match (&lane.relay, lane.onward.len()) {
        (None, _) if lane.hole.step == "open" => "hole",
        (None, _) => "direct",
        (Some(_), 0) => "one_relay",
        (Some(_), 1) => "two_relays",
        (Some(_), _) => "three_relays",
    }
}

pub(super) fn flows(page: &mut Page, mesh: &MeshReport) {
    page.gauge("rap_node_sessions", "Sessions; those of an absent client may go on.")
        .of([("end", "entry")], mesh.entry_sessions.saturating_sub(mesh.absent_sessions))
        .of([("end", "entry_absent")], mesh.absent_sessions)
        .of([("end", "egress")], mesh.egress_sessions);
    let of = |end: FlowEnd, lane: Lane| {
        mesh.counted.flows.iter().find(|it| it.end == end.as_str() && it.lane == lane)
    };
    let ends =
        FlowEnd::ALL.into_iter().flat_map(|end| Lane::ALL.iter().map(move |lane| (end, *lane)));
    let mut family = page.gauge("rap_node_flows_open", "Open flows by end and lane.");
    for (end, lane) in ends.clone() {
        let labels = [("end", end.as_str()), ("lane", lane.as_str())];
        family.of(labels, of(end, lane).map_or(0, |it| it.open));
    }
    let mut family = page.counter("rap_node_flows_total", "Flows that were opened.");
    for (end, lane) in ends.clone() {
        let labels = [("end", end.as_str()), ("lane", lane.as_str())];
        family.of(labels, of(end, lane).map_or(0, |it| it.begun));
    }
    let help = "Bytes of flows; up is towards resources.";
    let mut family = page.counter("rap_node_flow_bytes_total", help);
    for (end, lane) in ends {
        let [end_word, lane_word] = [end.as_str(), lane.as_str()];
        let (up, down) = of(end, lane).map_or((0, 0), |it| (it.up, it.down));
        for (direction, bytes) in [("up", up), ("down", down)] {
            let labels = [("end", end_word), ("lane", lane_word), ("direction", direction)];
            family.of(labels, bytes);
        }
    }
    messages(page, mesh);
    on_tcp(page, mesh);
    shaped(page, mesh);
}

fn messages(page: &mut Page, mesh: &MeshReport) {
    let kinds = || ChannelKind::ALL.iter().filter(|kind| Policy::of(**kind).is_some());
    let of = |kind: ChannelKind| {
        let found = mesh.counted.messages.iter().find(|it| it.channel == kind);
        found.map_or_else(Default::default, |it| (it.down, it.up))
    };
    let help = "Messages of channels that end here; up is from clients.";
    let mut family = page.counter("rap_node_messages_total", help);
    for kind in kinds() {
        let (down, up) = of(*kind);
        for (direction, count) in [("up", up.came), ("down", down.taken_in)] {
            family.of([("channel", kind.as_str()), ("direction", direction)], count);
        }
    }
    let help = "Those of them that were dropped or gave way to newer ones, by reason.";
    let mut family = page.counter("rap_node_messages_left_out_total", help);
    for kind in kinds() {
        let (down, up) = of(*kind);
        for (direction, reason, count) in [
            ("up", "put_aside", up.put_aside),
            ("down", "full", down.full),
            ("down", "stale", down.stale),
            ("down", "coalesced", down.coalesced),
        ] {
            let labels = [("channel", kind.as_str()), ("direction", direction), ("reason", reason)];
            family.of(labels, count);
        }
    }
}

fn on_tcp(page: &mut Page, mesh: &MeshReport) {
    let MoveReport { relayed, moved, stayed, trials } = mesh.tcp_moves;
    let help = "Flows of this entry on TCP, by path.";
    page.gauge("rap_node_tcp_flows", help)
        .of([("path", "direct")], mesh.tcp_flows.saturating_sub(relayed))
        .of([("path", "relayed")], relayed);
    let help = "Flows on TCP that should go to a better path, by whether they did.";
    page.counter("rap_node_tcp_moves_total", help)
        .of([("outcome", "moved")], moved)
        .of([("outcome", "stayed")], stayed);
    let help = "Connections that were made to find out whether a better path works.";
    page.counter("rap_node_tcp_trials_total", help).is(trials);
    controllers(page, mesh);
}

fn controllers(page: &mut Page, mesh: &MeshReport) {
    let ControllersReport { bbr, changed, changed_back, refused } = mesh.controllers;
    let help = "Whether bulk on TCP can have the congestion controller BBR.";
    let words = BbrSupport::ALL.map(BbrSupport::as_str);
    let said = mesh.bbr.as_deref().unwrap_or_default();
    page.gauge("rap_node_bbr", help).one_of("state", &words, said);
    let help = "Connections that send bulk on TCP and have it.";
    page.gauge("rap_node_bbr_connections", help).is(bbr);
    let help = "Changes of their congestion controllers, and those that the kernel refused.";
    page.counter("rap_node_controller_changes_total", help)
        .of([("outcome", "bbr")], changed)
        .of([("outcome", "usual")], changed_back)
        .of([("outcome", "refused")], refused);
}

fn shaped(page: &mut Page, mesh: &MeshReport) {
    let directions = [("up", mesh.shaped_up), ("down", mesh.shaped_down)];
    let mut family =
        page.counter("rap_node_shaped_bytes_total", "Bytes that a bandwidth policy speaks of.");
    for (direction, counts) in directions {
        family.of([("direction", direction)], counts.bytes);
    }
    let help = "How often flows waited for their turn by a bandwidth policy.";
    let mut family = page.counter("rap_node_shaped_waits_total", help);
    for (direction, counts) in directions {
        family.of([("direction", direction)], counts.waits);
    }
    let help = "How long they waited, all together.";
    let mut family = page.counter("rap_node_shaped_wait_seconds_total", help);
    for (direction, counts) in directions {
        let (seconds, millis) = (counts.waited_ms / 1_000, counts.waited_ms % 1_000);
        family.of([("direction", direction)], format_args!("{seconds}.{millis:03}"));
    }
}

pub(super) fn refusals(page: &mut Page, mesh: &MeshReport) {
    let help = "Flows of other nodes that this relay carries.";
    page.gauge("rap_node_relayed_flows", help).is(mesh.relayed_flows);
    let help = "Egresses that keep themselves reachable at this relay.";
    page.gauge("rap_node_reachable_nodes", help).is(mesh.reachable_nodes);
    let help = "Relays at which this egress keeps itself reachable.";
    page.gauge("rap_node_reachable_at", help).is(mesh.reachable_at);
    let help = "Connections of such egresses that came when nobody waited any more.";
    page.counter("rap_node_late_connections_total", help).is(mesh.late_connections);
    page.counter("rap_node_refusals_total", "What this node refused, by code.").each(
        "code",
        RefusalCode::ALL.iter().map(|code| code.as_str()),
        &mesh.counted.refused,
    );
    let help = "What was turned away before it was heard, by the limit that was reached.";
    page.counter("rap_node_limits_reached_total", help).each(
        "limit",
        Limit::ALL.map(Limit::as_str),
        &mesh.counted.limits,
    );
    let help = "Events for the audit that were counted and not reported.";
    page.counter("rap_node_dropped_events_total", help).is(mesh.dropped_events);
}
