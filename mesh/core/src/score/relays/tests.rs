#![allow(clippy::unwrap_used)]
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use rap_proto::{
    ClusterId, Lane, LaneSet, NodeRole, Preference,
    snapshot::{Peer, Place, Places, RoleScope},
};

use super::*;
use crate::{
    many_relays::{self, forwarding},
    score::{Constraint, Finding, Learned},
};

pub(in crate::score) const ACME: OrganizationId = OrganizationId::from_u128(1);
const TARGET: NodeId = NodeId::from_u128(900);

pub(in crate::score) fn relay(number: u128) -> NodeId {
    NodeId::from_u128(100 + number)
}

pub(in crate::score) fn view(denied: &[NodeId]) -> View {
    view_of(8, denied)
}

pub(in crate::score) fn view_of(relays: u128, denied: &[NodeId]) -> View {
    placed(relays, denied, Places::default())
}

fn placed(relays: u128, denied: &[NodeId], places: Places) -> View {
    assigned(relays, denied, places, |_| vec![scope(NodeRole::RelayNode, None)])
}

fn scope(role: NodeRole, organization: Option<OrganizationId>) -> RoleScope {
    RoleScope { role, organizations: organization.map(|one| BTreeSet::from([one])) }
}

/// With these roles of each relay.
fn assigned(
    relays: u128,
    denied: &[NodeId],
    places: Places,
    roles: impl Fn(u128) -> Vec<RoleScope>,
) -> View {
    let peer = |number| Peer { roles: roles(number), ..forwarding(relay(number), None) };
    let (peers, denied) = ((0..relays).map(peer).collect(), denied.iter().copied().collect());
    many_relays::view_of(peers, denied, places)
}

pub(in crate::score) fn known(
    view: &View,
    number: u128,
    rtt_us: u32,
    reliability: u16,
) -> (NodeId, Candidate<'static>) {
    let measured =
        Measured { rtt_us: Some(rtt_us), reliability: Some(reliability), ..Measured::default() };
    let candidate = Candidate {
        cluster: view.cluster,
        certificate_until: Some(Timestamp::from_unix_millis(5_000)),
        ..many_relays::known(relay(number), measured)
    };
    (relay(number), candidate)
}

fn question<'a>(view: &'a View, known: &'a Known) -> RelayQuestion<'a> {
    let now = Timestamp::from_unix_millis(2_000);
    let (organization, class) = (ACME, ChannelClass::Interactive);
    RelayQuestion { view, known, organization, class, purpose: Use::New, now }
}

