//! The generic command handler, over the in-memory log and over logs that misbehave.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture, future::join};
use rap_proto::{CommandId, Digest, NodeId};
use uuid::Uuid;

use super::{
    executor::block_on,
    given::NOW,
    samples::{ACME, EGRESS, TOKEN, after, join_token_created, name, node_requested, secret},
};
use crate::{
    Aggregate, EventCodec, StreamId,
    handler::{
        ExecuteError, Loaded, MAX_CONFLICT_RETRIES, Request, Stop, Unit, execute, fold, run,
    },
    join_token::{JoinToken, JoinTokenCommand, JoinTokenEvent, JoinTokenRejection},
    keys,
    log::{Actor, Append, AppendError, Appended, Envelope, Log, NewEvent, ReadError},
    log::{MAX_EVENTS_PER_APPEND, StreamWrite},
    memory::MemoryLog,
    node::{Node, NodeCommand, NodeRejection, NodeRequested},
    organization::{Organization, OrganizationCommand, OrganizationRejection},
    tapped::{Tap, TappedLog},
};

fn request(id: u128) -> Request {
    Request {
        command: CommandId::from_u128(id),
        request_hash: Digest::of(&id.to_be_bytes()),
        actor: Actor::Setup,
        causation: None,
        at: NOW,
    }
}

fn create() -> OrganizationCommand {
    OrganizationCommand::Create { organization: ACME, name: name("acme") }
}

fn memory() -> Arc<dyn Log> {
    Arc::new(MemoryLog::new())
}

pub(super) async fn append_one(log: &Arc<dyn Log>) {
    run::<Organization>(log, &request(1), ACME.uuid(), create()).await.unwrap();
}

#[test]
fn a_command_is_stored_tagged_and_answered() {
    let log = memory();
    let appended = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create())).unwrap();
    assert_eq!((appended.first, appended.last, appended.replayed), (1, 1, false));
    let events = block_on(log.read(0, 10)).unwrap();
    assert_eq!(events[0].event_type, "organization.created");
    assert_eq!(events[0].organization, Some(ACME));
    assert_eq!((events[0].actor.clone(), events[0].at), (Actor::Setup, NOW));
}

#[test]
fn a_rejection_is_not_an_error_of_the_log() {
    let log = memory();
    let remove = OrganizationCommand::Remove;
    let rejected = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), remove));
    assert_eq!(rejected, Err(ExecuteError::Rejected(OrganizationRejection::NotFound)));
    assert_eq!(block_on(log.head()), Ok(0));
}

#[test]
fn a_repeated_command_is_answered_as_before_though_the_rules_would_now_say_no() {
    let log = memory();
    let once =
        |request: Request| block_on(run::<Organization>(&log, &request, ACME.uuid(), create()));
    let first = once(request(1)).unwrap();
    assert_eq!(once(request(1)), Ok(Appended { replayed: true, ..first }));
    let other = Request { request_hash: Digest::of(b"other"), ..request(1) };
    assert_eq!(once(other), Err(ExecuteError::CommandReused));
    let rejected = once(request(2));
    assert_eq!(rejected, Err(ExecuteError::Rejected(OrganizationRejection::AlreadyExists)));
}

