//! The entry: clients' connections, their tokens and channels.

mod channel;
mod clients;
mod control;
mod returned;
mod through;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::Connection;
use rap_mesh_core::{
    View,
    admission::{Presented, admit_client, claimed, client_must_end, open_token},
    ended::Close,
    refusals::refusal,
    sessions::{Departure, Ended, Word},
};
use rap_proto::{
    Lane, RefusalCode,
    observation::{Claimed, EndReason},
    token::{AccessClaims, EXPORTER_LABEL, Proof},
    wire::client::{EntryControl, Hello, HelloReply},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    frames::{HELLO_TIMEOUT, read_frame, read_frame_within, say_last, write_frame},
    mesh::{Mesh, close, close_refused, locked},
    pipe::{Inlet, Outlet, lost},
    tally::Limit,
    tcp::Secured,
    transport::{MAX_CLIENT_STREAMS, adjust_accepted_client},
    watch::{SNAPSHOT_WAIT, catch_up, until},
};

pub(crate) use clients::{Clients, join, join_lane};
use clients::{JOINING, Joined, MAX_LANES};
pub(crate) use through::{Tickets, Ways};

/// How long a client that said it is done may take to let its channels run out.
const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// How long channels may take to end once they were told.
const CUT_LINGER: Duration = Duration::from_secs(1);

/// A token that was accepted, as it was shown.
pub(crate) struct Admitted {
    pub(crate) claims: AccessClaims,
    pub(crate) token: Vec<u8>,
    pub(crate) proof: Proof,
}

/// One connected client.
struct Client {
    mesh: Arc<Mesh>,
    /// What its keys come on; on TCP each channel is a connection of its own.
    connection: Option<Connection>,
    exported: [u8; 32],
    admitted: Mutex<Arc<Admitted>>,
    /// Set once, when every channel has to end.
    over: rap_watch::Sender<Option<EndReason>>,
    /// It said on a later connection that it is done.
    done: CancellationToken,
    /// Its connection is lost, and channels that outlive it wait for another.
    waits: rap_watch::Sender<bool>,
    /// Places for ways that it has not come over yet.
    expected: Arc<Semaphore>,
    /// Places for connections of its lanes.
    lanes: Arc<Semaphore>,
}

impl Client {
    fn admitted(&self) -> Arc<Admitted> {
        locked(&self.admitted).clone()
    }

    /// Waits until the session is over for all its channels.
    async fn over(&self) -> EndReason {
        let mut over = self.over.subscribe();
        let reason = over.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        reason.unwrap_or(EndReason::ClientLost)
    }

    /// The same for a channel that does not outlive the client's connection.
    async fn over_or_lost(&self) -> EndReason {
        let mut waits = self.waits.subscribe();
        tokio::select! {
            biased;
            reason = self.over() => reason,
            _ = waits.wait_for(|waits| *waits) => EndReason::ClientLost,
        }
    }

    fn waits(&self) -> bool {
        *self.waits.borrow()
    }

    /// The first reason stands.
    fn end(&self, reason: EndReason) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(reason);
            first
        });
    }
}

/// The first stream of a client, and its first words.
struct Introduced {
    send: Outlet,
    recv: Inlet,
    hello: Hello,
    exported: [u8; 32],
}

/// Serves one client on QUIC until it leaves or has to.
pub(crate) async fn serve(mesh: Arc<Mesh>, connection: Connection) {
    let mut exported = [0; 32];
    let export = connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"");
    let first = timeout(HELLO_TIMEOUT, first_stream(&connection)).await.ok().flatten();
    let (Ok(()), Some((send, recv, hello))) = (export, first) else {
        mesh.refused(RefusalCode::Malformed, None);
        return close(&connection, Close::Refused(RefusalCode::Malformed));
    };
    let introduced = Introduced { send, recv, hello, exported };
    match welcome(&mesh, introduced, Some(connection.clone())).await {
        Ok((reason, ended)) => {
            close(&connection, Close::Ended(reason));
            tell_end(&mesh, ended).await;
        }
        Err(code) => close_refused(&connection, code).await,
    }
}

