//! Notices actors that died and starts them again: a panicked actor tells nobody.

use std::time::Duration;

use actix::{Actor, Addr, AsyncContext as _, Context};

/// How often the actors are looked at.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often one actor is started again before it is left alone; then the server is not ready.
pub(crate) const MAX_RESTARTS: u32 = 16;

/// One actor: how to start it, and whether it lives.
pub(crate) struct Ward {
    name: &'static str,
    start: Box<dyn Fn() -> Box<dyn Fn() -> bool>>,
    alive: Box<dyn Fn() -> bool>,
    restarts: u32,
}

impl Ward {
    /// Starts the actor for the first time.
    pub(crate) fn start<A: Actor<Context = Context<A>>>(
        name: &'static str,
        make: impl Fn() -> A + 'static,
    ) -> Self {
        let start = Box::new(move || {
            let address: Addr<A> = make().start();
            Box::new(move || address.connected()) as Box<dyn Fn() -> bool>
        });
        let alive = start();
        Self { name, start, alive, restarts: 0 }
    }
}

pub(crate) struct Guardian {
    wards: Vec<Ward>,
    /// Whether every actor lives.
    healthy: tokio::sync::watch::Sender<bool>,
}

impl Guardian {
    pub(crate) fn new(wards: Vec<Ward>, healthy: tokio::sync::watch::Sender<bool>) -> Self {
        Self { wards, healthy }
    }

    fn check(&mut self) {
        let mut healthy = true;
        for ward in &mut self.wards {
            if (ward.alive)() {
                continue;
            }
            if ward.restarts >= MAX_RESTARTS {
                healthy = false;
                continue;
            }
            ward.restarts += 1;
            tracing::error!(actor = ward.name, restarts = ward.restarts, "an actor died");
            ward.alive = (ward.start)();
        }
        self.healthy.send_if_modified(|now| std::mem::replace(now, healthy) != healthy);
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(CHECK_INTERVAL, |guardian, _| guardian.check());
    }
}
