//! What is told of lapses: the times in which no beat was valid here.
//!
//! Whether a lapse is told is decided where it begins, and then all of it is: so what was told last is
//! what is so, except while a lapse passes that was left out.

use std::time::Duration;

use rap_proto::{
    Authority, Moment,
    authority::{AuthorityChange, AuthorityStanding, MAX_LAPSES_PER_HOUR},
};

use super::BeatFloor;

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) struct Lapses {
    lapse: Option<Lapse>,
    /// Whether the present lapse is told.
    told: bool,
    hour_ends: Option<Moment>,
    told_in_hour: u32,
    left_out: u64,
}

struct Lapse {
    since: Moment,
    /// What had passed by the calendar when the agent started in it.
    before: Option<Duration>,
}

impl Lapses {
    pub(super) const fn new() -> Self {
        // Of a lapse that an earlier run told, the end may still have to be.
        Self { lapse: None, told: true, hour_ends: None, told_in_hour: 0, left_out: 0 }
    }

    /// No beat is valid since then.
    pub(super) fn begin(&mut self, since: Moment) {
        self.lapse = Some(Lapse { since, before: None });
        self.told = self.has_room(since);
    }

    /// The agent starts in a lapse, that long after its begin by the calendar.
    pub(super) fn resume(&mut self, now: Moment, before: Duration) {
        self.lapse = Some(Lapse { since: now, before: Some(before) });
        self.told = self.has_room(now);
    }

    /// What is to be told of this change; `heard` is the last beat. Control of a release that cannot
    /// record it is told nothing.
    pub(super) fn entered(
        &mut self,
        now: Moment,
        authority: Authority,
        heard: &BeatFloor,
    ) -> Option<AuthorityChange> {
        let standing = AuthorityStanding::of(authority)?;
        let (without, restarted) = match &self.lapse {
            None => (Duration::ZERO, false),
            Some(Lapse { since, before }) => {
                (now.since(*since) + before.unwrap_or_default(), before.is_some())
            }
        };
        if standing == AuthorityStanding::Healthy {
            self.lapse = None;
        }
        if !self.told || !heard.records_changes {
            return None;
        }
        Some(AuthorityChange {
            standing,
            epoch: heard.beat.epoch,
            sequence: heard.beat.sequence,
            without_ms: u64::try_from(without.as_millis()).unwrap_or(u64::MAX),
            restarted,
            left_out: std::mem::take(&mut self.left_out),
        })
    }

    /// Takes one of the hour's lapses, or counts one that is left out.
    fn has_room(&mut self, now: Moment) -> bool {
        if self.hour_ends.is_none_or(|ends| now >= ends) {
            self.hour_ends = Some(now + HOUR);
            self.told_in_hour = 0;
        }
        let room = self.told_in_hour < MAX_LAPSES_PER_HOUR;
        if room {
            self.told_in_hour += 1;
        } else {
            self.left_out += 1;
        }
        room
    }
}
