//! The rebuild of the projections that goes on at this replica, or that was the last one: between
//! those who ask for it and look at it, and the one actor that drives it.

use std::sync::{Mutex, MutexGuard};

use rap_control_core::rebuild::{Outcome, Progress};
use rap_proto::{
    CommandId, ReplicaId, Timestamp,
    api::{Problem, ProblemCode, Rebuild, RebuildState},
};
use tokio::sync::Notify;

use crate::metrics::Gauge;

/// The most rebuilds at once: each holds three states beside the living one.
pub(crate) const MAX_REBUILDS: usize = 1;

#[derive(Debug, Default)]
pub(crate) struct Rebuilds {
    last: Mutex<Option<Last>>,
    asked: Notify,
}

#[derive(Debug)]
struct Last {
    command: CommandId,
    began: Timestamp,
    progress: Progress,
    ended: Option<(Timestamp, Outcome)>,
}

impl Rebuilds {
    /// Begins one. The command that began the last one begins no other.
    pub(crate) fn ask(
        &self,
        command: CommandId,
        now: Timestamp,
        living: u64,
    ) -> Result<(), Problem> {
        let mut last = self.lock();
        if last.as_ref().is_some_and(|last| last.command == command) {
            return Ok(());
        }
        let under_way = last.iter().filter(|last| last.ended.is_none()).count();
        if under_way >= MAX_REBUILDS {
            let detail = "the projections are being rebuilt; look how far that is";
            return Err(Problem::new(ProblemCode::Rejected, detail).rule("rebuild.under_way"));
        }
        let progress = Progress { living, ..Progress::default() };
        *last = Some(Last { command, began: now, progress, ended: None });
        self.asked.notify_one();
        Ok(())
    }

    /// Waits until one is asked for.
    pub(crate) async fn asked(&self) {
        while !self.is_under_way() {
            self.asked.notified().await;
        }
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(last) = self.lock().as_mut() {
            last.progress = progress;
        }
    }

    pub(crate) fn end(&self, now: Timestamp, outcome: Outcome) {
        if let Some(last) = self.lock().as_mut() {
            last.ended = Some((now, outcome));
        }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.lock().as_ref().is_some_and(|last| last.ended.is_none())
    }

    /// For people.
    pub(crate) fn shown(&self, replica: ReplicaId) -> Rebuild {
        let last = self.lock();
        let Some(last) = last.as_ref() else { return nothing(replica) };
        let Progress { position, living, exchanged } = last.progress;
        let mut shown = Rebuild {
            state: if exchanged { RebuildState::Comparing } else { RebuildState::Folding },
            position,
            through: living,
            percent: percent(position, living),
            began_at: Some(last.began),
            ..nothing(replica)
        };
        if let Some((at, outcome)) = &last.ended {
            shown.ended_at = Some(*at);
            end(&mut shown, outcome);
        }
        shown
    }

