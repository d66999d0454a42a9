//! The page that `cargo xtask bench` writes.

use std::fmt::{self, Write as _};

use crate::bench::{Figure, Figures};
use Of::{One, Ratio};
use Target::{AtLeast, AtMost};

/// A claim: one figure, or one over another, and what it should reach. `AtMost` is for times and
/// costs.
const CLAIMS: &[(&str, Of, Target)] = &[
    ("One lane, direct ÷ stock quinn", Ratio("mesh_direct", "mesh_stock_quinn"), AtLeast(0.95)),
    ("One blind hop ÷ direct", Ratio("mesh_one_hop", "mesh_direct"), AtLeast(0.6)),
    (
        "One blind hop ÷ `ssh -J`, both on the loopback",
        Ratio("mesh_one_hop", "loopback_ssh_j"),
        AtLeast(1.8),
    ),
    ("Two blind hops ÷ direct", Ratio("mesh_two_hops", "mesh_direct"), AtLeast(0.45)),
    (
        "One blind hop, relay's CPU/GB ÷ sender's",
        Ratio("mesh_relay_cpu", "mesh_sender_cpu"),
        AtMost(0.6),
    ),
    ("`tcp` direct ÷ bare TLS over TCP", Ratio("tcp_direct", "tcp_bare"), AtLeast(0.85)),
    (
        "`tcp` direct ÷ `ssh -L`, both on the loopback",
        Ratio("tcp_direct", "loopback_ssh_l"),
        AtLeast(1.8),
    ),
    ("`tcp` one hop ÷ direct", Ratio("tcp_one_hop", "tcp_direct"), AtLeast(0.6)),
    ("`tcp` one hop, relay's CPU-s/GB", One("tcp_relay_cpu"), AtMost(0.5)),
    (
        "Input, one hop's added p50 ÷ direct",
        Ratio("input_hop_added", "input_direct_p50"),
        AtMost(1.0),
    ),
    (
        "Input beside 8 bulk flows ÷ idle, p50",
        Ratio("input_8_bulk_p50", "input_idle_p50"),
        AtMost(8.0),
    ),
    (
        "8 bulk flows beside input ÷ alone",
        Ratio("bulk_8_beside_input", "bulk_8_alone"),
        AtLeast(0.9),
    ),
    ("Input beside 32 bulk flows, worst, ms", One("input_32_bulk_worst"), AtMost(100.0)),
    ("Input beside bulk at 100 Mbit/s, p99, ms", One("link_input_p99"), AtMost(10.0)),
    ("Bulk's share of that link, %", One("link_bulk_share"), AtLeast(93.0)),
    ("Bulk, 1 % lost, as chosen ÷ `ssh -J`", Ratio("lossy_1_chosen", "lossy_1_ssh"), AtLeast(1.0)),
    ("Bulk, 3 % lost, as chosen ÷ `ssh -J`", Ratio("lossy_3_chosen", "lossy_3_ssh"), AtLeast(1.0)),
    ("Input beside bulk, 1 % lost, p99, ms", One("lossy_1_input_p99"), AtMost(100.0)),
    ("Input beside bulk, 3 % lost, p99, ms", One("lossy_3_input_p99"), AtMost(150.0)),
    ("Gap of an echo when its relay is killed, ms", One("relay_killed_gap"), AtMost(1000.0)),
    ("Memory of a channel on `quic`, KiB", One("channel_memory_quic"), AtMost(64.0)),
    ("Memory of a channel on `tcp`, KiB", One("channel_memory_tcp"), AtMost(64.0)),
    ("Route decision, kept, µs", One("route_cached"), AtMost(1.0)),
    ("Route decision, 1,000 relays, first for a target, µs", One("route_first"), AtMost(50.0)),
    ("Route decision, 1,000 relays scored anew, µs", One("route_anew"), AtMost(50.0)),
    ("Agent idle, memory, MB", One("agent_idle_memory"), AtMost(40.0)),
    ("Agent idle, % of a core", One("agent_idle_cpu"), AtMost(1.0)),
    ("TCP forward, one node ÷ `ssh -L`", Ratio("forward_one_node", "forward_ssh_l"), AtLeast(1.2)),
    ("TCP forward, two nodes ÷ `ssh -L`", Ratio("forward_direct", "forward_ssh_l"), AtLeast(1.2)),
    ("TCP forward, one hop ÷ `ssh -J`", Ratio("forward_one_hop", "forward_ssh_j"), AtLeast(3.0)),
    (
        "TCP forward, one hop on `quic` ÷ `ssh -J`",
        Ratio("forward_one_hop_quic", "forward_ssh_j"),
        AtLeast(1.8),
    ),
    ("Session open ÷ `ssh -J` connect", Ratio("open_session", "open_ssh_j"), AtMost(0.4)),
    ("Append ÷ plain rows, 1 writer", Ratio("append_1", "plain_1"), AtLeast(0.67)),
    ("Append ÷ plain rows, 8 writers", Ratio("append_8", "plain_8"), AtLeast(1.0)),
    ("Append ÷ plain rows, 32 writers", Ratio("append_32", "plain_32"), AtLeast(8.0)),
    ("Append of 128 writers ÷ plain rows of 90", Ratio("append_128", "plain_128"), AtLeast(8.0)),
    ("Append ÷ gapless rows, 1 writer", Ratio("append_1", "gapless_1"), AtLeast(0.67)),
    ("Append ÷ gapless rows, 32 writers", Ratio("append_32", "gapless_32"), AtLeast(8.0)),
    (
        "Append of 128 writers ÷ gapless rows of 90",
        Ratio("append_128", "gapless_128"),
        AtLeast(8.0),
    ),
    ("One append ÷ a bare commit, median", Ratio("append_p50", "commit_p50"), AtMost(1.5)),
    ("One append ÷ a bare commit, 99 %", Ratio("append_p99", "commit_p99"), AtMost(1.5)),
    ("Replay with folding, events/s", One("replay_fold"), AtLeast(500_000.0)),
    (
        "10,000 leases of 160 nodes renewed every 3 s at one `rap-control`, renewals missed",
        One("leases_missed"),
        AtMost(0.0),
    ),
    (
        "10,000 leases renewed every 3 s in the table alone, renewals missed",
        One("table_leases_missed"),
        AtMost(0.0),
    ),
    (
        "10,000 nodes, a policy changed by a request: the last node has its snapshot, ms",
        One("snapshots_last"),
        AtMost(2000.0),
    ),
    (
        "10,000 nodes, a policy changed in memory: the last snapshot is signed, ms",
        One("memory_snapshots_last"),
        AtMost(2000.0),
    ),
    ("10,000 event streams, memory of each, KiB", One("sse_memory_after"), AtMost(64.0)),
    ("A stream that nobody reads, until it is cut off, s", One("sse_silent_cut"), AtMost(35.0)),
    ("Simulated s per CPU-s, leases", One("sim_leases"), AtLeast(100_000.0)),
    ("Simulated s per CPU-s, a fleet of 10", One("sim_fleet"), AtLeast(100_000.0)),
    ("Simulated s per CPU-s, log and snapshots", One("sim_fabric"), AtLeast(100_000.0)),
    ("Simulated s per CPU-s, authority beats", One("sim_beat"), AtLeast(100_000.0)),
    ("Simulated s per CPU-s, all parts together", One("sim_joint"), AtLeast(100_000.0)),
];

