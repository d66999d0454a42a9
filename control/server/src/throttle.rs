//! Guessing passwords gets slower with every wrong one, for each account on its own.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use rap_proto::{Name, Timestamp};

/// Wrong passwords that cost no waiting.
pub(crate) const FREE_ATTEMPTS: u32 = 5;
/// The longest wait after a wrong password.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(300);
/// The most accounts that are watched; the one that failed longest ago is forgotten first.
pub(crate) const MAX_ACCOUNTS: usize = 10_000;

/// Counts wrong passwords by account name, whether or not such an account exists.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle {
    accounts: Mutex<BTreeMap<Name, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl LoginThrottle {
    /// How long the account still has to wait; zero when it may try.
    pub(crate) fn delay(&self, name: &Name, now: Timestamp) -> Duration {
        let accounts = self.lock();
        let Some(failures) = accounts.get(name) else { return Duration::ZERO };
        penalty(failures.count).saturating_sub(now.since(failures.last))
    }

    pub(crate) fn failed(&self, name: &Name, now: Timestamp) {
        let mut accounts = self.lock();
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(name) {
            let oldest = accounts.iter().min_by_key(|(_, f)| f.last).map(|(name, _)| name.clone());
            oldest.and_then(|name| accounts.remove(&name));
        }
        let entry = accounts.entry(name.clone()).or_insert(Failures { count: 0, last: now });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    pub(crate) fn succeeded(&self, name: &Name) {
        self.lock().remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Failures>> {
        self.accounts.lock().expect("no holder of the lock panics")
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
        let accounts = throttle.lock();
        assert_eq!(accounts.len(), MAX_ACCOUNTS);
        assert!(!accounts.contains_key(&"user-0".parse::<Name>().unwrap()));
    }
}
