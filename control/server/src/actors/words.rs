//! Looks again and again at the words of the organizations that somebody listens to. They follow from
//! what nodes say and from how long they said nothing, so no event of the log changes them.

use std::{sync::Arc, time::Duration};

use rap_control_core::access::Outlook;
use tokio::time::{MissedTickBehavior, interval};

use crate::{app::App, clock, http::availability::known};

/// How often. A word is at most so much older than what it follows from.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Goes on for as long as streams are fed.
pub(crate) async fn run(app: Arc<App>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !app.feed.is_closed() {
        ticks.tick().await;
        for organization in app.feed.listened_to() {
            let state = app.state();
            let known = known(&app, &state, clock::now());
            app.feed.say(organization, Outlook::new(known, organization).words());
        }
    }
}
