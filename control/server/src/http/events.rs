//! `GET /events`: the audit log as it grows, as server-sent events.
//!
//! Each message's id is an [`EventId`](rap_proto::api::EventId); a client that comes back sends it as
//! `Last-Event-ID` and misses nothing. Messages come from the window that all streams share; one
//! that is behind it reads the log page by page until it is not. Either way a stream holds little
//! ([`MAX_READY_BYTES`], or one event), and takes more only when the client took that.
//!
//! A stream goes on only in the log in which what its client saw last still stands: elsewhere it ends,
//! and its client is told when it comes back.
//!
//! Who may see an event is asked for each one, over the projections of that moment.

mod start;

use std::{collections::VecDeque, sync::Arc};

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use rap_control_core::{
    Action, Principal, State, Target,
    audit::{self, Audience, Seen, Taken},
    authorize,
};
use rap_events::entry;
use rap_proto::api::{AuditEvent, EventId};

use super::{
    call::Call,
    endpoint::{Answered, Form, Parameter},
    failure::{Failure, invalid},
    words::Telling,
};
use crate::{app::App, clock, feed::Seat, follow};

/// The most bytes of messages that are ready for one client; one message above it is ready alone.
const MAX_READY_BYTES: usize = 16 * 1024;
/// The most events that are read at once for a stream behind the window.
const MAX_PAGE_EVENTS: usize = 64;

pub(super) const QUERY: &[Parameter] = &[
    Parameter {
        name: "organization",
        form: Form::Reference,
        description: "Only events of this organization, by id or name.",
    },
    Parameter {
        name: "availability",
        form: Form::Flag,
        description: "Tell also how the organization's resources can be reached, and when that changes.",
    },
];

pub(super) const HEADERS: &[Parameter] = &[Parameter {
    name: "Last-Event-ID",
    form: Form::EventId,
    description: "The id of the last message that was seen: what follows it is sent.",
}];

/// One open stream. It holds no state of the projections: an old one would be kept alive by it.
struct Subscription {
    app: Arc<App>,
    principal: Principal,
    audience: Audience,
    seat: Seat,
    /// Messages with the events that they tell of.
    ready: VecDeque<(Seen, Bytes)>,
    /// The last event that was looked at: everything before it was sent, or is ready.
    looked: Seen,
    /// The last event of which the client was told.
    told: Seen,
    /// The position of the projections over which the authority was asked for.
    checked: u64,
    /// Of a stream that asked for its organization's words.
    words: Option<Telling>,
}

/// What came of looking for more.
enum Found {
    Messages,
    /// Far enough without a message that the client should know.
    Progress,
    Nothing,
}

