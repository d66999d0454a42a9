//! What the service manager is told (sd_notify(3)). Without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often the service manager wants a sign of life; half of what it allows.
pub(crate) fn watchdog() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros)
        .then(|| Duration::from_micros(micros) / 2)
        .filter(|period| !period.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
