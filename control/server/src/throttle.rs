//! Guessing passwords gets slower with every wrong one, for each account on its own, and is
//! noticed when it is more than mistyping.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rap_proto::{Name, Timestamp};
use tokio::sync::Notify;

/// Wrong passwords that cost no waiting.
pub(crate) const FREE_ATTEMPTS: u32 = 5;
/// The longest wait after a wrong password.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(300);
/// The most accounts that are watched; the one that failed longest ago is forgotten first.
pub(crate) const MAX_ACCOUNTS: usize = 10_000;
/// Wrong passwords of all accounts together that are noticed although none has to wait yet.
const NOTABLE_GUESSES: u32 = 32;

/// Counts wrong passwords by account name, whether or not such an account exists.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle {
    table: Mutex<Table>,
    /// Wakes whoever waits for [`LoginThrottle::noticed`].
    notable: Notify,
}

#[derive(Debug, Default)]
struct Table {
    accounts: BTreeMap<Name, Failures>,
    /// Of accounts that were forgotten before anybody took note.
    forgotten: u32,
    notable: bool,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    /// In a row.
    count: u32,
    last: Timestamp,
    /// Since they were last taken note of.
    unnoted: u32,
}

/// Wrong passwords that nobody took note of before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guesses {
    pub(crate) names: BTreeMap<Name, u32>,
    pub(crate) forgotten: u32,
}

impl LoginThrottle {
    /// How long the account still has to wait; zero when it may try.
    pub(crate) fn delay(&self, name: &Name, now: Timestamp) -> Duration {
        let table = self.lock();
        let Some(failures) = table.accounts.get(name) else { return Duration::ZERO };
        penalty(failures.count).saturating_sub(now.since(failures.last))
    }

    pub(crate) fn failed(&self, name: &Name, now: Timestamp) {
        let mut table = self.lock();
        let failures = table.entry(name, now);
        failures.count = failures.count.saturating_add(1);
        failures.unnoted = failures.unnoted.saturating_add(1);
        failures.last = now;
        let waits = failures.count >= FREE_ATTEMPTS;
        if waits || table.unnoted() >= NOTABLE_GUESSES {
            table.notable = true;
            self.notable.notify_one();
        }
    }

    /// The right password was given. What was notable before stays so.
    pub(crate) fn succeeded(&self, name: &Name) {
        let mut table = self.lock();
        let keep = table.notable;
        if let Some(failures) = table.accounts.get_mut(name) {
            failures.count = 0;
            if !keep || failures.unnoted == 0 {
                table.accounts.remove(name);
            }
        }
    }

    /// Waits until there is more than mistyping, and takes all wrong passwords until then.
    pub(crate) async fn noticed(&self) -> Guesses {
        loop {
            let waiting = self.notable.notified();
            if let Some(guesses) = self.lock().take() {
                return guesses;
            }
            waiting.await;
        }
    }

    /// Counts again what could not be recorded.
    pub(crate) fn give_back(&self, guesses: Guesses, now: Timestamp) {
        let mut table = self.lock();
        table.forgotten = table.forgotten.saturating_add(guesses.forgotten);
        for (name, wrong) in guesses.names {
            let failures = table.entry(&name, now);
            failures.unnoted = failures.unnoted.saturating_add(wrong);
        }
        table.notable = true;
        self.notable.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the lock panics")
    }
}

impl Table {
    fn entry(&mut self, name: &Name, now: Timestamp) -> &mut Failures {
        if self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains_key(name) {
            let oldest = self.accounts.iter().min_by_key(|(_, failures)| failures.last);
            let oldest = oldest.map(|(name, _)| name.clone());
            let gone = oldest.and_then(|name| self.accounts.remove(&name));
            let unnoted = gone.map_or(0, |failures| failures.unnoted);
            self.forgotten = self.forgotten.saturating_add(unnoted);
        }
        let none = Failures { count: 0, last: now, unnoted: 0 };
        self.accounts.entry(name.clone()).or_insert(none)
    }

    fn unnoted(&self) -> u32 {
        let all = self.accounts.values().map(|failures| failures.unnoted);
        all.fold(self.forgotten, u32::saturating_add)
    }

