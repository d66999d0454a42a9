//! A table of what administrators ask for, and what comes of it.

use rap_proto::bandwidth::Each;

use super::{
    load::{Load, Wants},
    *,
};

const SECOND: u64 = 1_000_000;

#[derive(Clone)]
struct Scenario {
    what: &'static str,
    policy: Bandwidth,
    flows: Vec<Wants>,
    /// Kilobytes per second that each gets, at least and at most.
    expected: Vec<(usize, usize)>,
}

fn wants(of: FlowOf) -> Wants {
    Wants { of, piece: 16_000 }
}

fn interactive(number: u128) -> Wants {
    wants(flow(number, Lane::Interactive))
}

fn media(number: u128) -> Wants {
    wants(flow(number, Lane::Media))
}

fn bulk(number: u128) -> Wants {
    wants(flow(number, Lane::Bulk))
}

fn on(lane: Lane) -> Traffic {
    Traffic { lane: Some(lane), ..Traffic::default() }
}

fn each(each: Each) -> Traffic {
    Traffic { each: Some(each), ..Traffic::default() }
}

fn of(user: u128) -> Traffic {
    Traffic { user: Some(UserId::from_u128(user)), ..Traffic::default() }
}

/// 8mbit are 1,000 kB/s.
fn granted() -> Allowance {
    cap("8mbit")
}

fn caps_and_turns() -> Vec<Scenario> {
    vec![
        Scenario {
            what: "an organization's cap is shared by its sessions",
            policy: acme(granted(), &[]),
            flows: vec![bulk(1), bulk(2)],
            expected: vec![(450, 550), (450, 550)],
        },
        Scenario {
            what: "one session with many flows has one session's share",
            policy: acme(granted(), &[]),
            flows: vec![bulk(1), bulk(2), bulk(2), bulk(2)],
            expected: vec![(450, 550), (140, 190), (140, 190), (140, 190)],
        },
        Scenario {
            what: "bulk is capped and leaves the rest",
            policy: acme(granted(), &[rule(on(Lane::Bulk), cap("2mbit"))]),
            flows: vec![bulk(1), interactive(2)],
            expected: vec![(55, 255), (745, 945)],
        },
        Scenario {
            what: "interactive goes before bulk, which keeps its floor",
            policy: acme(granted(), &[]),
            flows: vec![interactive(1), bulk(2)],
            expected: vec![(920, 950), (55, 75)],
        },
        Scenario {
            what: "each user has a cap of its own",
            policy: acme(granted(), &[rule(each(Each::User), cap("800kbit"))]),
            flows: vec![bulk(1), bulk(1), bulk(2)],
            expected: vec![(45, 56), (45, 56), (95, 105)],
        },
        Scenario {
            what: "a session that two full caps hold has its share of both",
            policy: acme(
                Allowance::default(),
                &[rule(on(Lane::Bulk), cap("2mbit")), rule(of(1), cap("2mbit"))],
            ),
            // The second fills the cap of bulk, the third the one of the first's user.
            flows: vec![bulk(1), bulk(2), interactive(1)],
            expected: vec![(10, 130), (120, 245), (185, 245)],
        },
    ]
}

