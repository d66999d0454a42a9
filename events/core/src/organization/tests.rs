#![allow(clippy::unwrap_used)]

use rap_proto::{
    BitRate, Lane,
    bandwidth::{Allowance, BandwidthRule, MAX_BANDWIDTH_RULES, Traffic},
    carriers::CarrierRules,
};

use super::*;
use crate::{
    Aggregate as _,
    aggregate::MAX_TEXT_BYTES,
    tests::{
        given::given,
        samples::{ACME, allowance, bandwidth_rule, carrier_rules, name, quotas, rate},
    },
};

fn created() -> OrganizationEvent {
    OrganizationCreated { organization: ACME, name: name("acme") }.into()
}

fn suspended() -> OrganizationEvent {
    OrganizationSuspended { reason: "unpaid".to_owned() }.into()
}

fn suspend(reason: &str) -> OrganizationCommand {
    OrganizationCommand::Suspend { reason: reason.to_owned() }
}

#[test]
fn an_organization_is_created_once() {
    let create = OrganizationCommand::Create { organization: ACME, name: name("acme") };
    let state = given::<Organization>([]).when(create.clone()).then([created()]);
    assert_eq!((state.organization(), state.standing), (Some(ACME), Standing::Active));
    for events in [vec![created()], vec![created(), OrganizationRemoved {}.into()]] {
        given::<Organization>(events)
            .when(create.clone())
            .rejected(OrganizationRejection::AlreadyExists);
    }
}

#[test]
fn what_is_absent_or_removed_is_not_found() {
    let removed = OrganizationRemoved {};
    let rename = OrganizationCommand::Rename { name: name("b") };
    for command in [rename, suspend("why"), OrganizationCommand::Resume] {
        for events in [vec![], vec![created(), removed.clone().into()]] {
            given::<Organization>(events)
                .when(command.clone())
                .rejected(OrganizationRejection::NotFound);
        }
    }
    let remove = OrganizationCommand::Remove;
    given::<Organization>([]).when(remove.clone()).rejected(OrganizationRejection::NotFound);
    given::<Organization>([created()]).when(remove.clone()).then([removed.clone().into()]);
    given::<Organization>([created(), removed.into()]).when(remove).nothing();
}

#[test]
fn a_rename_to_the_same_name_is_nothing() {
    let rename = |to: &str| OrganizationCommand::Rename { name: name(to) };
    given::<Organization>([created()]).when(rename("acme")).nothing();
    let renamed = OrganizationRenamed { name: name("ltd") };
    let state = given::<Organization>([created()]).when(rename("ltd")).then([renamed.into()]);
    assert_eq!(state.name, Some(name("ltd")));
}

#[test]
fn an_organization_is_suspended_and_resumed() {
    let resume = OrganizationCommand::Resume;
    given::<Organization>([created()]).when(suspend("unpaid")).then([suspended()]);
    given::<Organization>([created(), suspended()]).when(suspend("again")).nothing();
    given::<Organization>([created(), suspended()])
        .when(resume.clone())
        .then([OrganizationResumed {}.into()]);
    given::<Organization>([created()]).when(resume).nothing();
}

#[test]
fn a_reason_is_plain_and_short() {
    let longest = "r".repeat(MAX_TEXT_BYTES);
    for reason in ["two\nlines", "\u{1b}[2J", &format!("{longest}r")] {
        given::<Organization>([created()])
            .when(suspend(reason))
            .rejected(OrganizationRejection::TextNotPlain);
    }
    given::<Organization>([created()])
        .when(suspend(&longest))
        .then([OrganizationSuspended { reason: longest.clone() }.into()]);
}

#[test]
fn quotas_are_set_as_a_whole_and_within_bounds() {
    let set = |quotas| OrganizationCommand::SetQuotas { quotas };
    given::<Organization>([created()]).when(set(Quotas::default())).nothing();
    let state = given::<Organization>([created()])
        .when(set(quotas()))
        .then([OrganizationQuotasSet { quotas: quotas() }.into()]);
    assert_eq!(state.quotas, quotas());
    let greatest = Quotas { nodes: 0, sessions: MAX_QUOTA, ..quotas() };
    given::<Organization>([created()])
        .when(set(greatest))
        .then([OrganizationQuotasSet { quotas: greatest }.into()]);
    for wrong in [
        Quotas { nodes: MAX_QUOTA + 1, ..quotas() },
        Quotas { sessions: MAX_QUOTA + 1, ..quotas() },
        Quotas { events_per_second: 0, ..quotas() },
    ] {
        given::<Organization>([created()])
            .when(set(wrong))
            .rejected(OrganizationRejection::QuotaOutOfRange);
    }
    for events in [vec![], vec![created(), OrganizationRemoved {}.into()]] {
        given::<Organization>(events).when(set(quotas())).rejected(OrganizationRejection::NotFound);
    }
}