/// The same on TCP: this connection is the client's first stream.
pub(crate) async fn serve_tcp(mesh: Arc<Mesh>, secured: Secured) {
    let Secured { outlet: send, inlet: mut recv, exported, .. } = secured;
    let Ok(hello) = read_frame_within(&mut recv, HELLO_TIMEOUT).await else {
        return mesh.refused(RefusalCode::Malformed, None);
    };
    // What ends a session, or refuses it, was said on the stream.
    if let Ok((_, ended)) = welcome(&mesh, Introduced { send, recv, hello, exported }, None).await {
        tell_end(&mesh, ended).await;
    }
}

/// Admits a client and serves it. Returns why that ended, with the end of its session when this was
/// its last connection, or why it did not begin.
async fn welcome(
    mesh: &Arc<Mesh>,
    introduced: Introduced,
    connection: Option<Connection>,
) -> Result<(EndReason, Option<Ended>), RefusalCode> {
    let Introduced { mut send, recv, hello, exported } = introduced;
    let admitted = match admit_or_catch_up(mesh, &hello, &exported).await {
        Ok(admitted) => admitted,
        Err((code, claimed)) => {
            mesh.refused(code, claimed);
            say_last(&mut send, &HelloReply::Refused(refusal(code))).await;
            return Err(code);
        }
    };
    let expires_at = admitted.claims.expires_at;
    let session = admitted.claims.session;
    connection.as_ref().into_iter().for_each(adjust_accepted_client);
    let client = Arc::new(Client {
        mesh: mesh.clone(),
        connection,
        exported,
        admitted: Mutex::new(Arc::new(admitted)),
        over: rap_watch::Sender::new(None),
        done: CancellationToken::new(),
        waits: rap_watch::Sender::new(false),
        expected: Arc::new(Semaphore::new(through::MAX_EXPECTED)),
        lanes: Arc::new(Semaphore::new(MAX_LANES)),
    });
    // Known before the client hears that it is: its first channel may follow at once.
    let (joining, joined) = mpsc::channel(JOINING);
    let _known = mesh.clients.add(mesh, session, client.clone(), joining);
    // It may have come back, with another token than its flows know.
    mesh.lanes.refreshed(mesh, session);
    let accepted = HelloReply::Accepted { expires_at, through: true, lanes: true };
    let departure = match timeout(HELLO_TIMEOUT, write_frame(&mut send, &accepted)).await {
        Ok(Ok(())) => run(&client, send, recv, joined).await,
        Ok(Err(_)) | Err(_) => {
            client.end(EndReason::ClientLost);
            Departure::Lost
        }
    };
    let over = *client.over.borrow();
    let now = (mesh.clock.moment(), mesh.clock.now());
    let ended = if client.waits() {
        locked(&mesh.entry).wait_no_more(now, session)
    } else {
        locked(&mesh.entry).detach(now, session, departure)
    };
    let reason = ended.map(|ended| ended.reason).or(over).unwrap_or(EndReason::ClientClosed);
    Ok((reason, ended))
}

async fn tell_end(mesh: &Mesh, ended: Option<Ended>) {
    if let Some(ended) = ended {
        tell(mesh, ended.word).await;
    }
}

/// Tells all that there is to tell by now, in the place of who waits for room to do so.
pub(crate) async fn tell_all(mesh: &Mesh) {
    let last = locked(&mesh.entry).last_word();
    tell(mesh, last).await;
}

/// Tells all that an entry has to tell up to this word. Whoever gives up waiting for room leaves it to who
/// tells the next one, at the latest the end of its session.
async fn tell(mesh: &Mesh, word: Word) {
    while !locked(&mesh.entry).is_told(word) {
        let room = mesh.events.room().await;
        // Held until it is told: the next word comes behind it.
        let mut sessions = locked(&mesh.entry);
        let Some((at, observation)) = sessions.next_word(word) else { return };
        // An agent that no longer listens is shutting down.
        if let Some(room) = room {
            room.tell(at, observation);
        }
    }
}

