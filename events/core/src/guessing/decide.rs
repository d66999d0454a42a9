use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use rap_proto::{OrganizationId, Timestamp, UserId};

use super::{
    Guessing, GuessingCommand, GuessingEvent, GuessingNoticed, GuessingRejection,
    MAX_NAMED_ACCOUNTS, NOTICE_INTERVAL_MS,
};
use crate::Aggregate;

impl Aggregate for Guessing {
    const CATEGORY: &'static str = "guessing";
    type Command = GuessingCommand;
    type Event = GuessingEvent;
    type Rejection = GuessingRejection;

    fn decide(
        &self,
        command: GuessingCommand,
        now: Timestamp,
    ) -> Result<Vec<GuessingEvent>, GuessingRejection> {
        let GuessingCommand::Notice { accounts, unnamed } = command;
        if unnamed == 0 && accounts.values().all(|wrong| *wrong == 0) {
            return Err(GuessingRejection::NothingGuessed);
        }
        if self.next_at().is_some_and(|next| now < next) {
            return Ok(Vec::new());
        }
        let (accounts, others) = most_guessed(accounts);
        let unnamed = unnamed.saturating_add(others);
        Ok(vec![GuessingNoticed { accounts, unnamed, noticed_at: now }.into()])
    }

    fn evolve(&mut self, event: &GuessingEvent) {
        let GuessingEvent::Noticed(noticed) = event;
        self.noticed_at = Some(noticed.noticed_at);
    }

    /// No organization's: whom somebody guesses is the platform's to know.
    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

impl Guessing {
    /// From when on something is recorded again; `None` when nothing was yet.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.noticed_at.map(|at| at + Duration::from_millis(NOTICE_INTERVAL_MS))
    }
}

/// The accounts that an event names, and the wrong passwords of all others.
fn most_guessed(accounts: BTreeMap<UserId, u32>) -> (BTreeMap<UserId, u32>, u32) {
    let mut ranked: Vec<_> = accounts.into_iter().filter(|(_, wrong)| *wrong > 0).collect();
    ranked.sort_by_key(|(user, wrong)| (Reverse(*wrong), *user));
    let others = ranked.split_off(ranked.len().min(MAX_NAMED_ACCOUNTS));
    let sum = others.iter().fold(0_u32, |sum, (_, wrong)| sum.saturating_add(*wrong));
    (ranked.into_iter().collect(), sum)
}