/// What the names of figures do not say: under a name, or what several begin with.
const NOTES: &[(&str, &str)] = &[
    (
        "leases_",
        "at one real `rap-control` over PostgreSQL and NATS, for whose nodes one other process on the \
         same machine speaks. 160 nodes hold 10,000 leases, each some 63 of them, and stand by for as \
         many: renewals over TLS with the node's certificate, which go together in a call as an agent \
         puts them together, signed reports over the bus each second, and the grantor. Missed is what \
         is not answered within the second that an agent waits. The NATS server knows no accounts. \
         `leases_cpu` is the replica's share alone, without the database's.",
    ),
    (
        "table_leases_",
        "in the log's table, without a replica's processes: no request of a node, no signature and \
         no grantor is in it.",
    ),
    (
        "snapshots_",
        "at such a replica, whose policy its owner changes by a request. Each of 10,000 nodes polls as \
         an agent does, hears its doorbell, and fetches what it lacks on the connection that it kept. \
         `snapshots_offered` is until the last doorbell was heard, `snapshots_last` until the last node \
         has its signed snapshot. The process that speaks for the nodes takes its share of the same \
         processors; `snapshots_cpu` is the replica's alone.",
    ),
    (
        "memory_snapshots_last",
        "in memory, without append and request: the change is folded, every snapshot compiled and \
         signed, and none is stored or sent.",
    ),
    (
        "lossy_",
        "100 Mbit/s between entry and relay, of which so many percent of the packets are lost each way; \
         `chosen` is on the carrier that the entry takes for having measured both. The link has no \
         length, so TCP sees a loss soon and feels it little. The aims are ours.",
    ),
    (
        "relay_killed_",
        "somebody types, and bulk runs over the same relay, beside which another is warm. It is killed \
         (SIGKILL) five times in a round: `gap` and `worst` are the longest that an answer took, the \
         median and the worst of the kills, and `left` is the median time from the kill until the lane \
         had another path. The rest is what was lost and came again.",
    ),
    (
        "plain_128",
        "it and `gapless_128` are of 90 connections: the server takes 100, and others need some. \
         `append_128` is of 128 writers over the connections of one log.",
    ),
    (
        "sse_",
        "real TLS connections to a real `rap-control` on the same machine. The bounds are ours: 64 \
         KiB, and the 30 s that a stream may stand still with 5 s to notice it.",
    ),
    ("sim_", "what all seeds of a scenario simulate, over the processor time of all threads."),
    (
        "tcp_bare",
        "with the allocator that our programs have, as `tcp_direct`, and sent from the middle of a page, \
         where glibc copies fast.",
    ),
    ("channel_memory_", "with that allocator, which keeps what was freed for a while."),
    (
        "forward_",
        "programs in the network namespaces of the lab, and `ssh` in the same, whose transfers take turns.",
    ),
    (
        "loopback_",
        "`ssh` between programs that read and write sockets. What it is compared with, `mesh_one_hop` and \
         `tcp_direct`, makes its bytes itself and drops them, which flatters us a little.",
    ),
];