    fn take(&mut self) -> Option<Guesses> {
        if !std::mem::take(&mut self.notable) {
            return None;
        }
        let names = self.accounts.iter_mut().filter(|(_, failures)| failures.unnoted > 0);
        let names =
            names.map(|(name, failures)| (name.clone(), std::mem::take(&mut failures.unnoted)));
        let guesses =
            Guesses { names: names.collect(), forgotten: std::mem::take(&mut self.forgotten) };
        self.accounts.retain(|_, failures| failures.count > 0);
        (guesses != Guesses::default()).then_some(guesses)
    }
}

fn penalty(failures: u32) -> Duration {
    match failures.checked_sub(FREE_ATTEMPTS) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1u64 << over.min(16)).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    #[test]
    fn waiting_doubles_after_the_free_attempts_and_ends_with_success() {
        let throttle = LoginThrottle::default();
        let name: Name = "root".parse().unwrap();
        for _ in 0..FREE_ATTEMPTS {
            assert_eq!(throttle.delay(&name, at(0)), Duration::ZERO);
            throttle.failed(&name, at(0));
        }
        assert_eq!(throttle.delay(&name, at(0)), Duration::from_secs(1));
        assert_eq!(throttle.delay(&name, at(1)), Duration::ZERO);
        throttle.failed(&name, at(1));
        assert_eq!(throttle.delay(&name, at(1)), Duration::from_secs(2));
        for _ in 0..100 {
            throttle.failed(&name, at(1));
        }
        assert_eq!(throttle.delay(&name, at(1)), MAX_DELAY);
        throttle.succeeded(&name);
        assert_eq!(throttle.delay(&name, at(1)), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded() {
        let throttle = LoginThrottle::default();
        for number in 0..=MAX_ACCOUNTS {
            let name = format!("user-{number}").parse().unwrap();
            throttle.failed(&name, at(i64::try_from(number).unwrap()));
        }
        let table = throttle.lock();
        assert_eq!(table.accounts.len(), MAX_ACCOUNTS);
        assert!(!table.accounts.contains_key(&"user-0".parse::<Name>().unwrap()));
        assert_eq!(table.forgotten, 1, "what is forgotten is counted");
    }

    fn guesses(names: &[(&str, u32)], forgotten: u32) -> Option<Guesses> {
        let names = names.iter().map(|(name, wrong)| (name.parse().unwrap(), *wrong)).collect();
        Some(Guesses { names, forgotten })
    }

    #[test]
    fn mistyping_is_not_noticed_and_guessing_is_with_all_that_came_before() {
        let throttle = LoginThrottle::default();
        let [alice, bob]: [Name; 2] = ["alice", "bob"].map(|name| name.parse().unwrap());
        let taken = || throttle.lock().take();
        throttle.failed(&bob, at(0));
        for _ in 1..FREE_ATTEMPTS {
            throttle.failed(&alice, at(0));
            assert_eq!(taken(), None);
        }
        throttle.failed(&alice, at(0));
        // The guess that was right takes nothing back.
        throttle.succeeded(&alice);
        assert_eq!(taken(), guesses(&[("alice", FREE_ATTEMPTS), ("bob", 1)], 0));
        assert_eq!(taken(), None);
        throttle.succeeded(&bob);
        assert!(throttle.lock().accounts.is_empty());

        throttle.failed(&alice, at(0));
        let lost = Guesses { names: [(alice.clone(), 5)].into(), forgotten: 3 };
        throttle.give_back(lost, at(1));
        assert_eq!(taken(), guesses(&[("alice", 6)], 3));
    }

    #[test]
    fn one_guess_for_each_of_many_accounts_is_noticed() {
        let throttle = LoginThrottle::default();
        for number in 0..NOTABLE_GUESSES {
            assert_eq!(throttle.lock().take(), None);
            throttle.failed(&format!("user-{number}").parse().unwrap(), at(0));
        }
        let names = throttle.lock().take().unwrap().names;
        assert_eq!(names.len(), NOTABLE_GUESSES as usize);
    }
}
