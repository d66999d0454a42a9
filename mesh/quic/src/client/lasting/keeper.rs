//! Brings a channel its next connection: on its session, or, of a through flow, to its egress.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rap_mesh_core::ended::Close;
use rap_proto::{
    NodeId, RefusalCode,
    observation::EndReason,
    wire::{
        client::{ChannelReply, OpenChannel},
        resume::{FlowId, Resume},
        through::Word,
    },
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Counted, Succession};
use crate::{
    client::{
        Channel,
        session::{ClientSession, OpenError, SessionEnd},
        through::{Connected, NoWay, WayStream},
    },
    frames::read_frame,
    lanes::answer,
    pipe::{Keeper, Lasting, Leg, WeakLasting, lasting},
};

/// The pause before a further attempt, unless there is another connection: twice as long each time, up to
/// the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long the entry may take to find a channel: it has nothing to dial for it.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long a way to the egress may take.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// What is asked for, again and again.
pub(in crate::client) struct ChannelKeeper {
    succession: Arc<Succession>,
    request: OpenChannel,
    flow: FlowId,
    /// Where a through flow ends. Another channel ends at its entry.
    egress: Option<NodeId>,
    lasting: OnceLock<WeakLasting>,
    /// The generation that was asked for last: each counts once.
    asked: AtomicU32,
    /// Held by whoever brings it a connection.
    care: Mutex<()>,
    /// Held by whoever makes one that it may go over to.
    going: Mutex<()>,
}

/// Why an attempt came to nothing.
enum Failed {
    Passing,
    /// The other side says no, or has nothing to go on with.
    Final(Option<Close>),
}

impl Keeper for ChannelKeeper {
    fn lost(self: Arc<Self>, flow: Lasting) {
        let counted = Counted::among(&self.succession);
        tokio::spawn(async move {
            self.bring(&flow).await;
            drop(counted);
        });
    }
}

impl ChannelKeeper {
    /// For a channel that ends at the session's entry.
    pub(in crate::client) fn entry(
        succession: Arc<Succession>,
        request: OpenChannel,
        flow: FlowId,
    ) -> Arc<Self> {
        Self::new(succession, request, None, flow)
    }

    /// For one whose flow ends at this egress.
    pub(in crate::client) fn through(
        succession: Arc<Succession>,
        request: &OpenChannel,
        egress: NodeId,
        flow: FlowId,
    ) -> Arc<Self> {
        Self::new(succession, request.clone(), Some(egress), flow)
    }

    fn new(
        succession: Arc<Succession>,
        request: OpenChannel,
        egress: Option<NodeId>,
        flow: FlowId,
    ) -> Arc<Self> {
        let (lasting, asked) = (OnceLock::new(), AtomicU32::new(0));
        let (care, going) = (Mutex::new(()), Mutex::new(()));
        Arc::new(Self { succession, request, flow, egress, lasting, asked, care, going })
    }

    /// The channel, which was opened on this leg; a through flow has a `way` with it.
    pub(in crate::client) fn begin(self: Arc<Self>, leg: Leg, way: Option<WayStream>) -> Channel {
        let leg = match way {
            Some(way) => leg.in_place(self.attended(way)),
            None => leg,
        };
        let store = self.succession.store.of_one();
        let (send, recv, flow) = lasting(leg, self.clone(), store, None);
        let _ = self.lasting.set(flow.downgrade());
        Channel::new(send, recv)
    }

    /// Tries until the channel has a connection, or is over.
    async fn bring(self: &Arc<Self>, flow: &Lasting) {
        let _care = self.care.lock().await;
        let mut newest = self.succession.newest.subscribe();
        let mut pause = FIRST_PAUSE;
        while !flow.needs_nothing() && !flow.expire() {
            let inner = newest.borrow_and_update().upgrade();
            // Whoever held the session has let it go, and its channels with it.
            let Some(inner) = inner else { return flow.give_up(None) };
            let session = ClientSession { inner };
            match session.end_so_far() {
                None => match self.attempt(&session, flow).await {
                    Ok(()) => return,
                    Err(Failed::Final(close)) => return flow.give_up(close),
                    Err(Failed::Passing) => {}
                },
                Some(SessionEnd::Ended(reason)) if !self.outlives(reason) => {
                    return flow.give_up(Some(Close::Ended(reason)));
                }
                // Another connection may take its place.
                Some(_) => {}
            }
            drop(session);
            tokio::select! {
                biased;
                _ = newest.changed() => pause = FIRST_PAUSE,
                () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
            }
        }
    }

    /// An entry that leaves takes with it what ends there.
    const fn outlives(&self, reason: EndReason) -> bool {
        self.egress.is_some() && SessionEnd::Ended(reason).may_go_on()
    }