/// What is claimed of.
enum Of {
    Ratio(&'static str, &'static str),
    One(&'static str),
}

enum Target {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) fn write(machine: &str, rounds: usize, figures: &Figures) -> String {
    let mut page = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`: medians of {rounds} interleaved rounds. \
         Compare ratios, not absolute\nfigures: both sides of a ratio ran in turn on the same \
         machine, which had {machine}\n\n"
    );
    let noted: Vec<_> = NOTES.iter().filter(|(name, _)| is_measured(figures, name)).collect();
    page.push_str("| Claim | Measured | Target | |\n|---|---|---|---|\n");
    for (name, of, target) in CLAIMS {
        let (measured, verdict) = match of.measured(figures) {
            Some(Ok(value)) => (format!("{value:.2}"), target.verdict(value).to_owned()),
            Some(Err(reason)) => ("–".to_owned(), format!("skipped: {reason}")),
            None => continue,
        };
        writeln!(page, "| {name} | {measured} | {target} | {verdict} |").expect("to a String");
    }
    let out_of_reach = out_of_reach(figures);
    if !noted.is_empty() || out_of_reach.is_some() {
        page.push_str("\nWhat the names do not say:\n\n");
    }
    for (name, note) in noted {
        let more = if name.ends_with('_') { "…" } else { "" };
        writeln!(page, "- `{name}{more}`: {note}").expect("to a String");
    }
    if let Some(note) = out_of_reach {
        writeln!(page, "- `append_32`: {note}").expect("to a String");
    }
    page.push_str("\n| Figure | Median | Unit | Rounds |\n|---|---|---|---|\n");
    for (name, figure) in figures {
        let rounds: Vec<_> = figure.values.iter().map(|value| format!("{value:.1}")).collect();
        if rounds.is_empty() {
            continue;
        }
        let (median, unit) = (figure.median(), &figure.unit);
        writeln!(page, "| `{name}` | {median:.1} | {unit} | {} |", rounds.join(", "))
            .expect("to a String");
    }
    page
}

/// Why appends of 32 writers cannot be 8 times plain rows, where the disk is too fast for that.
fn out_of_reach(figures: &Figures) -> Option<String> {
    let median = |name: &str| {
        let figure = figures.get(name).filter(|figure| !figure.values.is_empty());
        figure.map(Figure::median)
    };
    let (wanted, commit_ms) = (8.0 * median("plain_32")?, median("commit_p50")?);
    let append_ms = 32.0 / wanted * 1000.0;
    (append_ms < commit_ms).then(|| {
        format!(
            "32 writers, each of whom waits for an append before the next one. To reach 8 times \
             `plain_32` each append would have to be back after {append_ms:.2} ms, sooner than one \
             bare commit (`commit_p50`): on this disk that cannot be."
        )
    })
}

fn is_measured(figures: &Figures, name: &str) -> bool {
    figures.iter().any(|(figure, found)| figure.starts_with(name) && !found.values.is_empty())
}

impl Of {
    /// Or why nothing was measured; `None` when nothing tried to.
    fn measured(&self, figures: &Figures) -> Option<Result<f64, String>> {
        let figure = |name: &str| {
            let figure = figures.get(name)?;
            match &figure.skipped {
                Some(reason) => Some(Err(reason.clone())),
                None => Some(Ok(figure)),
            }
        };
        match self {
            Self::One(name) => Some(figure(name)?.map(Figure::median)),
            Self::Ratio(above, below) => {
                let (above, below) = (figure(above)?, figure(below)?);
                Some(above.and_then(|above| below.map(|below| ratio(above, below))))
            }
        }
    }
}

/// A megabyte is eight megabits; any other two units are the same one.
fn ratio(above: &Figure, below: &Figure) -> f64 {
    let scale = match (above.unit.as_str(), below.unit.as_str()) {
        ("Mbit/s", "MB/s") => 8.0,
        _ => 1.0,
    };
    above.median() / below.median() / scale
}

impl Target {
    fn verdict(&self, value: f64) -> &'static str {
        let reached = match self {
            Self::AtLeast(bound) => value >= *bound,
            Self::AtMost(bound) => value <= *bound,
        };
        if reached { "reached" } else { "**missed**" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_said_plainly() {
        let figure = |value| Figure { values: vec![value], unit: "MB/s".into(), skipped: None };
        let figures = [("mesh_one_hop", 50.0), ("mesh_direct", 100.0)]
            .map(|(name, value)| (name.to_owned(), figure(value)));
        let page = write("two cores.", 1, &figures.into());
        assert!(page.contains("| One blind hop ÷ direct | 0.50 | ≥ 0.6 | **missed** |"), "{page}");
        assert!(!page.contains("ssh"), "a claim without figures is left out");
        assert!(!page.contains("What the names do not say"), "{page}");
    }

    #[test]
    fn bits_and_bytes_are_compared_and_what_a_name_hides_is_said() {
        let figure = |value, unit: &str| Figure {
            values: vec![value],
            unit: unit.to_owned(),
            skipped: None,
        };
        let figures = [
            ("mesh_one_hop", figure(3200.0, "Mbit/s")),
            ("loopback_ssh_j", figure(200.0, "MB/s")),
            ("leases_missed", figure(0.0, "renewals")),
        ];
        let figures = figures.map(|(name, figure)| (name.to_owned(), figure));
        let page = write("two cores.", 1, &figures.into());
        assert!(
            page.contains("÷ `ssh -J`, both on the loopback | 2.00 | ≥ 1.8 | reached |"),
            "{page}"
        );
        assert!(page.contains("renewals missed | 0.00 | ≤ 0 | reached |"), "{page}");
        assert!(page.contains("\n- `leases_…`: at one real `rap-control`"), "{page}");
        assert!(!page.contains("`snapshots_last`"), "{page}");
    }

    #[test]
    fn appends_that_would_have_to_be_faster_than_a_commit_are_said_to_be_out_of_reach() {
        let page = |rows, commit_ms| {
            let figure = |value, unit: &str| Figure {
                values: vec![value],
                unit: unit.into(),
                skipped: None,
            };
            let rows = ("plain_32".to_owned(), figure(rows, "rows/s"));
            let commit = ("commit_p50".to_owned(), figure(commit_ms, "ms"));
            write("two cores.", 1, &[rows, commit].into())
        };
        let said = "\n- `append_32`: 32 writers";
        let fast = page(20_000.0, 0.21);
        assert!(fast.contains(said) && fast.contains("back after 0.20 ms, sooner"), "{fast}");
        for reachable in [page(20_000.0, 0.19), page(f64::NAN, 0.21)] {
            assert!(!reachable.contains("What the names do not say"), "{reachable}");
        }
    }

    #[test]
    fn what_was_skipped_says_why_and_has_no_figure() {
        let skipped = Figure { skipped: Some("no namespaces".into()), ..Figure::default() };
        let figure = Figure { values: vec![12.5], unit: "ms".into(), skipped: None };
        let figures = [("link_input_p99", figure), ("link_bulk_share", skipped)]
            .map(|(name, figure)| (name.to_owned(), figure));
        let page = write("two cores.", 1, &figures.into());
        let missed = "| Input beside bulk at 100 Mbit/s, p99, ms | 12.50 | ≤ 10 | **missed** |";
        assert!(page.contains(missed), "{page}");
        let said = "| Bulk's share of that link, % | – | ≥ 93 | skipped: no namespaces |";
        assert!(page.contains(said), "{page}");
        assert!(!page.contains("`link_bulk_share`"), "{page}");
    }
}