async fn first_stream(connection: &Connection) -> Option<(Outlet, Inlet, Hello)> {
    let (send, recv) = connection.accept_bi().await.ok()?;
    let (send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
    let hello = read_frame(&mut recv).await.ok()?;
    Some((send, recv, hello))
}

/// Why a client was refused, and its claims when their signature was verified.
type Refused = (RefusalCode, Option<Claimed>);

async fn admit_or_catch_up(
    mesh: &Mesh,
    hello: &Hello,
    exported: &[u8; 32],
) -> Result<Admitted, Refused> {
    let view = mesh.view();
    match admit(mesh, &view, hello, exported).await {
        Err((RefusalCode::RoleNotAssigned, _))
            if catch_up(mesh, view.version, SNAPSHOT_WAIT).await =>
        {
            admit(mesh, &mesh.view(), hello, exported).await
        }
        outcome => outcome,
    }
}

async fn admit(
    mesh: &Mesh,
    view: &View,
    Hello { token, proof }: &Hello,
    exported: &[u8; 32],
) -> Result<Admitted, Refused> {
    let claims = open_token(view, token).map_err(|code| (code, None))?.into_inner();
    let presented = Presented { claims: &claims, token, proof };
    let refused = |code| (code, Some(claimed(&claims)));
    admit_client(view, presented, exported, mesh.clock.now()).map_err(refused)?;
    mesh.fencing.admit(claims.leased).await.map_err(refused)?;
    if mesh.leaving.is_cancelled() {
        return Err(refused(RefusalCode::NodeDraining));
    }
    locked(&mesh.entry).attach(claims.session).map_err(refused)?;
    Ok(Admitted { claims, token: token.clone(), proof: proof.clone() })
}

/// Serves channels until the client leaves or its session has to end.
async fn run(
    client: &Arc<Client>,
    send: Outlet,
    recv: Inlet,
    mut joined: mpsc::Receiver<Joined>,
) -> Departure {
    let mesh = &client.mesh;
    let mut channels = JoinSet::new();
    let mut control = control::Control { client: client.clone(), send };
    let departure = {
        let control = control.serve(recv);
        let must_end =
            until(mesh, |view, now| client_must_end(view, &client.admitted().claims, now));
        // A newer token of the same session is of the same lease.
        let superseded = mesh.fencing.superseded(client.admitted().claims.leased);
        let over = client.over();
        tokio::pin!(control, must_end, superseded, over);
        loop {
            tokio::select! {
                biased;
                // Only a flow that was ended by authority, or whose lease is over, sets this while
                // the client is served, and the client itself on a later connection.
                reason = &mut over => break ended(reason),
                reason = &mut must_end => break Left::Decided(reason),
                () = &mut superseded => break Left::Decided(EndReason::LeaseLost),
                () = mesh.leaving.cancelled() => break Left::Decided(EndReason::NodeLeft),
                how = &mut control => break how,
                () = client.done.cancelled() => break Left::Done,
                Some(_) = channels.join_next() => {}
                next = next_channel(client, &mut joined) => match next {
                    Ok(Joined { send, recv, there }) if channels.len() < MAX_CLIENT_STREAMS as usize => {
                        channels.spawn_on(channel::serve(client.clone(), send, recv), &there);
                    }
                    Ok(Joined { send, .. }) => {
                        mesh.tally.reached(Limit::ClientStreams);
                        channel::refuse(send);
                    }
                    Err(left) => break left,
                },
            }
        }
    };
    let departure = match departure {
        Left::Lost => {
            // Whoever joins it now is told that it is not served.
            drop(joined);
            if let Some(connection) = &client.connection {
                close(connection, Close::Ended(EndReason::ClientLost));
            }
            await_return(client, &mut channels).await
        }
        left => left,
    };
    leave(client, departure, &mut control, channels).await
}

/// Keeps the channels that outlive their client's connection until the last is over, or has to be.
/// The others end.
async fn await_return(client: &Client, channels: &mut JoinSet<()>) -> Left {
    let mesh = &client.mesh;
    let session = client.admitted().claims.session;
    if channels.is_empty() || !locked(&mesh.entry).wait(session) {
        return Left::Lost;
    }
    client.waits.send_replace(true);
    let must_end = until(mesh, |view, now| client_must_end(view, &client.admitted().claims, now));
    let superseded = mesh.fencing.superseded(client.admitted().claims.leased);
    let over = client.over();
    tokio::pin!(must_end, superseded, over);
    loop {
        tokio::select! {
            biased;
            reason = &mut over => return ended(reason),
            reason = &mut must_end => return Left::Decided(reason),
            () = &mut superseded => return Left::Decided(EndReason::LeaseLost),
            () = mesh.leaving.cancelled() => return Left::Decided(EndReason::NodeLeft),
            ended = channels.join_next() => if ended.is_none() {
                return Left::Lost;
            },
        }
    }
}

/// How serving a client ended.
#[derive(Debug, Clone, Copy)]
enum Left {
    /// The client said that it is done.
    Done,
    /// The client closed the connection.
    Closed,
    Lost,
    /// Authority, or this node's leaving.
    Decided(EndReason),
}

/// Only a client that is done ends what it opened as closed by itself.
fn ended(reason: EndReason) -> Left {
    match reason {
        EndReason::ClientClosed => Left::Closed,
        reason => Left::Decided(reason),
    }
}

/// What a connection that is gone said tells whether the client closed it.
fn departed(close: Option<Close>) -> Left {
    if close.is_some() { Left::Closed } else { Left::Lost }
}

/// The client's next channel, on whichever carrier.
async fn next_channel(
    client: &Client,
    joined: &mut mpsc::Receiver<Joined>,
) -> Result<Joined, Left> {
    let on_quic = async {
        match &client.connection {
            Some(connection) => connection.accept_bi().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        accepted = on_quic => match accepted {
            Ok((send, recv)) => {
                let there = client.mesh.tasks_of(Lane::Interactive).runtime().clone();
                Ok(Joined { send: Outlet::Quic(send), recv: Inlet::Quic(recv), there })
            }
            Err(error) => Err(departed(lost(&error))),
        },
        Some(channel) = joined.recv() => Ok(channel),
    }
}

/// Ends the channels, and tells the client and the session's book why.
async fn leave(
    client: &Client,
    left: Left,
    control: &mut control::Control,
    mut channels: JoinSet<()>,
) -> Departure {
    let (reason, departure) = match left {
        Left::Done => {
            let run_out = async {
                while channels.join_next().await.is_some() {}
                client.mesh.clients.left_run_out(client).await;
            };
            // What has not run out by then is cut below.
            let _ = timeout(CLOSE_LINGER, run_out).await;
            // A connection that is closed without a word can be an attempt to come back.
            client.mesh.clients.end_left(client);
            (EndReason::ClientClosed, Departure::Clean)
        }
        Left::Closed => (EndReason::ClientClosed, Departure::Clean),
        Left::Lost => (EndReason::ClientLost, Departure::Lost),
        Left::Decided(reason) => {
            let session = client.admitted().claims.session;
            locked(&client.mesh.entry).decide(session, reason);
            // The connection's close code says the same, should this not arrive.
            let _ = timeout(CUT_LINGER, control.say(&EntryControl::Ended { reason })).await;
            (reason, Departure::Clean)
        }
    };
    client.end(reason);
    let cut = async { while channels.join_next().await.is_some() {} };
    if timeout(CUT_LINGER, cut).await.is_err() {
        channels.shutdown().await;
    }
    // On TCP nothing else tells the client that this is the end, and not a loss.
    let _ = timeout(CUT_LINGER, control.send.finish()).await;
    departure
}
