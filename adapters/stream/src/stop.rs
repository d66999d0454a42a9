//! One deadline that everybody watches: it can be set and brought forward, never put back.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub(crate) struct Stop {
    deadline: watch::Sender<Option<Instant>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { deadline: watch::Sender::new(None) }
    }
}

impl Stop {
    /// Asks everything to be over within `grace`.
    pub(crate) fn ask(&self, grace: Duration) {
        let asked = Instant::now() + grace;
        self.deadline.send_if_modified(|deadline| {
            let sooner = deadline.is_none_or(|known| asked < known);
            if sooner {
                *deadline = Some(asked);
            }
            sooner
        });
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Resolves once somebody asked.
    pub(crate) async fn asked(&self) {
        let mut watched = self.deadline.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = watched.wait_for(Option::is_some).await;
    }

    /// Resolves once the deadline has passed.
    pub(crate) async fn now(&self) {
        let mut watched = self.deadline.subscribe();
        loop {
            let deadline = *watched.borrow_and_update();
            let passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                _ = watched.changed() => {}
            }
        }
    }
}