fn known_of(known: impl IntoIterator<Item = (NodeId, Candidate<'static>)>) -> Known {
    known.into_iter().collect::<BTreeMap<_, _>>().into()
}

fn nodes(order: Vec<Ranked>) -> Vec<NodeId> {
    order.into_iter().map(|ranked| ranked.node).collect()
}

#[test]
fn what_was_measured_decides_and_the_view_says_who_is_a_relay() {
    let view = view(&[relay(2)]);
    // The best of all is denied, and one that was measured is no relay any more.
    let known = known_of([
        known(&view, 2, 10, 1_000),
        known(&view, 5, 2_000, 1_000),
        known(&view, 6, 200_000, 100),
        known(&view, 50, 10, 1_000),
    ]);
    let order = nodes(question(&view, &known).scores().order(TARGET));
    assert_eq!(order.len(), 7);
    assert_eq!((order[0], order[6]), (relay(5), relay(6)));
    assert!(!order.contains(&relay(2)) && !order.contains(&relay(50)));
}

#[test]
fn what_runs_goes_on_over_a_relay_whose_certificate_was_another_one_by_now() {
    let view = view(&[]);
    let known = known_of([known(&view, 5, 2_000, 1_000)]);
    let later = Timestamp::from_unix_millis(5_001);
    let new = RelayQuestion { now: later, ..question(&view, &known) };
    assert!(!nodes(new.scores().order(TARGET)).contains(&relay(5)));
    let running = RelayQuestion { purpose: Use::Running, ..new };
    assert!(nodes(running.scores().order(TARGET)).contains(&relay(5)));
}

#[test]
fn the_view_alone_says_over_whom_a_lane_may_lead() {
    let view = view(&[relay(2)]);
    assert!(view.may_lead_over(&[relay(5), relay(6)], ACME, Lane::Bulk));
    assert!(!view.may_lead_over(&[relay(5), relay(2)], ACME, Lane::Bulk), "denied");
    assert!(!view.may_lead_over(&[relay(50)], ACME, Lane::Bulk), "no peer");
    assert!(!view.may_lead_over(&[view.node], ACME, Lane::Bulk));
}

#[test]
fn chains_are_made_of_the_first_relays_of_an_order_alone() {
    let (view, known) = (view_of(1_000, &[relay(2)]), Known::default());
    let question = question(&view, &known);
    let order = question.scores().order(TARGET);
    let chains = question.chains(&order);
    assert_eq!(chains.len(), chains::MAX_CHAINS.iter().map(|(_, most)| most).sum::<usize>());
    let best = nodes(order[..chains::MAX_RELAYS].to_vec());
    for ranked in &chains {
        assert!(ranked.chain.relays().iter().all(|node| best.contains(node)), "{ranked:?}");
    }
    assert!(question.chains(&order[..1]).is_empty(), "one relay makes no chain");
}

#[test]
fn relays_of_the_same_worth_share_the_targets() {
    let (view, known) = (view(&[]), Known::default());
    let question = question(&view, &known);
    let first = |target| question.scores().order(NodeId::from_u128(target))[0].node;
    let firsts: BTreeSet<NodeId> = (1_000..1_064).map(first).collect();
    assert!(firsts.len() > 4, "one relay carries everything: {firsts:?}");
    assert_eq!(first(1_000), first(1_000));
    assert_eq!(question.scores().order(relay(3)).len(), 7, "a target is never its own relay");
}

#[test]
fn an_isolated_node_and_a_certificate_that_is_over_lead_nowhere() {
    let mut view = view(&[]);
    let known = known_of([known(&view, 1, 1_000, 1_000)]);
    let mut question = question(&view, &known);
    question.now = Timestamp::from_unix_millis(6_000);
    let finding = |question: &RelayQuestion<'_>| {
        let all = question.explain();
        all.iter().find(|one| one.node == relay(1)).unwrap().finding
    };
    assert_eq!(finding(&question), Finding::Excluded(Constraint::CertificateValidity));
    assert_eq!(question.scores().order(TARGET).len(), 7);
    view.authority = Authority::Isolated { since: Timestamp::default() };
    let question = RelayQuestion { view: &view, ..self::question(&view, &known) };
    assert_eq!(question.scores().order(TARGET), []);
    assert_eq!(finding(&question), Finding::Excluded(Constraint::AuthorityState));
    let running = RelayQuestion { purpose: Use::Running, ..question };
    assert_eq!(running.scores().order(TARGET).len(), 8, "what runs keeps its relays");
}

#[test]
fn an_order_is_bounded_and_holds_the_best() {
    let many = MAX_ORDERED as u128 + 40;
    let view = view_of(many, &[]);
    let known = (0..many).map(|number| known(&view, number, 1_000 * number as u32, 1_000));
    let known = known_of(known);
    let order = question(&view, &known).scores().order(TARGET);
    assert_eq!(order.len(), MAX_ORDERED);
    let worst = order.last().unwrap().total;
    let all = question(&view, &known).explain();
    let better = all.iter().filter(|one| match one.finding {
        Finding::Scored { total, .. } => total / NEARLY_THE_SAME > worst / NEARLY_THE_SAME,
        Finding::Excluded(_) => false,
    });
    assert!(better.count() < MAX_ORDERED, "a better one was left out");
    assert!(order.is_sorted_by_key(|one| Reverse(one.total / NEARLY_THE_SAME)));
}

/// The relays in their order, when the snapshot says this of places and nothing was measured.
fn order_of(places: &[(NodeId, Place)]) -> Vec<Ranked> {
    let view = placed(8, &[], Places { nodes: places.iter().cloned().collect() });
    let known = Known::default();
    let question = RelayQuestion {
        view: &view,
        known: &known,
        organization: ACME,
        class: ChannelClass::Interactive,
        purpose: Use::New,
        now: Timestamp::from_unix_millis(1_000),
    };
    question.scores().order(TARGET)
}

fn region(name: &str) -> Place {
    Place { region: Some(name.parse().unwrap()), ..Place::default() }
}