fn capped(cap: &str) -> Allowance {
    Allowance { cap: Some(rate(cap)), reserved: None }
}

fn kept(reserved: &str) -> Allowance {
    Allowance { cap: None, reserved: Some(rate(reserved)) }
}

fn on(lane: Lane, allowance: Allowance) -> BandwidthRule {
    BandwidthRule { traffic: Traffic { lane: Some(lane), ..Traffic::default() }, allowance }
}

#[test]
fn carriers_are_ruled_and_taken_back() {
    let rule = |carriers| OrganizationCommand::RuleCarriers { carriers };
    let none = CarrierRules::default();
    given::<Organization>([created()]).when(rule(none)).nothing();
    let ruled = OrganizationCarriersRuled { carriers: carrier_rules() };
    let state =
        given::<Organization>([created()]).when(rule(carrier_rules())).then([ruled.clone().into()]);
    assert_eq!(state.bandwidth.carriers, carrier_rules());
    given::<Organization>([created(), ruled.clone().into()]).when(rule(carrier_rules())).nothing();
    let taken_back = OrganizationCarriersRuled { carriers: none };
    given::<Organization>([created(), ruled.into()]).when(rule(none)).then([taken_back.into()]);
    given::<Organization>([]).when(rule(none)).rejected(OrganizationRejection::NotFound);
}

fn granted(granted: Allowance) -> OrganizationEvent {
    OrganizationBandwidthGranted { granted }.into()
}

#[test]
fn bandwidth_is_granted_ruled_and_taken_back() {
    let grant = |granted| OrganizationCommand::GrantBandwidth { granted };
    let rules = vec![bandwidth_rule()];
    let rule = |rules| OrganizationCommand::RuleBandwidth { rules };
    given::<Organization>([created()]).when(grant(Allowance::default())).nothing();
    given::<Organization>([created()]).when(rule(Vec::new())).nothing();
    given::<Organization>([created()]).when(grant(allowance())).then([granted(allowance())]);
    let ruled = OrganizationBandwidthRuled { rules: rules.clone() };
    let state =
        given::<Organization>([created()]).when(rule(rules.clone())).then([ruled.clone().into()]);
    assert_eq!(state.bandwidth.rules, rules);
    let given_both = [created(), granted(allowance()), ruled.into()];
    given::<Organization>(given_both.clone()).when(rule(rules)).nothing();
    given::<Organization>(given_both.clone())
        .when(grant(Allowance::default()))
        .then([granted(Allowance::default())]);
    let none = OrganizationBandwidthRuled { rules: Vec::new() };
    given::<Organization>(given_both).when(rule(Vec::new())).then([none.into()]);
    given::<Organization>([]).when(grant(allowance())).rejected(OrganizationRejection::NotFound);
}

#[test]
fn the_platform_may_grant_less_than_rules_say() {
    let ruled = OrganizationBandwidthRuled { rules: vec![on(Lane::Bulk, capped("20mbit"))] };
    given::<Organization>([created(), ruled.into()])
        .when(OrganizationCommand::GrantBandwidth { granted: capped("1mbit") })
        .then([granted(capped("1mbit"))]);
}

#[test]
fn rules_beyond_a_lower_grant_are_lowered_and_removed_one_by_one_and_never_raised() {
    let (bulk, interactive) = (Lane::Bulk, Lane::Interactive);
    let both = |one, other| vec![on(bulk, one), on(interactive, other)];
    let caps = both(capped("20mbit"), capped("30mbit"));
    let reserves = both(kept("5mbit"), kept("6mbit"));
    let grant = capped("10mbit");
    for left in [&caps[..1], &caps[1..], &both(capped("15mbit"), capped("30mbit"))[..]] {
        assert_eq!(check_bandwidth(&grant, &caps, left), Ok(()));
    }
    for left in [&reserves[..1], &reserves[..], &both(kept("5mbit"), kept("5500kbit"))[..]] {
        assert_eq!(check_bandwidth(&grant, &reserves, left), Ok(()));
    }
    let fault = |field| {
        Err(BandwidthFault {
            rule: Some(1),
            field,
            rejection: OrganizationRejection::BandwidthAboveGrant,
        })
    };
    let raised = both(capped("20mbit"), capped("31mbit"));
    assert_eq!(check_bandwidth(&grant, &caps, &raised), fault("cap"));
    let raised = both(kept("5mbit"), kept("7mbit"));
    assert_eq!(check_bandwidth(&grant, &reserves, &raised), fault("reserved"));
}