#[test]
fn a_taken_name_is_said_by_its_key() {
    let log = memory();
    let create = |id: u128, organization: u128| {
        let organization = rap_proto::OrganizationId::from_u128(organization);
        let log = &log;
        async move {
            execute(log, &request(id), |mut unit: Unit| async move {
                let mut loaded = unit.load::<Organization>(organization.uuid()).await?;
                unit.claim(keys::organization_name(&name("acme")));
                let command = OrganizationCommand::Create { organization, name: name("acme") };
                unit.decide(&mut loaded, command)
                    .map_err(Stop::<OrganizationRejection>::Rejected)?;
                Ok((unit, Bytes::from_static(b"created")))
            })
            .await
        }
    };
    assert_eq!(block_on(create(1, 1)).unwrap().reply, "created");
    let key = "organization-name/acme".to_owned();
    assert_eq!(block_on(create(2, 2)), Err(ExecuteError::Claimed { key }));
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum EnrollRejection {
    #[error(transparent)]
    Token(#[from] JoinTokenRejection),
    #[error(transparent)]
    Node(#[from] NodeRejection),
}

/// Uses the join token and requests the node, in one append.
async fn enroll(
    log: &Arc<dyn Log>,
    id: u128,
    node: NodeId,
) -> Result<Appended, ExecuteError<EnrollRejection>> {
    execute(log, &request(id), |mut unit: Unit| async move {
        let mut token = unit.load::<JoinToken>(TOKEN.uuid()).await?;
        let mut enrolled = unit.load::<Node>(node.uuid()).await?;
        let presented = secret("join");
        let using = JoinTokenCommand::Use { presented, node, name: name("egress-1") };
        unit.decide(&mut token, using).map_err(Stop::rejected)?;
        let offer = token.state.offer().unwrap().clone();
        let NodeRequested { name, key, addresses, capabilities, bus_key, agent_version, .. } =
            node_requested();
        let join_token = TOKEN;
        let requesting = NodeCommand::Request {
            name,
            key,
            addresses,
            capabilities,
            bus_key,
            agent_version,
            join_token,
            offer,
        };
        unit.decide(&mut enrolled, requesting).map_err(Stop::rejected)?;
        Ok((unit, Bytes::new()))
    })
    .await
}

async fn create_join_token(log: &dyn Log) {
    let created = JoinTokenEvent::Created(join_token_created());
    let write = StreamWrite {
        stream: JoinToken::stream(TOKEN.uuid()),
        expected: 0,
        events: vec![created.to_new_event(Some(ACME))],
    };
    log.append(append_of(write)).await.unwrap();
}

/// An append that does nothing.
pub(crate) fn empty_append() -> Append {
    Append::plain(CommandId::from_u128(99), NOW, Vec::new())
}

fn append_of(write: StreamWrite) -> Append {
    Append { writes: vec![write], ..empty_append() }
}

#[test]
fn of_two_hosts_with_one_join_token_one_is_enrolled() {
    // Both read the unused token before either appends.
    let rendezvous = Arc::new(TappedLog { log: MemoryLog::new(), tap: Rendezvous::default() });
    let log = Arc::clone(&rendezvous) as Arc<dyn Log>;
    block_on(create_join_token(log.as_ref()));
    let race = join(enroll(&log, 1, EGRESS), enroll(&log, 2, NodeId::from_u128(50)));
    let (one, two) = block_on(race);
    let used = Err(ExecuteError::Rejected(JoinTokenRejection::AlreadyUsed.into()));
    assert!(one.is_ok() ^ two.is_ok(), "{one:?} {two:?}");
    assert!(one == used || two == used, "{one:?} {two:?}");

    let events = block_on(log.read(0, 100)).unwrap();
    let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["join_token.created", "join_token.used", "node.requested"]);
    assert!(rendezvous.tap.readers.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_stream_loaded_twice_shows_what_the_unit_decided() {
    let log = memory();
    let work = |mut unit: Unit| async move {
        let mut first = unit.load::<Organization>(ACME.uuid()).await?;
        unit.decide(&mut first, create()).map_err(Stop::<OrganizationRejection>::Rejected)?;
        let second = unit.load::<Organization>(ACME.uuid()).await?;
        assert_eq!(first, second);
        assert_eq!((second.revision, unit.at()), (1, NOW));
        Ok((unit, Bytes::new()))
    };
    block_on(execute(&log, &request(1), work)).unwrap();
    let folded = block_on(fold::<Organization>(log.as_ref(), Loaded::empty(ACME.uuid()))).unwrap();
    assert_eq!(folded.revision, 1);
}

#[test]
fn a_kept_state_is_folded_on() {
    let log = memory();
    block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create())).unwrap();
    let kept = block_on(fold::<Organization>(log.as_ref(), Loaded::empty(ACME.uuid()))).unwrap();
    let rename = OrganizationCommand::Rename { name: name("acme-ltd") };
    block_on(run::<Organization>(&log, &request(2), ACME.uuid(), rename)).unwrap();
    let on = block_on(fold(log.as_ref(), kept)).unwrap();
    let anew = block_on(fold::<Organization>(log.as_ref(), Loaded::empty(ACME.uuid()))).unwrap();
    assert_eq!((on.revision, &on), (2, &anew));
}

#[test]
fn too_many_conflicts_are_reported_and_too_much_is_refused() {
    let scripted = Scripted::log(MAX_CONFLICT_RETRIES + 5, |append, _| {
        let stream = append.writes[0].stream.clone();
        Some(Err(AppendError::Conflict { stream, actual: 7 }))
    });
    let log = Arc::clone(&scripted) as Arc<dyn Log>;
    let contended = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create()));
    let stream = Organization::stream(ACME.uuid());
    assert_eq!(contended, Err(ExecuteError::Contended { stream }));
    assert_eq!(scripted.tap.appends.load(Ordering::SeqCst), MAX_CONFLICT_RETRIES + 1);

    let log = memory();
    let work = |mut unit: Unit| async move {
        for number in 0..=MAX_EVENTS_PER_APPEND as u128 {
            unit.load::<Organization>(Uuid::from_u128(number)).await?;
        }
        Ok::<_, Stop<OrganizationRejection>>((unit, Bytes::new()))
    };
    let oversized = block_on(execute(&log, &request(2), work));
    assert!(matches!(oversized, Err(ExecuteError::Oversized(_))), "{oversized:?}");
}

