use rap_proto::{
    signed,
    wire::{
        resume::FlowId,
        through::{VOUCHER_TTL_MS, Voucher},
    },
};

use super::*;

const FLOW: FlowId = FlowId::from_random([5; 16]);

fn entry_key() -> LocalKey {
    LocalKey::from_random(&[11; 32]).unwrap()
}

/// The view of an egress that knows its entry by a real key.
fn egress() -> Given {
    let mut given = given(NodeRole::StreamWorker);
    given.sections.peers.peers[0].key = entry_key().public_key().id();
    given
}

fn voucher() -> Voucher {
    Voucher {
        cluster: CLUSTER,
        entry: ENTRY,
        entry_key: entry_key().public_key(),
        egress: OWN,
        session: SessionId::from_u128(1),
        flow: FLOW,
        channel: ChannelKind::Stream,
        lane: Lane::Interactive,
        until: NOW + std::time::Duration::from_millis(VOUCHER_TTL_MS),
    }
}

impl Given {
    fn check_voucher(&self, voucher: &[u8]) -> Result<Vouched, RefusalCode> {
        check_voucher(&self.view(), voucher, &self.claims, (ChannelKind::Stream, FLOW), NOW)
    }

    fn admit_through(&self, caller: &Caller, exported: [u8; 32]) -> Result<(), RefusalCode> {
        let proof = Proof::make(b"token", [1; 32], &client_key());
        let presented = Presented { claims: &self.claims, token: b"token", proof: &proof };
        let what = (ChannelKind::Stream, Lane::Interactive);
        admit_through(&self.view(), caller, presented, &exported, what, NOW).map(drop)
    }
}

#[test]
fn a_voucher_counts_for_its_egress_session_flow_and_channel_and_for_a_while() {
    let given = egress();
    let caller = Caller { cluster: CLUSTER, node: ENTRY, key: entry_key().public_key().id() };
    let sealed = |voucher: &Voucher| signed::seal(voucher, &[&entry_key()]);
    let in_order = given.check_voucher(&sealed(&voucher()));
    assert_eq!(in_order, Ok(Vouched { caller, lane: Lane::Interactive }));
    let millis = |millis: i64| Timestamp::from_unix_millis(NOW.unix_millis() + millis);
    let wrong = |change: fn(&mut Voucher), code| (change, code);
    for (change, code) in [
        wrong(|it| it.cluster = ClusterId::from_u128(9), RefusalCode::TokenWrongCluster),
        wrong(|it| it.egress = EGRESS, RefusalCode::TokenWrongAudience),
        wrong(|it| it.session = SessionId::from_u128(2), RefusalCode::AccessDenied),
        wrong(|it| it.flow = FlowId::from_random([6; 16]), RefusalCode::AccessDenied),
        wrong(|it| it.channel = ChannelKind::Input, RefusalCode::AccessDenied),
    ] {
        let mut voucher = voucher();
        change(&mut voucher);
        assert_eq!(given.check_voucher(&sealed(&voucher)), Err(code), "{voucher:?}");
    }
    for (until, outcome) in [
        (millis(-5_000), Ok(())),
        (millis(-5_001), Err(RefusalCode::TokenExpired)),
        (millis(35_000), Ok(())),
        (millis(35_001), Err(RefusalCode::Malformed)),
    ] {
        let voucher = Voucher { until, ..voucher() };
        assert_eq!(given.check_voucher(&sealed(&voucher)).map(drop), outcome, "{until}");
    }
}

#[test]
fn a_voucher_is_worth_what_its_signature_and_the_snapshot_say_of_its_key() {
    let mut given = egress();
    let other = LocalKey::from_random(&[12; 32]).unwrap();
    let by_other = signed::seal(&voucher(), &[&other]);
    assert_eq!(given.check_voucher(&by_other), Err(RefusalCode::PeerNotTrusted));
    assert_eq!(given.check_voucher(b"no voucher"), Err(RefusalCode::Malformed));
    // Whoever signs with a key of his own is nobody that the snapshot knows.
    let own_key = Voucher { entry_key: other.public_key(), ..voucher() };
    let vouched = given.check_voucher(&signed::seal(&own_key, &[&other])).unwrap();
    let admitted = given.admit_through(&vouched.caller, [1; 32]);
    assert_eq!(admitted, Err(RefusalCode::PeerNotTrusted));
    let vouched = given.check_voucher(&signed::seal(&voucher(), &[&entry_key()])).unwrap();
    assert_eq!(given.admit_through(&vouched.caller, [1; 32]), Ok(()));
    given.sections.peers.peers[0].roles = vec![scope(NodeRole::RelayNode, &[ACME])];
    let admitted = given.admit_through(&vouched.caller, [1; 32]);
    assert_eq!(admitted, Err(RefusalCode::RoleNotAssigned));
}

#[test]
fn a_client_proves_its_key_on_the_connection_that_it_asks_on() {
    let given = egress();
    let caller = Caller { cluster: CLUSTER, node: ENTRY, key: entry_key().public_key().id() };
    // What an entry was shown is of another connection.
    assert_eq!(given.admit_through(&caller, [2; 32]), Err(RefusalCode::TokenWrongKey));
    assert_eq!(given.admit_through(&caller, [1; 32]), Ok(()));
}

#[test]
fn a_through_flow_outlives_its_entry_and_nothing_else() {
    let mut given = egress();
    given.sections.peers.peers.remove(0);
    let caller = Caller { cluster: CLUSTER, node: ENTRY, key: entry_key().public_key().id() };
    let ends = |given: &Given, caller| flow_must_end(&given.view(), caller, &given.claims, NOW);
    assert_eq!(ends(&given, Some(&caller)), Some(EndReason::NodeLeft));
    assert!(!may_lead_through(&given.view(), &caller, ACME));
    assert_eq!(ends(&given, None), None);
    given.sections.trust.denied_sessions.insert(given.claims.session);
    assert_eq!(ends(&given, None), Some(EndReason::Terminated));
    given.sections.trust.denied_sessions.clear();
    given.sections.resources.resources[0].users.clear();
    assert_eq!(ends(&given, None), Some(EndReason::Terminated));
}
