//! `GET /events`: the audit log as it grows, as server-sent events.
//!
//! Each message's id is `<cluster>:<position>`; a client that comes back sends it as
//! `Last-Event-ID` and misses nothing. What is sent is read from the log when the client is
//! ready for it: a slow client holds one page of events and nothing more. Who may see an event is
//! asked for each one, over the projections of that moment.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use rap_control_core::audit::Audience;
use rap_proto::{
    ClusterId,
    api::{Problem, ProblemCode},
};

use super::{
    audit,
    call::Call,
    endpoint::{Answered, QueryParameter},
    failure::Failure,
};
use crate::clock;

/// The most streams that are open at once.
pub(crate) const MAX_SUBSCRIBERS: u64 = 256;
/// The most events that are held for one client.
pub(crate) const MAX_BUFFERED: usize = 64;
/// How often something is sent when nothing happens: a bookmark, which also keeps proxies calm.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) const QUERY: &[QueryParameter] = &[QueryParameter {
    name: "organization",
    description: "Only events of this organization, by id or name.",
}];

struct Subscription {
    call: Call,
    audience: Audience,
    /// The last position that was looked at.
    position: u64,
    ready: VecDeque<Bytes>,
    seat: Seat,
}

/// One of the [`MAX_SUBSCRIBERS`].
struct Seat(Call);

impl Seat {
    fn take(call: &Call) -> Result<Self, Failure> {
        let seat = Self(call.clone());
        if call.app.metrics.subscribers.fetch_add(1, Ordering::AcqRel) >= MAX_SUBSCRIBERS {
            return Err(Problem::new(ProblemCode::LimitReached, "too many event streams")
                .rule("max_subscribers")
                .into());
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.app.metrics.subscribers.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) async fn subscribe(call: Call) -> Result<Answered, Failure> {
    let audience = audit::audience(&call)?;
    let position = start(&call).await?;
    let seat = Seat::take(&call)?;
    let opening = Bytes::from(": the log from here on\n\n");
    let subscription =
        Subscription { call, audience, position, ready: VecDeque::from([opening]), seat };
    let body = stream::unfold(subscription, |mut subscription| async move {
        let message = subscription.next().await?;
        Some((Ok::<_, actix_web::Error>(message), subscription))
    });
    let response = HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(body));
    Ok(Answered::Raw(response))
}

/// Behind `Last-Event-ID`, or at the present end. An id of another log, or from the future of
/// this one, is of no log that this server ever had.
async fn start(call: &Call) -> Result<u64, Failure> {
    let Some(id) = &call.last_event_id else { return Ok(call.state.position()) };
    let parsed = id.split_once(':').and_then(|(cluster, position)| {
        Some((cluster.parse::<ClusterId>().ok()?, position.parse::<u64>().ok()?))
    });
    let Some((cluster, position)) = parsed else {
        return Err(Problem::new(ProblemCode::MalformedRequest, "not an id of this stream")
            .field("Last-Event-ID")
            .into());
    };
    if cluster != call.app.custody.cluster || !is_past(call, position).await? {
        return Err(Problem::new(ProblemCode::PositionTooOld, "not a position of this log")
            .rule("last_event_id")
            .into());
    }
    Ok(position)
}

/// Whether this log came as far as `position`. Another replica may have shown it to the client
/// before this one folded it, so the log itself is asked.
async fn is_past(call: &Call, position: u64) -> Result<bool, Failure> {
    Ok(position <= call.state.position() || position <= call.app.log.head().await?)
}

impl Subscription {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let _ = &self.seat;
            let mut states = self.call.app.states();
            let grown = states.wait_for(|state| state.position() > self.position);
            let state = match tokio::time::timeout(KEEP_ALIVE, grown).await {
                Ok(Ok(state)) => state.clone(),
                Ok(Err(_)) => return None,
                Err(_) => {
                    self.still_allowed()?;
                    return Some(self.bookmark());
                }
            };
            self.read(state.position()).await?;
        }
    }

    /// Takes the next events, as far as the projections have folded them; the stream ends when
    /// they cannot be read or the caller may not see them any more.
    async fn read(&mut self, through: u64) -> Option<()> {
        let events = self.call.app.log.read(self.position, MAX_BUFFERED).await.ok()?;
        let skipped_from = self.position;
        for envelope in events.into_iter().filter(|envelope| envelope.position <= through) {
            self.still_allowed()?;
            self.position = envelope.position;
            if let Some(event) = audit::show(&self.call, self.audience, &envelope).ok()? {
                let data = serde_json::to_string(&event).ok()?;
                let text =
                    format!("id: {}\nevent: {}\ndata: {data}\n\n", self.id(), event.event_type);
                self.ready.push_back(Bytes::from(text));
            }
        }
        if self.ready.is_empty() && self.position >= skipped_from + MAX_BUFFERED as u64 {
            let bookmark = self.bookmark();
            self.ready.push_back(bookmark);
        }
        Some(())
    }

    /// Asks again with the projections of now: roles change, logins end.
    fn still_allowed(&mut self) -> Option<()> {
        let state = self.call.app.state();
        let principal = self.call.principal.as_ref()?;
        let organization = match self.audience {
            Audience::Organization(id) => Some(id),
            Audience::Platform { .. } => None,
        };
        if !state.still_holds(principal, clock::now()) {
            return None;
        }
        self.audience = Audience::of(&state, principal, organization)?;
        Some(())
    }

    /// Tells how far the log was looked at, so that coming back does not start far behind.
    fn bookmark(&self) -> Bytes {
        Bytes::from(format!("id: {}\nevent: bookmark\ndata: {{}}\n\n", self.id()))
    }

    fn id(&self) -> String {
        format!("{}:{}", self.call.app.custody.cluster, self.position)
    }
}