#[test]
fn an_unknown_outcome_is_looked_up() {
    // The connection is lost at the commit that did happen: the command is found.
    let log: Arc<dyn Log> = Scripted::log(1, |append, log| {
        block_on(log.append(append)).unwrap();
        Some(Err(AppendError::OutcomeUnknown))
    });
    let found = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create())).unwrap();
    assert_eq!((found.first, found.last), (1, 1));

    // It did not happen: the same command is appended again.
    let log: Arc<dyn Log> = Scripted::log(1, |_, _| Some(Err(AppendError::OutcomeUnknown)));
    let stored = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create())).unwrap();
    assert_eq!((stored.first, stored.replayed), (1, false));

    // The log stays mute: the caller is told that only the same id may be tried again.
    let log: Arc<dyn Log> = Scripted::log(100, |_, _| Some(Err(AppendError::OutcomeUnknown)));
    let unknown = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create()));
    assert_eq!(unknown, Err(ExecuteError::OutcomeUnknown));
}

#[test]
fn an_unreadable_event_stops_everything() {
    let log = memory();
    let event = NewEvent {
        event_type: "organization.dissolved".to_owned(),
        schema: 1,
        payload: Bytes::from_static(&[0x80]),
        organization: None,
    };
    let stream = Organization::stream(ACME.uuid());
    block_on(log.append(append_of(StreamWrite { stream, expected: 0, events: vec![event] })))
        .unwrap();
    let unreadable = block_on(run::<Organization>(&log, &request(1), ACME.uuid(), create()));
    assert!(matches!(unreadable, Err(ExecuteError::Unreadable(_))), "{unreadable:?}");
}

#[test]
fn an_expired_join_token_enrolls_nobody() {
    let log = memory();
    block_on(create_join_token(log.as_ref()));
    let late = Request { at: after(3_600_001), ..request(1) };
    let using =
        JoinTokenCommand::Use { presented: secret("join"), node: EGRESS, name: name("egress-1") };
    let rejected = block_on(run::<JoinToken>(&log, &late, TOKEN.uuid(), using));
    assert_eq!(rejected, Err(ExecuteError::Rejected(JoinTokenRejection::Expired)));
}

#[test]
fn commands_can_run_on_any_thread() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let log = memory();
    let request = request(2);
    let task = async move {
        create_join_token(log.as_ref()).await;
        let enrolled = enroll(&log, 1, EGRESS).await.is_ok();
        let run = run::<Organization>(&log, &request, ACME.uuid(), create()).await.is_ok();
        (enrolled, run)
    };
    assert_eq!(block_on(assert_send(task).boxed()), (true, true));
}

/// Lets the first reads of streams wait for one another, so that two commands decide over the
/// same state.
#[derive(Default)]
struct Rendezvous {
    readers: AtomicUsize,
}

impl Tap for Rendezvous {
    fn read_stream<'a>(
        &'a self,
        log: &'a MemoryLog,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        Box::pin(async move {
            let events = log.read_stream(stream, after_revision, limit).await;
            self.readers.fetch_add(1, Ordering::SeqCst);
            let mut yielded = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut yielded, true) {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            events
        })
    }
}

type Script = Box<dyn Fn(Append, &MemoryLog) -> Option<Result<Appended, AppendError>> + Send>;

/// Answers the first appends by a script, and then as a log should.
struct Scripted {
    scripted: usize,
    appends: AtomicUsize,
    script: Mutex<Script>,
}

impl Scripted {
    fn log(
        scripted: usize,
        script: impl Fn(Append, &MemoryLog) -> Option<Result<Appended, AppendError>> + Send + 'static,
    ) -> Arc<TappedLog<Self>> {
        let script = Mutex::new(Box::new(script) as Script);
        let tap = Self { scripted, appends: AtomicUsize::new(0), script };
        Arc::new(TappedLog { log: MemoryLog::new(), tap })
    }
}

impl Tap for Scripted {
    fn append<'a>(
        &'a self,
        log: &'a MemoryLog,
        append: Append,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        let earlier = self.appends.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().unwrap();
        let answer = (earlier < self.scripted).then(|| script(append.clone(), log)).flatten();
        match answer {
            Some(answer) => std::future::ready(answer).boxed(),
            None => log.append(append),
        }
    }
}
