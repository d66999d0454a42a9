//! One peer: what the directory says of it, what was measured, and when it is asked next.

use std::{borrow::Cow, collections::BTreeSet, net::SocketAddr, time::Duration};

use rap_proto::{KeyId, Moment, NodeRole, Timestamp};

use super::{
    Class, Directory, Listed, Packets, Said,
    cache::{self, KeptPeer},
    places::Scope,
    policy::Hysteresis,
    spread::place,
    through::Through,
};
use crate::{
    admission::scopes,
    score::{Candidate, GREATEST, Identity, Measured, parts::MOST_FAILURES},
};

/// How long an answer is waited for: a dial and a question, as long as they may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// One failure is forgotten after this, then the next.
pub const FAILURE_FORGOTTEN: Duration = Duration::from_secs(120);
/// So many packets to a peer make one measurement of how many are lost; fewer are counted on. An
/// active peer is sent about as many within half a minute.
pub const LEAST_PACKETS: u64 = 50;
/// A measurement counts for one part of so many.
const SMOOTHING: u32 = 8;

#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) candidate: Candidate<'static>,
    pub(super) key: KeyId,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) class: Class,
    /// Since when it has its class.
    pub(super) since: Moment,
    /// Its place among equals; see [`place`].
    pub(super) place: u64,
    /// Active, and it answered since it was promoted.
    pub(super) up: bool,
    /// An answer is waited for until then.
    pub(super) asked_until: Option<Moment>,
    /// Questions in a row without an answer.
    pub(super) misses: u32,
    pub(super) ask_at: Option<Moment>,
    pub(super) through: Through,
    /// Left alone until then.
    pub(super) rest_until: Moment,
    pub(super) rests_since: Moment,
    /// How often it was left alone since it last did well.
    pub(super) rests: u32,
    /// Reviews in a row in which it was better than the worst active peer.
    pub(super) better: u8,
    pub(super) last_success_at: Option<Timestamp>,
    /// When it was last known to be there, by whatever way.
    pub(super) reached_at: Option<Moment>,
    failed_at: Moment,
    /// Too few so far to be a measurement.
    packets: Packets,
}

impl Peer {
    pub(super) fn new(directory: &Directory, listed: &Listed) -> Self {
        Self {
            candidate: Candidate {
                node: listed.node,
                cluster: directory.cluster,
                identity: Identity::Listed,
                certificate_until: None,
                roles: listed.roles.clone().into(),
                authority_epoch: directory.authority_epoch,
                region: listed.region.clone().map(Cow::Owned),
                preference: listed.preference,
                relayed_lanes: listed.relayed_lanes,
                measured: Measured::default(),
            },
            key: listed.key,
            addresses: listed.addresses.clone(),
            class: Class::Cold,
            since: Moment::default(),
            place: place(directory.own, listed.node.uuid().as_u64_pair()),
            up: false,
            asked_until: None,
            misses: 0,
            ask_at: None,
            through: Through::default(),
            rest_until: Moment::default(),
            rests_since: Moment::default(),
            rests: 0,
            better: 0,
            last_success_at: None,
            reached_at: None,
            failed_at: Moment::default(),
            packets: Packets::default(),
        }
    }

    /// What a newer directory says of the same node under the same key.
    pub(super) fn list(&mut self, directory: &Directory, listed: &Listed) {
        self.candidate.roles = listed.roles.clone().into();
        self.candidate.authority_epoch = directory.authority_epoch;
        self.candidate.region = listed.region.clone().map(Cow::Owned);
        self.candidate.preference = listed.preference;
        self.candidate.relayed_lanes = listed.relayed_lanes;
        self.addresses.clone_from(&listed.addresses);
    }

    /// Takes what was kept as a first guess. Whether it had ever answered.
    pub(super) fn restore(&mut self, kept: &KeptPeer) -> bool {
        let measured = &mut self.candidate.measured;
        measured.rtt_us = kept.last_latency_ms.map(|ms| ms.saturating_mul(1_000));
        measured.loss_ppm = kept.packet_loss;
        measured.reliability = kept.reliability_score;
        self.last_success_at = kept.last_success_at;
        kept.last_success_at.is_some()
    }