pub(super) async fn subscribe(call: Call) -> Result<Answered, Failure> {
    let audience = super::audit::audience(&call)?;
    let words = words(&call, audience)?;
    let principal = call.principal()?.clone();
    let app = Arc::clone(&call.app);
    // First: whoever has no place costs the log nothing.
    let mut seat = Seat::take(&app.feed, &principal, audience)?;
    let seen = start::start(&call).await?;
    if let Some(Telling { organization, .. }) = words {
        seat.listen_for_words(organization);
    }
    let subscription = Subscription {
        seat,
        app,
        principal,
        audience,
        ready: VecDeque::from([(seen, Bytes::from(": the log from here on\n\n"))]),
        looked: seen,
        told: seen,
        checked: call.state.position(),
        words,
    };
    drop(call);
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

/// Whoever may read the organization's resources may ask for their words.
fn words(call: &Call, audience: Audience) -> Result<Option<Telling>, Failure> {
    if !call.query_value("availability")?.unwrap_or(false) {
        return Ok(None);
    }
    let Audience::Organization(organization) = audience else {
        let detail = "name the organization whose resources are meant";
        return Err(invalid("availability", "one_organization", detail));
    };
    call.allow(Action::ReadResource, Target::Organization(organization))?;
    Ok(Some(Telling::new(organization)))
}

/// One message; the same for everybody who sees the event in this form.
pub(crate) fn message(id: &EventId, event: &AuditEvent) -> Bytes {
    let data = serde_json::to_string(event).expect("every event is expressible in JSON");
    let name = &event.event_type;
    Bytes::from(format!("id: {id}\nevent: {name}\ndata: {data}\n\n"))
}

impl Subscription {
    /// The next message; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let state = self.app.state();
            if state.position() != self.checked {
                self.still_allowed(&state)?;
            }
            drop(state);
            if let Some((seen, message)) = self.ready.pop_front() {
                self.told = seen;
                return Some(message);
            }
            if let Some(message) = self.word() {
                return Some(message);
            }
            match self.look().await? {
                Found::Messages => continue,
                Found::Progress => return Some(self.bookmark()),
                Found::Nothing if self.app.feed.is_closed() => return None,
                Found::Nothing => {}
            }
            let patience = self.app.feed.limits().keep_alive;
            if tokio::time::timeout(patience, self.seat.woken()).await.is_err() {
                let state = self.app.state();
                self.still_allowed(&state)?;
                return Some(self.bookmark());
            }
        }
    }

    fn word(&mut self) -> Option<Bytes> {
        let telling = self.words.as_mut()?;
        telling.next(self.app.feed.words(telling.organization))
    }

    /// Takes more from the window, or from the log when the window begins later. The stream ends when
    /// what was looked at last is of another log than the window.
    async fn look(&mut self) -> Option<Found> {
        match self.app.feed.take(self.audience, self.looked, MAX_READY_BYTES) {
            Taken::Behind => self.read_page().await,
            Taken::Replaced => None,
            Taken::Events { events, through } => {
                self.looked = through;
                self.ready.extend(events);
                Some(if self.ready.is_empty() { Found::Nothing } else { Found::Messages })
            }
        }
    }

    /// Reads the log, as far as the window goes, if what was looked at last and what was published last
    /// both stand there. The stream ends when they do not, or when the log cannot be read; the
    /// client comes back.
    async fn read_page(&mut self) -> Option<Found> {
        let app = Arc::clone(&self.app);
        let _turn = app.feed.page_readers.acquire().await.ok()?;
        let end = app.feed.end();
        let events = follow::between(app.log.as_ref(), self.looked, end, MAX_PAGE_EVENTS).await;
        let events = events.ok()?;
        let state = app.state();
        let mut bytes = 0;
        for envelope in &events {
            let seen = Seen { position: envelope.position, leaf: Some(entry::leaf(envelope)) };
            let shown = audit::show_over(&state, envelope, self.audience).ok()?;
            if let Some(message) = shown.map(|event| message(&app.event_id(seen), &event)) {
                bytes += message.len();
                if bytes > MAX_READY_BYTES && !self.ready.is_empty() {
                    break;
                }
                self.ready.push_back((seen, message));
            }
            self.looked = seen;
        }
        Some(if self.ready.is_empty() { Found::Progress } else { Found::Messages })
    }

    /// Asks again with the projections of now: roles change, logins end. `None` ends the stream;
    /// a narrower or wider audience goes on from what the client was told.
    fn still_allowed(&mut self, state: &State) -> Option<()> {
        self.checked = state.position();
        let organization = match self.audience {
            Audience::Organization(id) => Some(id),
            Audience::Platform { .. } => None,
        };
        if !state.still_holds(&self.principal, clock::now()) {
            return None;
        }
        let audience = Audience::of(state, &self.principal, organization)?;
        if let Some(Telling { organization, .. }) = self.words {
            let target = Target::Organization(organization);
            let may = authorize(state, &self.principal, Action::ReadResource, target);
            may.is_allowed().then_some(())?;
        }
        if audience != self.audience {
            self.audience = audience;
            self.seat.turn_to(audience);
            self.ready.clear();
            self.looked = self.told;
        }
        Some(())
    }

    /// Tells how far the log was looked at, so that coming back does not start far behind.
    fn bookmark(&mut self) -> Bytes {
        self.told = self.looked;
        let id = self.app.event_id(self.looked);
        Bytes::from(format!("id: {id}\nevent: bookmark\ndata: {{}}\n\n"))
    }
}
