//! The page that `cargo xtask bench` writes.

use std::fmt::Write as _;

use crate::bench::Figures;

/// A claim: one figure over another, and what it should reach. `AtMost` is for times.
const CLAIMS: &[(&str, &str, &str, Target)] = &[
    ("One lane, direct ÷ stock quinn", "mesh_direct", "mesh_stock_quinn", Target::AtLeast(0.9)),
    ("One blind hop ÷ direct", "mesh_one_hop", "mesh_direct", Target::AtLeast(0.6)),
    ("Two blind hops ÷ direct", "mesh_two_hops", "mesh_direct", Target::AtLeast(0.45)),
    ("TCP forward, one node ÷ `ssh -L`", "forward_one_node", "forward_ssh_l", Target::AtLeast(1.1)),
    ("TCP forward, two nodes ÷ `ssh -L`", "forward_direct", "forward_ssh_l", Target::AtLeast(1.1)),
    ("TCP forward, one hop ÷ `ssh -J`", "forward_one_hop", "forward_ssh_j", Target::AtLeast(1.6)),
    ("Session open ÷ `ssh -J` connect", "open_session", "open_ssh_j", Target::AtMost(0.5)),
    ("Append ÷ plain rows, 1 writer", "append_1", "plain_1", Target::AtLeast(0.67)),
    ("Append ÷ plain rows, 8 writers", "append_8", "plain_8", Target::AtLeast(1.0)),
    ("Append ÷ plain rows, 32 writers", "append_32", "plain_32", Target::AtLeast(8.0)),
    ("Append ÷ plain rows, 128 writers", "append_128", "plain_128", Target::AtLeast(8.0)),
    ("Append ÷ gapless rows, 1 writer", "append_1", "gapless_1", Target::AtLeast(0.67)),
    ("Append ÷ gapless rows, 32 writers", "append_32", "gapless_32", Target::AtLeast(8.0)),
    ("Append ÷ gapless rows, 128 writers", "append_128", "gapless_128", Target::AtLeast(8.0)),
    ("One append ÷ a bare commit, median", "append_p50", "commit_p50", Target::AtMost(1.5)),
    ("One append ÷ a bare commit, 99 %", "append_p99", "commit_p99", Target::AtMost(1.5)),
];

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
    page.push_str("| Ratio | Measured | Target | |\n|---|---|---|---|\n");
    for (name, above, below, target) in CLAIMS {
        let ratio = match (figures.get(*above), figures.get(*below)) {
            (Some(above), Some(below)) => above.median() / below.median(),
            _ => continue,
        };
        let (bound, reached) = match target {
            Target::AtLeast(bound) => (format!("≥ {bound}"), ratio >= *bound),
            Target::AtMost(bound) => (format!("≤ {bound}"), ratio <= *bound),
        };
        let verdict = if reached { "reached" } else { "**missed**" };
        writeln!(page, "| {name} | {ratio:.2} | {bound} | {verdict} |").expect("to a String");
    }
    page.push_str("\n| Figure | Median | Unit | Rounds |\n|---|---|---|---|\n");
    for (name, figure) in figures {
        let rounds: Vec<_> = figure.values.iter().map(|value| format!("{value:.1}")).collect();
        let (median, unit) = (figure.median(), &figure.unit);
        writeln!(page, "| `{name}` | {median:.1} | {unit} | {} |", rounds.join(", "))
            .expect("to a String");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Figure;

    #[test]
    fn a_missed_target_is_said_plainly() {
        let figure = |value| Figure { values: vec![value], unit: "MB/s".into() };
        let figures = [("mesh_one_hop", 50.0), ("mesh_direct", 100.0)]
            .map(|(name, value)| (name.to_owned(), figure(value)));
        let page = write("two cores.", 1, &figures.into());
        assert!(page.contains("| One blind hop ÷ direct | 0.50 | ≥ 0.6 | **missed** |"), "{page}");
        assert!(!page.contains("ssh"), "a claim without figures is left out");
    }
}