    pub(super) fn keep(&self, config_version: u64) -> KeptPeer {
        let Measured { rtt_us, loss_ppm, reliability, .. } = self.candidate.measured;
        let everything = self.candidate.roles.iter().any(|scope| scope.organizations.is_none());
        let organizations = || self.candidate.roles.iter().flat_map(|scope| &scope.organizations);
        KeptPeer {
            node_id: self.candidate.node,
            cluster_id: self.candidate.cluster,
            endpoint_candidates: self
                .addresses
                .iter()
                .take(cache::MAX_ENDPOINTS)
                .copied()
                .collect(),
            roles: self.candidate.roles.iter().map(|scope| scope.role).collect(),
            region: self.candidate.region.as_deref().cloned(),
            last_success_at: self.last_success_at,
            last_latency_ms: rtt_us.map(|rtt| rtt.div_ceil(1_000)),
            packet_loss: loss_ppm,
            reliability_score: reliability,
            fingerprint: self.key,
            policy_scope: (!everything)
                .then(|| organizations().flatten().copied().collect::<BTreeSet<_>>()),
            last_seen_config_version: config_version,
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.candidate.roles.iter().any(|scope| scope.role == NodeRole::RelayNode)
    }

    pub(super) fn is_relay_for(&self, scope: Scope) -> bool {
        let mut roles = scopes(&self.candidate.roles, NodeRole::RelayNode);
        roles.any(|role| match scope {
            Some(organization) => role.covers(organization),
            None => role.organizations.is_none(),
        })
    }

    /// A relay that is not known to swallow.
    pub(super) fn leads(&self) -> bool {
        self.is_relay() && !self.through.is_broken()
    }

    pub(super) fn is_resting(&self, now: Moment) -> bool {
        now < self.rest_until
    }

    pub(super) fn answered(
        &mut self,
        now: Moment,
        (rtt_us, said, packets): (u32, Option<Said>, Option<Packets>),
        at: Timestamp,
    ) {
        self.asked_until = None;
        self.misses = 0;
        self.last_success_at = Some(at);
        self.reached_at = Some(now);
        self.forget_failures(now);
        if self.through.is_broken() {
            // How fast it answers says nothing of what it forwards.
            return;
        }
        let measured = &mut self.candidate.measured;
        measured.rtt_us = Some(smooth(measured.rtt_us, rtt_us));
        match said {
            // It may have said that it is full a moment ago.
            Some(Said { load, bandwidth_kbps }) => {
                let load = load.min(GREATEST);
                measured.load = Some(measured.load.map_or(load, |before| before.midpoint(load)));
                measured.bandwidth_kbps = Some(bandwidth_kbps);
            }
            None => measured.load = measured.load.map(|load| load / 2),
        }
        self.count(packets);
        self.was_there();
    }

    fn count(&mut self, packets: Option<Packets>) {
        let loss_ppm = &mut self.candidate.measured.loss_ppm;
        let Some(Packets { sent, lost }) = packets else {
            (self.packets, *loss_ppm) = (Packets::default(), None);
            return;
        };
        let sent = self.packets.sent.saturating_add(sent);
        let lost = self.packets.lost.saturating_add(lost);
        self.packets = Packets { sent, lost };
        if sent >= LEAST_PACKETS {
            self.packets = Packets::default();
            // Some may have been sent before, and found lost now.
            let ppm = u128::from(lost.min(sent)) * 1_000_000 / u128::from(sent);
            *loss_ppm = Some(smooth(*loss_ppm, u32::try_from(ppm).unwrap_or(1_000_000)));
        }
    }

    /// It is there, and takes nobody more.
    pub(super) fn full(&mut self, now: Moment) {
        self.asked_until = None;
        self.misses = 0;
        self.reached_at = Some(now);
        self.candidate.measured.load = Some(GREATEST);
        if !self.through.is_broken() {
            self.was_there();
        }
    }

    fn was_there(&mut self) {
        let measured = &mut self.candidate.measured;
        let reliability = smooth(measured.reliability.map(u32::from), u32::from(GREATEST));
        measured.reliability = u16::try_from(reliability).ok();
    }

    pub(super) fn missed(&mut self) {
        self.asked_until = None;
        self.misses += 1;
        let measured = &mut self.candidate.measured;
        let reliability = smooth(measured.reliability.map(u32::from), 0);
        measured.reliability = u16::try_from(reliability).ok();
    }

    /// Notes a failure that counts against it for a while.
    pub(super) fn failed(&mut self, now: Moment) {
        self.forget_failures(now);
        let failures = &mut self.candidate.measured.failures;
        *failures = (*failures + 1).min(MOST_FAILURES);
        self.failed_at = now;
    }

    pub(super) fn forget_failures(&mut self, now: Moment) {
        if self.through.is_broken() {
            return;
        }
        let ago = now.since(self.failed_at).as_secs() / FAILURE_FORGOTTEN.as_secs();
        if ago > 0 {
            let forgotten = u8::try_from(ago).unwrap_or(u8::MAX);
            let failures = &mut self.candidate.measured.failures;
            *failures = failures.saturating_sub(forgotten);
            self.failed_at = now;
        }
    }

    /// Leaves it alone, longer each time.
    pub(super) fn rest(&mut self, now: Moment, hysteresis: &Hysteresis) {
        let doubled = hysteresis.first_rest.saturating_mul(1 << self.rests.min(10));
        self.rests = self.rests.saturating_add(1);
        self.rests_since = now;
        self.rest_until = now + doubled.min(hysteresis.greatest_rest);
    }

    /// It answers and swallows what it should forward: what was measured of it is worth nothing, and
    /// neither is what it said of itself.
    pub(super) fn swallows(&mut self, now: Moment) {
        let measured = &mut self.candidate.measured;
        measured.rtt_us = None;
        measured.loss_ppm = Some(1_000_000);
        measured.reliability = Some(0);
        measured.load = Some(GREATEST);
        measured.bandwidth_kbps = Some(0);
        measured.failures = MOST_FAILURES;
        self.failed_at = now;
    }

    /// It forwards again: it is measured anew, and may be used at once. How often it rested is not
    /// forgotten by that.
    pub(super) fn forwards_again(&mut self) {
        self.rest_until = Moment::default();
        self.candidate.measured = Measured::default();
    }

    /// It did well for long enough for its past to be over.
    pub(super) fn forgive(&mut self) {
        self.rests = 0;
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        // While an answer is waited for nothing else is asked.
        let ask = self.asked_until.or(self.ask_at);
        ask.into_iter().chain(self.through.poll_timeout()).min()
    }
}

/// A moving mean; the first measurement stands for itself.
fn smooth(mean: Option<u32>, measured: u32) -> u32 {
    let Some(mean) = mean else { return measured };
    let weighted = u64::from(mean) * u64::from(SMOOTHING - 1) + u64::from(measured);
    u32::try_from(weighted / u64::from(SMOOTHING)).unwrap_or(u32::MAX)
}