    async fn attempt(
        self: &Arc<Self>,
        session: &ClientSession,
        flow: &Lasting,
    ) -> Result<(), Failed> {
        let connected = match self.egress {
            Some(egress) => Some(self.reach(session, egress).await?),
            None => None,
        };
        let generation = self.next_generation(flow);
        let resume = Resume { flow: self.flow, generation, received: flow.detach() };
        let (leg, received) = match connected {
            Some(connected) => self.ask_egress(session, connected, resume).await?,
            None => self.ask_entry(session, resume).await?,
        };
        tracing::info!(generation, "a channel goes on");
        flow.attach(leg, generation, received).map_err(|_| Failed::Final(None))
    }

    fn next_generation(&self, flow: &Lasting) -> u32 {
        let last = self.asked.load(Ordering::Relaxed).max(flow.generation());
        self.asked.store(last.saturating_add(1), Ordering::Relaxed);
        last.saturating_add(1)
    }

    async fn ask_entry(
        &self,
        session: &ClientSession,
        resume: Resume,
    ) -> Result<(Leg, u64), Failed> {
        let request = OpenChannel { resume: Some(resume), ..self.request.clone() };
        let asked = timeout(FOUND_WITHIN, session.ask(&request)).await;
        match asked.map_err(|_| Failed::Passing)?.map_err(|_| Failed::Passing)? {
            (send, recv, ChannelReply::Attached { received }) => {
                Ok((Leg::new(send, recv).ok_or(Failed::Passing)?, received))
            }
            (.., ChannelReply::Refused(refused)) if refused.code == RefusalCode::AccessDenied => {
                Err(Failed::Final(Some(Close::Ended(EndReason::Terminated))))
            }
            // The entry can know of a loss before this side does.
            (.., ChannelReply::Refused(_)) => Err(Failed::Passing),
            // Another entry, or one that started again.
            (.., ChannelReply::Gone | ChannelReply::Opened) => Err(Failed::Final(None)),
        }
    }

    /// A connection to the egress that has the flow.
    async fn reach(&self, session: &ClientSession, egress: NodeId) -> Result<Connected, Failed> {
        let reaching = session.connect_through(&self.request, Some(egress), self.flow);
        match timeout(REACHED_WITHIN, reaching).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(NoWay::Refused(OpenError::Refused(refused))))
                if refused.code == RefusalCode::AccessDenied =>
            {
                Err(Failed::Final(Some(Close::Ended(EndReason::Terminated))))
            }
            Ok(Err(NoWay::Plain | NoWay::Refused(_) | NoWay::Failed(_))) | Err(_) => {
                Err(Failed::Passing)
            }
        }
    }

    async fn ask_egress(
        self: &Arc<Self>,
        session: &ClientSession,
        connected: Connected,
        resume: Resume,
    ) -> Result<(Leg, u64), Failed> {
        let asked = session.go_on_through(&self.request, connected, resume).await;
        let (way, ends, reply) = asked;
        let received = match answer::received(reply) {
            Ok(received) => received,
            Err(answer::Failed::Path | answer::Failed::ForNow) => return Err(Failed::Passing),
            Err(answer::Failed::Final(close)) => return Err(Failed::Final(close)),
        };
        let (outlet, inlet) = ends.ok_or(Failed::Passing)?;
        let leg = Leg::new(outlet, inlet).ok_or(Failed::Passing)?;
        Ok((leg.in_place(self.attended(way)), received))
    }

    /// Holds a way's stream, and leaves the way when its entry says so.
    fn attended(self: &Arc<Self>, way: WayStream) -> impl Send + use<> {
        let WayStream { outlet, mut inlet } = way;
        let keeper = Arc::downgrade(self);
        let attending = tokio::spawn(async move {
            while let Ok(Word::Leave) = read_frame(&mut inlet).await {
                let Some(keeper) = keeper.upgrade() else { return };
                // By the time that it has left, this task's way is gone.
                tokio::spawn(async move { keeper.go_over().await });
            }
            // What else the stream says, the way's connection says as well.
            std::future::pending::<()>().await;
        });
        (outlet, AbortOnDropHandle::new(attending))
    }

    /// Goes over to another way while the one of now still carries the flow. When that comes to nothing,
    /// the flow stays where it is.
    async fn go_over(self: &Arc<Self>) {
        let flow = self.lasting.get().and_then(WeakLasting::upgrade);
        let inner = self.succession.newest.borrow().upgrade();
        let (Some(flow), Some(inner), Some(egress)) = (flow, inner, self.egress) else { return };
        let session = ClientSession { inner };
        // One way is looked for at a time.
        let Ok(_going) = self.going.try_lock() else { return };
        let Ok(connected) = self.reach(&session, egress).await else { return };
        let _care = self.care.lock().await;
        // One that lost its way meanwhile has another already.
        if !flow.is_attached() {
            return;
        }
        let generation = self.next_generation(&flow);
        let Ok(received) = flow.offer(generation) else { return };
        let resume = Resume { flow: self.flow, generation, received };
        let moved = match self.ask_egress(&session, connected, resume).await {
            Ok((leg, came)) => flow.attach(leg, generation, came).is_ok(),
            Err(_) => false,
        };
        if moved {
            tracing::info!(generation, "a channel moved to another way");
        } else {
            flow.withdraw(generation);
        }
    }
}
