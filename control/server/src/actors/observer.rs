//! Hears the nodes on the bus: heartbeats go into the live table, observations into the log.
//!
//! Each node's messages are worked on one after the other, different nodes' at the same time.
//! What does not fit into a lane is dropped: nodes repeat what was not acknowledged.

pub(crate) mod inbox;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, StreamHandler};
use bytes::Bytes;
use rap_bus::{BusEvent, Subscription};
use rap_control_core::{
    Principal,
    observation::{self, Recording, Verdict},
};
use rap_events::{
    Actor as By, Aggregate,
    node::{self, NodeCommand},
    node_report::NodeReport,
    session,
};
use rap_proto::{
    CommandId, Digest, NodeId, Timestamp,
    bus::{ControlBody, Heartbeat, NodeBody, NodeMessage, all_up_subjects},
    observation::Spooled,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::inbox::{Inbox, MAX_SENDERS};
use crate::{
    app::App,
    clock,
    http::failure::Failure,
    lease_desk::Message,
    work::{Identity, MAX_CONFLICT_RETRIES, Work},
};

/// How many nodes' messages are worked on at the same time.
pub(crate) const LANES: usize = 8;
/// The most messages that wait in one lane.
pub(crate) const LANE_CAPACITY: usize = 256;
/// How long to wait before listening is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How what a limit kept out of the log is counted.
const LEFT_OUT: &str = "left_out";

pub(crate) struct Observer {
    app: Arc<App>,
    inbox: Inbox,
    lanes: Vec<mpsc::Sender<NodeMessage>>,
}

impl Observer {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, inbox: Inbox::new(MAX_SENDERS), lanes: Vec::new() }
    }
}

/// The bus listens for us from now on.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Listening(Subscription);

impl Actor for Observer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.lanes = (0..LANES).map(|_| lane(&self.app)).collect();
        let (app, own) = (Arc::clone(&self.app), ctx.address());
        actix_rt::spawn(async move {
            let subject = all_up_subjects(app.custody.cluster);
            loop {
                match app.bus.subscribe(subject.clone()).await {
                    Ok(subscription) => {
                        let _ = own.send(Listening(subscription)).await;
                        return;
                    }
                    Err(error) if own.connected() => {
                        tracing::warn!(%error, "the bus does not listen yet");
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                    Err(_) => return,
                }
            }
        });
    }
}

impl actix::Handler<Listening> for Observer {
    type Result = ();

    fn handle(&mut self, Listening(subscription): Listening, ctx: &mut Context<Self>) {
        self.app.listening_from(clock::now());
        ctx.add_stream(subscription);
    }
}