#[test]
fn a_faulty_bandwidth_rule_is_named_with_its_field() {
    use OrganizationRejection as R;
    let (bulk, interactive) = (Lane::Bulk, Lane::Interactive);
    let sound = on(bulk, capped("1mbit"));
    let each = BandwidthRule { allowance: kept("1mbit"), ..bandwidth_rule() };
    let gives_way =
        Traffic { lane: Some(interactive), while_interactive: true, ..Traffic::default() };
    let gives_way = BandwidthRule { traffic: gives_way, allowance: capped("1mbit") };
    let contradiction = Allowance { cap: Some(rate("1mbit")), reserved: Some(rate("2mbit")) };
    let cases: [(Vec<BandwidthRule>, usize, &str, R); 7] = [
        (vec![sound, sound], 1, "traffic", R::BandwidthRuleTwice),
        (vec![on(bulk, Allowance::default())], 0, "cap", R::BandwidthSaysNothing),
        (vec![sound, on(interactive, contradiction)], 1, "reserved", R::ReserveAboveCap),
        (vec![each], 0, "reserved", R::ReserveForMany),
        (vec![gives_way], 0, "lane", R::OnlyBulkGivesWay),
        (vec![on(bulk, capped("21mbit"))], 0, "cap", R::BandwidthAboveGrant),
        (
            vec![on(bulk, kept("11mbit")), on(interactive, kept("10mbit"))],
            1,
            "reserved",
            R::BandwidthAboveGrant,
        ),
    ];
    for (rules, rule, field, rejection) in cases {
        let fault = BandwidthFault { rule: Some(rule), field, rejection };
        assert_eq!(check_bandwidth(&capped("20mbit"), &[], &rules), Err(fault));
        given::<Organization>([created(), granted(capped("20mbit"))])
            .when(OrganizationCommand::RuleBandwidth { rules })
            .rejected(rejection);
    }
    let together = [on(bulk, kept("11mbit")), on(interactive, kept("9mbit"))];
    assert_eq!(check_bandwidth(&capped("20mbit"), &[], &together), Ok(()));
}

#[test]
fn an_organization_has_so_many_bandwidth_rules() {
    let rule = |number: usize| {
        let resource = Some(rap_proto::ResourceId::from_u128(number as u128));
        let traffic = Traffic { resource, ..Traffic::default() };
        BandwidthRule { traffic, allowance: capped("1mbit") }
    };
    let most: Vec<_> = (0..MAX_BANDWIDTH_RULES).map(rule).collect();
    assert_eq!(check_bandwidth(&Allowance::default(), &[], &most), Ok(()));
    let more: Vec<_> = (0..=MAX_BANDWIDTH_RULES).map(rule).collect();
    let fault = BandwidthFault {
        rule: None,
        field: "rules",
        rejection: OrganizationRejection::TooManyBandwidthRules,
    };
    assert_eq!(check_bandwidth(&Allowance::default(), &[], &more), Err(fault));
}

#[test]
fn no_stored_rate_is_out_of_range() {
    for text in ["7", "100000000001", "18446744073709551615"] {
        let rate: BitRate = serde_json::from_str(text).unwrap();
        let (cap, reserved) = (Some(rate), Some(rate));
        let cases = [
            (Allowance { cap, reserved: None }, "cap"),
            (Allowance { cap: None, reserved }, "reserved"),
        ];
        for (granted, field) in cases {
            let rejection = OrganizationRejection::BandwidthOutOfRange;
            let fault = BandwidthFault { rule: None, field, rejection };
            assert_eq!(check_grant(&granted), Err(fault));
            given::<Organization>([created()])
                .when(OrganizationCommand::GrantBandwidth { granted })
                .rejected(rejection);
        }
    }
}