#[test]
fn a_relay_of_the_own_region_comes_first_and_one_nearby_is_worth_more_than_one_far_away() {
    let far = |number| (relay(number), region("us-east"));
    let mut places: Vec<_> = (0..8).map(far).collect();
    places[3].1 = region("eu-north");
    places[5].1 = region("eu-west");
    places.push((NodeId::from_u128(1), region("eu-west")));
    let order = order_of(&places);
    assert_eq!(order[0].node, relay(5));
    let total = |number| order.iter().find(|ranked| ranked.node == relay(number)).unwrap().total;
    assert!(total(5) > total(3) && total(3) > total(0), "{order:?}");
    // Where the node itself is nobody knows, so no region is nearer than another.
    places.pop();
    assert_eq!(order_of(&places), order_of(&[]));
}

#[test]
fn a_preferred_relay_comes_first_and_one_that_is_avoided_or_draining_last() {
    let preferring = |preference| Place { preference, ..Place::default() };
    assert_eq!(order_of(&[(relay(6), preferring(Preference::Preferred))])[0].node, relay(6));
    let draining = Place {
        draining: true,
        preference: Preference::Preferred,
        region: None,
        ..Place::default()
    };
    for place in [preferring(Preference::Avoided), draining] {
        let order = order_of(&[(relay(6), place.clone())]);
        assert_eq!(order.last().unwrap().node, relay(6), "{place:?}");
    }
}

#[test]
fn a_relay_is_ruled_out_for_the_lanes_that_it_does_not_carry_and_for_no_other() {
    let relayed_lanes = BTreeSet::from([Lane::Interactive, Lane::Media]).try_into().unwrap();
    let narrow = Place { relayed_lanes, ..Place::default() };
    let view = placed(8, &[], Places { nodes: [(relay(6), narrow)].into() });
    let nobody = Known::default();
    for lane in Lane::ALL {
        let class = ChannelClass::of_lane(*lane);
        let question = RelayQuestion { class, ..question(&view, &nobody) };
        let order = question.scores().order(TARGET);
        let is_carried = *lane != Lane::Bulk;
        assert_eq!(order.iter().any(|ranked| ranked.node == relay(6)), is_carried, "{lane}");
        let chains = question.chains(&order);
        let leads_over = chains.iter().any(|one| one.chain.relays().contains(&relay(6)));
        assert!(is_carried || !leads_over, "{lane}");
        let explained = question.explain();
        let found = explained.iter().find(|one| one.node == relay(6)).unwrap().finding;
        assert_eq!(found == Finding::Excluded(Constraint::Lane), !is_carried, "{lane}");
        assert_eq!(view.may_lead_over(&[relay(6)], ACME, *lane), is_carried, "{lane}");
        assert_eq!(view.relays(ACME, *lane).any(|one| one == relay(6)), is_carried, "{lane}");
    }
    let before = view_of(8, &[]);
    assert!(view.has_lost_relay(&before, ACME, Lane::Bulk));
    assert!(!view.has_lost_relay(&before, ACME, Lane::Interactive));
}

/// What is known of a relay: its identity, the end of its certificate, measurements.
fn any_known() -> impl Strategy<Value = (NodeId, Candidate<'static>)> {
    let options = any::<(Option<u32>, Option<u32>, Option<u16>, Option<u16>, Option<u32>, u8)>();
    let until = prop::option::of(1_000..3_000_i64);
    (0..44_u128, any::<bool>(), until, options).prop_map(|(number, proven, until, options)| {
        let (rtt_us, loss_ppm, reliability, load, bandwidth_kbps, failures) = options;
        let measured = Measured { rtt_us, loss_ppm, reliability, load, bandwidth_kbps, failures };
        let candidate = Candidate {
            node: relay(number),
            cluster: ClusterId::from_u128(1),
            identity: if proven { Identity::Proven } else { Identity::Listed },
            certificate_until: until.map(Timestamp::from_unix_millis),
            roles: Vec::new().into(),
            authority_epoch: 1,
            region: None,
            preference: Preference::Neutral,
            relayed_lanes: LaneSet::ALL,
            measured,
        };
        (relay(number), candidate)
    })
}

fn any_place() -> impl Strategy<Value = (NodeId, Place)> {
    let regions = prop::option::of(prop::sample::select(vec!["eu-west", "eu-north", "us-east"]));
    let preferences = [Preference::Avoided, Preference::Neutral, Preference::Preferred];
    let preferences = prop::sample::select(preferences.to_vec());
    let lanes = prop::sample::subsequence(Lane::ALL.to_vec(), 1..=Lane::ALL.len());
    // The node itself, which is the first of them, and its relays.
    (0..41_u128, regions, preferences, any::<bool>(), lanes).prop_map(
        |(number, region, preference, draining, lanes)| {
            let relayed_lanes = BTreeSet::from_iter(lanes).try_into().unwrap();
            let node = number.checked_sub(1).map_or(NodeId::from_u128(1), relay);
            let region = region.map(|name| name.parse().unwrap());
            (node, Place { region, preference, draining, relayed_lanes })
        },
    )
}

