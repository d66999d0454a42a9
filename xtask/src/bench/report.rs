//! The page that `cargo xtask bench` writes.

use std::fmt::{self, Write as _};

use crate::bench::Figures;
use Of::{One, Ratio};
use Target::{AtLeast, AtMost};

/// A claim: one figure, or one over another, and what it should reach. `AtMost` is for times and
/// costs.
const CLAIMS: &[(&str, Of, Target)] = &[
    ("One lane, direct ÷ stock quinn", Ratio("mesh_direct", "mesh_stock_quinn"), AtLeast(0.95)),
    ("One blind hop ÷ direct", Ratio("mesh_one_hop", "mesh_direct"), AtLeast(0.6)),
    ("Two blind hops ÷ direct", Ratio("mesh_two_hops", "mesh_direct"), AtLeast(0.45)),
    (
        "One blind hop, relay's CPU/GB ÷ sender's",
        Ratio("mesh_relay_cpu", "mesh_sender_cpu"),
        AtMost(0.6),
    ),
    ("`tcp` direct ÷ bare TLS over TCP", Ratio("tcp_direct", "tcp_bare"), AtLeast(0.85)),
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
    ("Memory of a channel on `quic`, KiB", One("channel_memory_quic"), AtMost(64.0)),
    ("Memory of a channel on `tcp`, KiB", One("channel_memory_tcp"), AtMost(64.0)),
    ("Route decision, kept, µs", One("route_cached"), AtMost(1.0)),
    ("Route decision, 1,000 relays, first for a target, µs", One("route_first"), AtMost(50.0)),
    ("Route decision, 1,000 relays scored anew, µs", One("route_anew"), AtMost(50.0)),
    ("Agent idle, memory, MB", One("agent_idle_memory"), AtMost(40.0)),
    ("Agent idle, % of a core", One("agent_idle_cpu"), AtMost(1.0)),
    ("TCP forward, one node ÷ `ssh -L`", Ratio("forward_one_node", "forward_ssh_l"), AtLeast(1.8)),
    ("TCP forward, two nodes ÷ `ssh -L`", Ratio("forward_direct", "forward_ssh_l"), AtLeast(1.2)),
    ("`tcp` one hop ÷ `ssh -J`", Ratio("forward_one_hop", "forward_ssh_j"), AtLeast(3.0)),
    ("`quic` one hop ÷ `ssh -J`", Ratio("forward_one_hop_quic", "forward_ssh_j"), AtLeast(1.8)),
    ("Session open ÷ `ssh -J` connect", Ratio("open_session", "open_ssh_j"), AtMost(0.4)),
    ("Append ÷ plain rows, 1 writer", Ratio("append_1", "plain_1"), AtLeast(0.67)),
    ("Append ÷ plain rows, 8 writers", Ratio("append_8", "plain_8"), AtLeast(1.0)),
    ("Append ÷ plain rows, 32 writers", Ratio("append_32", "plain_32"), AtLeast(8.0)),
    ("Append ÷ plain rows, 128 writers", Ratio("append_128", "plain_128"), AtLeast(8.0)),
    ("Append ÷ gapless rows, 1 writer", Ratio("append_1", "gapless_1"), AtLeast(0.67)),
    ("Append ÷ gapless rows, 32 writers", Ratio("append_32", "gapless_32"), AtLeast(8.0)),
    ("Append ÷ gapless rows, 128 writers", Ratio("append_128", "gapless_128"), AtLeast(8.0)),
    ("One append ÷ a bare commit, median", Ratio("append_p50", "commit_p50"), AtMost(1.5)),
    ("One append ÷ a bare commit, 99 %", Ratio("append_p99", "commit_p99"), AtMost(1.5)),
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
    page.push_str("| Claim | Measured | Target | |\n|---|---|---|---|\n");
    for (name, of, target) in CLAIMS {
        let (measured, verdict) = match of.measured(figures) {
            Some(Ok(value)) => (format!("{value:.2}"), target.verdict(value).to_owned()),
            Some(Err(reason)) => ("–".to_owned(), format!("skipped: {reason}")),
            None => continue,
        };
        writeln!(page, "| {name} | {measured} | {target} | {verdict} |").expect("to a String");
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

impl Of {
    /// Or why nothing was measured; `None` when nothing tried to.
    fn measured(&self, figures: &Figures) -> Option<Result<f64, String>> {
        let median = |name: &str| {
            let figure = figures.get(name)?;
            match &figure.skipped {
                Some(reason) => Some(Err(reason.clone())),
                None => Some(Ok(figure.median())),
            }
        };
        match self {
            Self::One(name) => median(name),
            Self::Ratio(above, below) => {
                let (above, below) = (median(above)?, median(below)?);
                Some(above.and_then(|above| below.map(|below| above / below)))
            }
        }
    }
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
    use crate::bench::Figure;

    #[test]
    fn a_missed_target_is_said_plainly() {
        let figure = |value| Figure { values: vec![value], unit: "MB/s".into(), skipped: None };
        let figures = [("mesh_one_hop", 50.0), ("mesh_direct", 100.0)]
            .map(|(name, value)| (name.to_owned(), figure(value)));
        let page = write("two cores.", 1, &figures.into());
        assert!(page.contains("| One blind hop ÷ direct | 0.50 | ≥ 0.6 | **missed** |"), "{page}");
        assert!(!page.contains("ssh"), "a claim without figures is left out");
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
