//! What the command line says of carriers: a line of `status`, and the part of `why`.

use rap_node_agent::{CarrierMeasured, CarrierReport};
use rap_proto::{NodeId, carriers::CarrierRuling};

/// How many lanes take which carrier, as `status` shows it.
pub(super) fn summary(carriers: &[CarrierReport]) -> String {
    let count = |carrier: &str| {
        carriers.iter().filter(|report| report.carrier.as_deref() == Some(carrier)).count()
    };
    let sum = |part: fn(&CarrierReport) -> u64| carriers.iter().map(part).sum::<u64>();
    format!(
        "{} lanes take quic, {} tcp; {} changes, {} trials",
        count("quic"),
        count("tcp"),
        sum(|report| report.changes),
        sum(|report| report.trials)
    )
}

/// What the lanes to an egress take, and why.
pub(super) fn lines(carriers: &[CarrierReport], egress: NodeId) -> String {
    carriers.iter().filter(|report| report.egress == egress).map(line).collect()
}

fn line(report: &CarrierReport) -> String {
    let CarrierReport { lane, ruling, quic, tcp, .. } = report;
    if *ruling == CarrierRuling::Neither {
        let why = "the platform's rule forbids one carrier, and the organization's the other one";
        return format!("\n  lane {lane} takes none: {why}");
    }
    let Some(carrier) = &report.carrier else { return String::new() };
    let why = match report.reason.as_deref() {
        None | Some("prior") => "it suits the lane".to_owned(),
        Some("policy") => match ruling {
            CarrierRuling::Auto => "it was ruled".to_owned(),
            ruling => format!("what is ruled is {ruling}"),
        },
        Some("measured") => "by what was measured".to_owned(),
        Some("trial") => "to measure it".to_owned(),
        Some("failed") => "the other one did not get through".to_owned(),
        Some(other) => other.to_owned(),
    };
    let known: String = [("quic", quic), ("tcp", tcp)]
        .into_iter()
        .filter(|(_, measured)| **measured != CarrierMeasured::default())
        .map(|(carrier, measured)| format!("; {carrier}: {}", said(measured)))
        .collect();
    format!("\n  lane {lane} takes {carrier}: {why}{known}")
}

fn said(measured: &CarrierMeasured) -> String {
    let rate = |bits: u64| format!("{}.{} Mbit/s", bits / 1_000_000, bits / 100_000 % 10);
    let parts = [
        measured.up_bits_per_second.map(|bits| format!("{} up", rate(bits))),
        measured.down_bits_per_second.map(|bits| format!("{} down", rate(bits))),
        measured.opened_us.map(|us| format!("opens in {}.{:03} ms", us / 1_000, us % 1_000)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(carrier: &str, reason: &str) -> CarrierReport {
        CarrierReport {
            egress: NodeId::from_u128(7),
            lane: rap_proto::Lane::Bulk,
            carrier: Some(carrier.to_owned()),
            reason: Some(reason.to_owned()),
            ruling: CarrierRuling::Auto,
            quic: CarrierMeasured::default(),
            tcp: CarrierMeasured::default(),
            changes: 1,
            trials: 2,
        }
    }

    #[test]
    fn why_says_what_was_measured_of_either_carrier() {
        let quic = CarrierMeasured {
            up_bits_per_second: None,
            down_bits_per_second: Some(41_260_000),
            opened_us: Some(12_034),
        };
        let tcp = CarrierMeasured { down_bits_per_second: Some(900_000), ..Default::default() };
        let measured = CarrierReport { quic, tcp, ..report("quic", "measured") };
        let said = lines(&[measured, report("tcp", "prior")], NodeId::from_u128(7));
        let first = "lane bulk takes quic: by what was measured; \
                     quic: 41.2 Mbit/s down, opens in 12.034 ms; tcp: 0.9 Mbit/s down";
        let both = format!("\n  {first}\n  lane bulk takes tcp: it suits the lane");
        assert_eq!(said, both);
        assert_eq!(lines(&[report("tcp", "prior")], NodeId::from_u128(8)), "");
    }

    #[test]
    fn a_rule_and_a_carrier_that_fails_are_named() {
        let ruling = CarrierRuling::TcpOnly;
        let said = line(&CarrierReport { ruling, ..report("tcp", "policy") });
        assert!(said.ends_with("what is ruled is tcp-only"), "{said}");
        let ruling = CarrierRuling::Neither;
        let said = line(&CarrierReport { ruling, carrier: None, ..report("tcp", "prior") });
        assert!(said.starts_with("\n  lane bulk takes none: the platform's rule"), "{said}");
        let said = line(&report("quic", "failed"));
        assert!(said.ends_with("the other one did not get through"), "{said}");
        assert_eq!(line(&CarrierReport { carrier: None, ..report("", "") }), "");
    }

    #[test]
    fn the_summary_counts_lanes() {
        let carriers = [report("tcp", "prior"), report("quic", "trial"), report("tcp", "policy")];
        let said = "1 lanes take quic, 2 tcp; 3 changes, 6 trials";
        assert_eq!(summary(&carriers), said);
    }
}