/// Of every kind of relay some.
fn some_roles(number: u128) -> Vec<RoleScope> {
    let relay = |organization| scope(NodeRole::RelayNode, organization);
    match number % 4 {
        0 => vec![relay(None)],
        1 => vec![relay(None), scope(NodeRole::EntryNode, None)],
        2 => vec![relay(Some(ACME))],
        _ => vec![relay(Some(OrganizationId::from_u128(7)))],
    }
}

/// What is found when each is looked at by itself, the best first.
fn found_one_by_one(question: &RelayQuestion<'_>) -> Vec<Ranked> {
    let scored = question.explain().into_iter().filter_map(|one| match one.finding {
        Finding::Scored { total, .. } => Some(Ranked { node: one.node, total }),
        Finding::Excluded(_) => None,
    });
    scored.collect()
}

/// All of them sorted, with nothing left out before.
fn ordered_plainly(mut all: Vec<Ranked>, own: NodeId, target: NodeId) -> Vec<Ranked> {
    let spread = Spread::new(own, target);
    all.retain(|relay| relay.node != target);
    all.sort_by_key(|relay| (Reverse(worth(relay.total)), spread.rank(relay.node), relay.node));
    all.truncate(MAX_ORDERED);
    all
}

#[test]
fn of_more_relays_than_are_looked_at_none_is_added_when_it_is_measured() {
    let more = MAX_CANDIDATES as u128 + 3;
    let view = view_of(more, &[]);
    let nobody = Known::default();
    let mut scores = question(&view, &nobody).scores();
    let measured = [5, more - 4, more - 3, more - 1].map(|number| known(&view, number, 10, 1_000));
    let Learned { known, changed } = nobody.learn(measured.into_iter().collect()).unwrap();
    let question = question(&view, &known);
    let rescored = question.rescore(&mut scores, &changed);
    let looked_at: Vec<NodeId> = rescored.after.keys().copied().collect();
    assert_eq!(looked_at, [relay(5), relay(more - 4)]);
    assert_eq!(scores.relays, question.scores().relays);
}

proptest! {
    #[test]
    fn scores_are_what_each_relay_by_itself_comes_to(
        places in prop::collection::vec(any_place(), 0..60),
        before in prop::collection::vec(any_known(), 0..60),
        after in prop::collection::vec(any_known(), 0..60),
        class in prop::sample::select(ChannelClass::ALL.to_vec()),
        running in any::<bool>(),
        isolated in any::<bool>(),
        target in 0..40_u128,
    ) {
        let places = Places { nodes: places.into_iter().collect() };
        let mut view = assigned(40, &[relay(7)], places, some_roles);
        if isolated {
            view.authority = Authority::Isolated { since: Timestamp::default() };
        }
        let known = known_of(before);
        let purpose = if running { Use::Running } else { Use::New };
        let mut scores =
            RelayQuestion { class, purpose, ..question(&view, &known) }.scores();
        let before = scores.clone();
        let learned = known.learn(after.into_iter().collect());
        let same = || Learned { known: Arc::new(known.clone()), changed: BTreeSet::new() };
        let Learned { known, changed } = learned.unwrap_or_else(same);
        let question = RelayQuestion { class, purpose, ..question(&view, &known) };
        let rescored = question.rescore(&mut scores, &changed);
        let of_changed = |scores: &Scores| {
            let changed = scores.relays.iter().filter(|ranked| changed.contains(&ranked.node));
            changed.map(|ranked| (ranked.node, ranked.total)).collect()
        };
        let (before, after) = (of_changed(&before), of_changed(&scores));
        prop_assert_eq!(rescored, Rescored { before, after });
        for scores in [scores, question.scores()] {
            let expected = found_one_by_one(&question);
            let mut found = scores.relays.clone();
            found.sort_by_key(|ranked| (Reverse(ranked.total), ranked.node));
            prop_assert_eq!(&found, &expected);
            let expected = ordered_plainly(expected, view.node, relay(target));
            prop_assert_eq!(scores.order(relay(target)), expected);
        }
    }
}
