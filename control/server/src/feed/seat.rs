use std::{mem, sync::Arc};

use rap_control_core::{Principal, audit::Audience};
use rap_events::{StreamId, keys};
use rap_proto::{
    OrganizationId, UserId,
    api::{Problem, ProblemCode},
};
use tokio::sync::Notify;

use super::{Feed, Shared, Topic};

/// One open stream's place. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Seat {
    feed: Arc<Feed>,
    number: u64,
    user: UserId,
    audience: Audience,
    topics: Vec<Topic>,
    woken: Arc<Notify>,
}

impl Seat {
    /// Takes a place, if the server and the user have one left.
    pub(crate) fn take(
        feed: &Arc<Feed>,
        principal: &Principal,
        audience: Audience,
    ) -> Result<Self, Problem> {
        let user = principal.user().ok_or_else(|| full("max_streams_per_user"))?;
        let limits = feed.limits();
        let mut shared = feed.lock();
        if shared.closed {
            return Err(Problem::new(
                ProblemCode::Unavailable,
                "this server begins no more event streams",
            ));
        }
        if shared.followers.len() >= limits.open {
            return Err(full("max_streams"));
        }
        if shared.users.get(&user).is_some_and(|open| *open >= limits.open_per_user) {
            return Err(full("max_streams_per_user"));
        }
        let seat = Self {
            feed: Arc::clone(feed),
            number: shared.next,
            user,
            audience,
            topics: topics(principal, user, audience),
            woken: Arc::new(Notify::new()),
        };
        shared.register(&seat);
        Ok(seat)
    }

    /// Is woken for the words of this organization as well.
    pub(crate) fn listen_for_words(&mut self, organization: OrganizationId) {
        let topic = Topic::Words(organization);
        self.feed.lock().topics.entry(topic.clone()).or_default().insert(self.number);
        self.topics.push(topic);
    }

    /// Waits until something was published that concerns this stream.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// The same stream for another audience of the platform.
    pub(crate) fn turn_to(&mut self, audience: Audience) {
        let mut shared = self.feed.lock();
        shared.window.watch(audience);
        shared.window.unwatch(mem::replace(&mut self.audience, audience));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.feed.lock().unregister(self);
    }
}

fn full(rule: &str) -> Problem {
    Problem::new(ProblemCode::LimitReached, "too many event streams").rule(rule)
}

/// What wakes a stream: what it shows, and whatever its authority hangs on.
fn topics(principal: &Principal, user: UserId, audience: Audience) -> Vec<Topic> {
    let stream = |category: &str, id| Topic::Stream(StreamId::new(category, id));
    let mut topics = vec![stream("user", user.uuid())];
    match principal {
        Principal::User { login, .. } => topics.push(stream("login", login.uuid())),
        Principal::ApiToken { token, .. } => topics.push(stream("api_token", token.uuid())),
        Principal::Setup | Principal::Node(_) => {}
    }
    match audience {
        Audience::Platform { .. } => topics.push(Topic::Platform),
        Audience::Organization(id) => {
            topics.push(Topic::Organization(id));
            topics.push(stream("membership", keys::membership_id(id, user)));
        }
    }
    topics
}

impl Shared {
    fn register(&mut self, seat: &Seat) {
        self.next += 1;
        *self.users.entry(seat.user).or_default() += 1;
        self.window.watch(seat.audience);
        self.followers.insert(seat.number, Arc::clone(&seat.woken));
        for topic in &seat.topics {
            self.topics.entry(topic.clone()).or_default().insert(seat.number);
        }
    }

    fn unregister(&mut self, seat: &Seat) {
        self.window.unwatch(seat.audience);
        self.followers.remove(&seat.number);
        for topic in &seat.topics {
            if let Some(numbers) = self.topics.get_mut(topic) {
                numbers.remove(&seat.number);
                if numbers.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
        if let Some(of_user) = self.users.get_mut(&seat.user) {
            *of_user = of_user.saturating_sub(1);
            if *of_user == 0 {
                self.users.remove(&seat.user);
            }
        }
    }
}