impl StreamHandler<BusEvent> for Observer {
    fn handle(&mut self, event: BusEvent, _: &mut Context<Self>) {
        let app = &self.app;
        let now = clock::now();
        match self.inbox.accept(&app.state(), app.custody.cluster, &event, now) {
            Ok(message) => {
                let lane = usize::from(message.sender.uuid().as_bytes()[15]) % LANES;
                let word = match self.lanes[lane].try_send(message) {
                    Ok(()) => "accepted",
                    Err(_) => "overflowed",
                };
                app.metrics.count("bus_messages", word);
            }
            Err(disbelief) => {
                app.metrics.count("bus_messages", disbelief.word());
                tracing::warn!(%disbelief, "a bus message is not believed");
            }
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

fn lane(app: &Arc<App>) -> mpsc::Sender<NodeMessage> {
    let (sender, mut messages) = mpsc::channel::<NodeMessage>(LANE_CAPACITY);
    let app = Arc::clone(app);
    actix_rt::spawn(async move {
        while let Some(message) = messages.recv().await {
            let node = message.sender;
            let outcome = match message.body {
                NodeBody::Heartbeat(heartbeat) => heard(&app, node, &heartbeat).await,
                NodeBody::Observations(spooled) => record(&app, node, &spooled).await,
                NodeBody::Explained(explanation) => {
                    app.inquiries.answered(node, explanation, &app.metrics);
                    Ok(())
                }
                NodeBody::Leases(report) => {
                    app.lease_desk.tell(Message::Reported { node, report }, &app.metrics);
                    Ok(())
                }
            };
            if let Err(failure) = outcome {
                // Nothing is acknowledged: the node repeats it.
                tracing::warn!(?failure, %node, "a node's message was not recorded");
                app.metrics.count("bus_messages", "failed");
            }
        }
    });
    sender
}

/// A heartbeat is no history; only a host that can do something else than before is.
async fn heard(app: &Arc<App>, node: NodeId, heartbeat: &Heartbeat) -> Result<(), Failure> {
    app.live.heard(node, heartbeat, clock::now());
    if let Some(digest) = heartbeat.snapshot_digest {
        app.manifests.applied.remember(node, heartbeat.snapshot_version, digest);
    }
    let state = app.state();
    let Some(known) = state.nodes().get(node) else { return Ok(()) };
    let same = known.capabilities == heartbeat.capabilities
        && known.agent_version == heartbeat.agent_version;
    if same {
        return Ok(());
    }
    let command = NodeCommand::ReportCapabilities {
        capabilities: heartbeat.capabilities.clone(),
        agent_version: heartbeat.agent_version.clone(),
    };
    let now = clock::now();
    let id = CommandId::new(now, clock::random());
    give::<node::Node>(app, node, (id, Digest::of(id.uuid().as_bytes())), node.uuid(), command)
        .await
        .map(|_| ())
}

/// Records a batch in order and acknowledges as far as it got.
async fn record(app: &Arc<App>, node: NodeId, spooled: &[Spooled]) -> Result<(), Failure> {
    let verdicts = match observation::record(&app.state(), node, spooled) {
        Ok(verdicts) => verdicts,
        Err(refused) => {
            tracing::warn!(%refused, %node, "a batch of observations is refused");
            return Ok(());
        }
    };
    let mut recorded = None;
    let mut outcome = Ok(());
    for Verdict { sequence, action } in verdicts {
        outcome = perform(app, node, action).await;
        if outcome.is_err() {
            break;
        }
        recorded = Some(sequence);
    }
    if let Some(through) = recorded {
        let body = ControlBody::ObservationsRecorded { through };
        let (subject, payload) = app.say(node, body, clock::now());
        if let Err(error) = app.bus.publish(subject, payload).await {
            tracing::debug!(%error, "an acknowledgement was lost; the node repeats");
        }
    }
    outcome
}

async fn perform(app: &Arc<App>, node: NodeId, action: Recording) -> Result<(), Failure> {
    let word = match action {
        Recording::Known => Ok("known"),
        Recording::Foreign { session } => {
            tracing::warn!(%node, %session, "a node reports on a session that is not its own");
            Ok("foreign")
        }
        Recording::Session { id, request_hash, session, command } => {
            let identity = (id, request_hash);
            let given = give::<session::Session>(app, node, identity, session.uuid(), command);
            given.await.map(|given| given.word(|_, _| false))
        }
        Recording::Report { id, request_hash, command } => {
            let (identity, asked) = ((id, request_hash), command.clone());
            let given = give::<NodeReport>(app, node, identity, node.uuid(), command).await;
            given.map(|given| given.word(|report, at| report.leaves_out(&asked, at)))
        }
    };
    let word = match word {
        // The rules said no, and will say so again: repeating it would block the spool.
        Err(Failure::Problem(problem)) if problem.status < 500 => {
            tracing::warn!(%node, rule = ?problem.rule, "an observation is not recorded");
            "rejected"
        }
        word => word?,
    };
    if word == LEFT_OUT {
        tracing::warn!(%node, "a lapse is left out: the node had too many within an hour");
    }
    app.metrics.count("observations", word);
    Ok(())
}

/// What became of a command that was not rejected.
enum Given<A> {
    Recorded,
    /// The log has it from before.
    Repeated,
    /// No event followed of this state at this time.
    Nothing {
        state: A,
        at: Timestamp,
    },
}

impl<A> Given<A> {
    /// How it is counted. `leaves_out` says whether a limit is why nothing followed.
    fn word(self, leaves_out: impl FnOnce(&A, Timestamp) -> bool) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Nothing { state, at } if leaves_out(&state, at) => LEFT_OUT,
            Self::Repeated | Self::Nothing { .. } => "known",
        }
    }
}

async fn give<A: Aggregate>(
    app: &Arc<App>,
    node: NodeId,
    (command_id, request_hash): (CommandId, Digest),
    stream: Uuid,
    command: A::Command,
) -> Result<Given<A>, Failure>
where
    A::Command: Clone,
{
    let actor: By = Principal::Node(node).actor();
    for _ in 0..MAX_CONFLICT_RETRIES {
        let at = clock::now();
        let mut work = Work::new(Arc::clone(&app.log), at);
        let mut loaded = work.load::<A>(stream).await?;
        let events = work.decide(&mut loaded, command.clone())?;
        let identity = Identity {
            command: command_id,
            request_hash,
            actor: actor.clone(),
            allowed: None,
            causation: None,
        };
        let appended = match work.commit(identity, Bytes::new()).await {
            Err(Failure::Conflict) => continue,
            done => done?,
        };
        return Ok(match events.is_empty() {
            _ if appended.replayed => Given::Repeated,
            true => Given::Nothing { state: loaded.state, at },
            false => Given::Recorded,
        });
    }
    Err(Failure::Conflict)
}