fn reserves_and_organizations() -> Vec<Scenario> {
    let of_zulu = Wants { of: FlowOf { organization: ZULU, ..flow(9, Lane::Bulk) }, piece: 16_000 };
    let said = |granted| OrganizationBandwidth { granted, ..Default::default() };
    let two = |acme, zulu| Bandwidth {
        node: Some(rate("8mbit")),
        organizations: [(ACME, said(acme)), (ZULU, said(zulu))].into(),
        ..Bandwidth::default()
    };
    vec![
        Scenario {
            what: "what is reserved for bulk is not taken by interactive",
            policy: acme(granted(), &[rule(on(Lane::Bulk), reserved("2mbit"))]),
            flows: vec![interactive(1), bulk(2)],
            expected: vec![(650, 760), (240, 350)],
        },
        Scenario {
            what: "where less was granted than is reserved, who has no reserve passes too",
            policy: acme(
                granted(),
                &[rule(of(1), reserved("12mbit")), rule(of(2), reserved("4mbit"))],
            ),
            flows: vec![bulk(1), bulk(2), bulk(3)],
            expected: vec![(660, 760), (210, 290), (10, 75)],
        },
        Scenario {
            what: "two organizations share a node alike, however many flows each has",
            policy: two(Allowance::default(), Allowance::default()),
            flows: vec![bulk(1), bulk(2), bulk(3), of_zulu],
            expected: vec![(120, 210), (120, 210), (120, 210), (420, 580)],
        },
        Scenario {
            what: "what the platform keeps for an organization is its own",
            policy: two(Allowance::default(), reserved("6mbit")),
            flows: vec![bulk(1), of_zulu],
            expected: vec![(50, 250), (745, 950)],
        },
    ]
}

fn bulk_that_gives_way() -> Vec<Scenario> {
    let quiet = Wants { piece: 0, ..interactive(1) };
    let gives_way = Traffic { while_interactive: true, ..each(Each::Session) };
    vec![
        Scenario {
            what: "bulk gives way in a session that is interactive, and in no other",
            policy: acme(granted(), &[rule(gives_way, cap("800kbit"))]),
            flows: vec![quiet, bulk(1), bulk(2)],
            expected: vec![(0, 0), (90, 105), (880, 910)],
        },
        Scenario {
            what: "bulk that nobody interactive is beside goes on",
            policy: acme(granted(), &[rule(gives_way, cap("800kbit"))]),
            flows: vec![bulk(1)],
            expected: vec![(950, 1_010)],
        },
    ]
}

fn three_lanes() -> Vec<Scenario> {
    let quiet = Wants { piece: 0, ..media(1) };
    let gives_way = Traffic { while_interactive: true, ..each(Each::Session) };
    vec![
        Scenario {
            what: "media goes before bulk, which keeps its floor",
            policy: acme(granted(), &[]),
            flows: vec![media(1), bulk(2)],
            expected: vec![(920, 950), (55, 75)],
        },
        Scenario {
            what: "interactive goes before media, which keeps its floor",
            policy: acme(granted(), &[]),
            flows: vec![interactive(1), media(2)],
            expected: vec![(920, 950), (55, 75)],
        },
        Scenario {
            what: "each lower lane has its floor, and bulk's is not of what media leaves",
            policy: acme(granted(), &[]),
            flows: vec![interactive(1), media(2), bulk(3)],
            expected: vec![(855, 905), (45, 75), (50, 75)],
        },
        Scenario {
            what: "media that is capped leaves the rest to bulk",
            policy: acme(granted(), &[rule(on(Lane::Media), cap("2mbit"))]),
            flows: vec![media(1), bulk(2)],
            expected: vec![(200, 255), (745, 810)],
        },
        Scenario {
            what: "bulk gives way to interactive and not to media",
            policy: acme(granted(), &[rule(gives_way, cap("800kbit"))]),
            flows: vec![quiet, bulk(1)],
            expected: vec![(0, 0), (950, 1_010)],
        },
    ]
}

#[test]
fn what_administrators_ask_for_comes_about() {
    let scenarios =
        [caps_and_turns(), reserves_and_organizations(), bulk_that_gives_way(), three_lanes()];
    for Scenario { what, policy, flows, expected } in scenarios.concat() {
        let mut load = Load::new(policy, &flows);
        load.run_until(5 * SECOND);
        for (flow, (least, most)) in expected.into_iter().enumerate() {
            let kilobytes = load.bytes(SECOND, 5 * SECOND, |at| at == flow) / 4_000;
            assert!((least..=most).contains(&kilobytes), "{what}: {flow} has {kilobytes} kB/s");
        }
    }
}
