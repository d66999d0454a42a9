//! By which relays entries lead, and what control hears and shows.

use std::time::Duration;

use rap_mesh_core::{busy::STEP, peers::Said, score::GREATEST};
use rap_proto::NodeRole;

use super::{
    VIEWS,
    network::Host,
    path::over,
    scope::ORGANIZATIONS,
    world::{Event, World},
};

pub(super) const CHOOSE_EVERY: Duration = Duration::from_secs(7);
/// How often nodes say to control that they live.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Of a large fleet only so many entries choose at once, others the next time.
const MAX_CHOOSING: usize = 64;

impl World {
    pub(super) fn choose(&mut self) {
        let now = self.stage.now();
        let entries = self.with_role(NodeRole::EntryNode);
        let (organization, turn) =
            (self.rounds % ORGANIZATIONS.len(), self.rounds / ORGANIZATIONS.len());
        let choosing = entries.iter().cycle().skip(self.chosen % entries.len());
        self.rounds += 1;
        self.chosen += entries.len().min(MAX_CHOOSING);
        for index in choosing.take(entries.len().min(MAX_CHOOSING)).copied() {
            let Some(egress) = self.egress_of(index, turn) else { continue };
            let ways = self.nodes[index].ways(now, organization, egress);
            let Some(preferred) = ways.first().copied().map(over) else { continue };
            let reached = |relay: &usize| !self.network.is_walled(index, *relay);
            if !self.stage.failing && preferred.iter().all(reached) {
                self.stage.checkers.prefers(now, index, organization, &preferred);
            }
            if self.is_whole {
                self.lead((index, organization), egress, ways);
            } else {
                self.stage.checkers.leads_over(now, index, organization, &preferred);
                self.hold(index, organization, preferred);
            }
        }
        self.stage.after(CHOOSE_EVERY, Event::Choose);
    }

    /// What a host says of itself: of all that is led, how much through it. One that lies says that it is
    /// idle.
    pub(super) fn said_by(&self, index: usize) -> Said {
        let Host { carries, lie, .. } = &self.network.hosts[index];
        let taken =
            if lie.is_some() { 0 } else { carries * usize::from(GREATEST) / self.led.len().max(1) };
        let load = u16::try_from(taken).unwrap_or(GREATEST) / STEP * STEP;
        Said { load, bandwidth_kbps: u32::MAX }
    }

    pub(super) fn report(&mut self) {
        let now = self.stage.now();
        for index in self.known.iter().copied().filter(|index| self.nodes[*index].is_up()) {
            self.shown.hears(now, index);
            self.stage.checkers.heard(now, index);
        }
        let view = self.shown.view(now);
        self.stage.coverage.count(VIEWS, view.clone());
        self.stage.checkers.shown(now, &view);
        self.stage.after(REPORT_EVERY, Event::Report);
    }
}