    pub(crate) fn gauges(&self) -> [Gauge; 3] {
        let progress = self.lock().as_ref().map(|last| last.progress).unwrap_or_default();
        let gauge = |name, help, value| Gauge { name, help, labels: String::new(), value };
        [
            gauge(
                "rap_control_rebuilding",
                "Whether the projections are being rebuilt.",
                u64::from(self.is_under_way()),
            ),
            gauge(
                "rap_control_rebuild_position",
                "How far the last rebuild has folded.",
                progress.position,
            ),
            gauge(
                "rap_control_rebuild_through",
                "How far the last rebuild has to fold.",
                progress.living,
            ),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().expect("no holder of the lock panics")
    }
}

fn nothing(replica: ReplicaId) -> Rebuild {
    Rebuild {
        replica,
        state: RebuildState::None,
        position: 0,
        through: 0,
        percent: 0,
        began_at: None,
        ended_at: None,
        exchanged_at: None,
        differing: Vec::new(),
        altered: None,
        reason: None,
    }
}

fn end(shown: &mut Rebuild, outcome: &Outcome) {
    shown.state = match outcome {
        Outcome::Same { .. } => RebuildState::Same,
        Outcome::Differed { .. } => RebuildState::Differed,
        Outcome::Altered { .. } => RebuildState::Altered,
        Outcome::Corrupt(_) => RebuildState::Corrupt,
        Outcome::Unread => RebuildState::Unread,
        Outcome::Refuted => RebuildState::Refuted,
        Outcome::Interrupted => RebuildState::Interrupted,
    };
    match outcome {
        Outcome::Same { position } => shown.exchanged_at = Some(*position),
        Outcome::Differed { position, projections } => {
            shown.exchanged_at = Some(*position);
            shown.differing = projections.iter().map(|name| (*name).to_owned()).collect();
        }
        Outcome::Altered { position } => shown.altered = Some(*position),
        Outcome::Corrupt(corrupt) => shown.reason = Some(corrupt.to_string()),
        Outcome::Unread | Outcome::Refuted | Outcome::Interrupted => {}
    }
}

/// Of the events that were there when it was looked at last; 100 only when none is missing.
fn percent(position: u64, living: u64) -> u8 {
    let of_all = position.saturating_mul(100).checked_div(living).unwrap_or(0);
    u8::try_from(of_all.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const REPLICA: ReplicaId = ReplicaId::from_u128(1);
    const NOW: Timestamp = Timestamp::from_unix_millis(1_000);

    #[test]
    fn one_goes_on_at_once_and_the_next_begins_when_it_is_over() {
        let rebuilds = Rebuilds::default();
        let [first, second] = [1, 2].map(CommandId::from_u128);
        assert_eq!(rebuilds.shown(REPLICA).state, RebuildState::None);
        rebuilds.ask(first, NOW, 100).unwrap();
        let refused = rebuilds.ask(second, NOW, 100).unwrap_err();
        assert_eq!((refused.status, refused.rule.as_deref()), (409, Some("rebuild.under_way")));
        rebuilds.ask(first, NOW, 100).unwrap();
        rebuilds.end(NOW, Outcome::Same { position: 100 });
        rebuilds.ask(first, NOW, 100).unwrap();
        assert!(!rebuilds.is_under_way(), "a repetition begins nothing");
        rebuilds.ask(second, NOW, 100).unwrap();
        assert!(rebuilds.is_under_way());
    }

    #[test]
    fn progress_and_outcome_are_shown() {
        let rebuilds = Rebuilds::default();
        rebuilds.ask(CommandId::from_u128(1), NOW, 300).unwrap();
        rebuilds.tell(Progress { position: 299, living: 300, exchanged: false });
        let shown = rebuilds.shown(REPLICA);
        assert_eq!((shown.state, shown.percent, shown.through), (RebuildState::Folding, 99, 300));
        rebuilds.tell(Progress { position: 300, living: 300, exchanged: true });
        assert_eq!(rebuilds.shown(REPLICA).state, RebuildState::Comparing);
        rebuilds.end(NOW, Outcome::Differed { position: 300, projections: vec!["users"] });
        let shown = rebuilds.shown(REPLICA);
        assert_eq!((shown.state, shown.percent), (RebuildState::Differed, 100));
        assert_eq!((shown.exchanged_at, &*shown.differing), (Some(300), &["users".to_owned()][..]));
        rebuilds.end(NOW, Outcome::Altered { position: 7 });
        assert_eq!(rebuilds.shown(REPLICA).altered, Some(7));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_once_one_is_asked_for() {
        let rebuilds = Rebuilds::default();
        let asking = async {
            tokio::task::yield_now().await;
            rebuilds.ask(CommandId::from_u128(1), NOW, 1).unwrap();
        };
        tokio::join!(rebuilds.asked(), asking);
        assert!(rebuilds.is_under_way());
    }
}
