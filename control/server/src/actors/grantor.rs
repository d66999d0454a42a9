//! Grants the leases of connections: the shell of the grantor.
//!
//! Every replica watches the table; only the one that leads gives commands, and each of them is
//! guarded by the leader's lease. Holders are told over the bus. What is lost there is told again,
//! and a grant also stands in its holder's next snapshot.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix::{Actor, AsyncContext as _, Context};
use bytes::Bytes;
use futures_util::future::join_all;
use rap_control_core::lease::{
    ANSWER_LIMIT, Effect, Grantor, Hold, Input, ReadId, Reason, Row, Table,
    commands::{self, Given},
    wishes::{Wishes, wishes},
};
use rap_events::{
    Actor as By, Aggregate as _,
    lease::{DatabaseTime, LeaseChange, LeaseRow, LeaseTableError, MAX_LEASE_ROWS},
    vpn_connection::VpnConnection,
};
use rap_proto::{
    CommandId, Digest, Generation, LeaseClass, NodeId, VpnConnectionId, api::Problem,
    bus::ControlBody,
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    app::App,
    clock,
    http::failure::Failure,
    leadership::Term,
    lease_desk::{Message, News},
    work::{Identity, Work},
};

const NAME: &str = "leases";

pub(crate) struct GrantorActor {
    app: Arc<App>,
    /// Whoever holds it is the one grantor of this replica.
    desk: Arc<Mutex<News>>,
}

impl GrantorActor {
    pub(crate) fn new(app: Arc<App>, desk: Arc<Mutex<News>>) -> Self {
        Self { app, desk }
    }
}

impl Actor for GrantorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (app, desk) = (Arc::clone(&self.app), Arc::clone(&self.desk));
        ctx.spawn(actix::fut::wrap_future(async move {
            watch(&app, &mut *desk.lock().await).await;
        }));
    }
}

/// Drives the grantor for as long as the server lives. A turn may read the whole table, so each
/// begins with all that was said during the last one.
async fn watch(app: &App, desk: &mut News) {
    let (mut states, mut standing) = (app.states(), app.leadership.changes());
    let mut shell = Shell::new(app);
    loop {
        desk.waiting().for_each(|message| shell.hear(message));
        shell.lead();
        shell.grantor.handle_timeout(clock::moment());
        shell.perform().await;
        let next = shell.grantor.poll_timeout().unwrap_or_default();
        let goes_on = tokio::select! {
            biased;
            changed = states.changed() => {
                shell.wish();
                changed.is_ok()
            }
            changed = standing.changed() => changed.is_ok(),
            message = desk.next() => match message {
                None => false,
                Some(message) => {
                    shell.hear(message);
                    true
                }
            },
            () = sleep(next.since(clock::moment())) => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// The grantor with what its effects are made of.
struct Shell<'a> {
    app: &'a App,
    grantor: Grantor,
    leading: bool,
    wishes: Wishes,
    /// The nodes that said that they are about to leave.
    stopping: BTreeSet<NodeId>,
    /// The nodes that the grantor was told to drain.
    draining: BTreeSet<NodeId>,
    /// The last read, from which the present effects follow.
    rows: BTreeMap<VpnConnectionId, LeaseRow>,
    at: DatabaseTime,
    /// Why each connection's last command failed. It is said loudly when it is new, and not each
    /// time that the command is given again. The machine remembers which command it gave, and is not
    /// told what came of it: the same one may fail for another reason.
    failed: RefCell<BTreeMap<VpnConnectionId, Problem>>,
}

impl<'a> Shell<'a> {
    fn new(app: &'a App) -> Self {
        let mut shell = Self {
            app,
            grantor: Grantor::new(clock::moment(), LeaseClass::hold_off),
            leading: false,
            wishes: Wishes::default(),
            stopping: BTreeSet::new(),
            draining: BTreeSet::new(),
            rows: BTreeMap::new(),
            at: DatabaseTime::default(),
            failed: RefCell::default(),
        };
        shell.wish();
        shell
    }

    fn feed(&mut self, input: Input) {
        self.grantor.handle_input(clock::moment(), input);
    }

    /// Whether this replica leads is a matter of time: it is looked at in each turn.
    fn lead(&mut self) {
        let leading = self.app.leadership.term().is_some() && self.app.refuted().is_none();
        if leading != self.leading {
            self.leading = leading;
            self.feed(Input::Leading(leading));
        }
    }

    /// Takes in what the newest state says.
    fn wish(&mut self) {
        let new = wishes(&self.app.state());
        if new == self.wishes {
            return;
        }
        let old = std::mem::replace(&mut self.wishes, new);
        if old.desired != self.wishes.desired {
            let desired = self.wishes.desired.clone();
            self.feed(Input::Desired(desired));
        }
        if let Some(timeline) = self.wishes.loss_accepted
            && old.loss_accepted != Some(timeline)
        {
            self.feed(Input::LossAccepted { timeline });
        }
        let revisions = &self.wishes.revisions;
        self.failed.get_mut().retain(|connection, _| revisions.contains_key(connection));
        let moved = revisions.iter().filter(|(id, now)| old.revisions.get(id) != Some(now));
        let moved: Vec<_> = moved.map(|(connection, _)| *connection).collect();
        for connection in moved {
            self.feed(Input::Changed(connection));
        }
        let nodes = self.app.state();
        self.stopping.retain(|node| nodes.nodes().get(*node).is_some());
        self.drain();
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Reported { node, report } => {
                let connections = self.wishes.believe(node, &report);
                self.feed(Input::Reported { node, connections });
                let news = if report.draining {
                    self.stopping.insert(node)
                } else {
                    self.stopping.remove(&node)
                };
                if news {
                    self.drain();
                }
            }
            Message::Released(connection) => self.feed(Input::Changed(connection)),
        }
    }

    fn drain(&mut self) {
        let wanted: BTreeSet<_> = self.wishes.draining.union(&self.stopping).copied().collect();
        let changed: Vec<_> = wanted.symmetric_difference(&self.draining).copied().collect();
        for node in changed {
            self.feed(Input::Draining { node, draining: wanted.contains(&node) });
        }
        self.draining = wanted;
    }

    /// Performs every effect. Reads come first; what follows from one is done at the same time.
    async fn perform(&mut self) {
        loop {
            let mut effects = Vec::new();
            while let Some(effect) = self.grantor.poll_effect() {
                match effect {
                    Effect::Read { read } => self.read(read).await,
                    effect => effects.push(effect),
                }
            }
            if effects.is_empty() {
                return;
            }
            let performed = join_all(effects.into_iter().map(|effect| self.perform_one(effect)));
            for connection in performed.await.into_iter().flatten() {
                self.feed(Input::Changed(connection));
            }
        }
    }

    async fn read(&mut self, read: ReadId) {
        // Before the table: see `Wishes::revisions`.
        self.wish();
        match timeout(ANSWER_LIMIT, read_rows(self.app)).await {
            Ok(Ok((at, rows))) => {
                (self.at, self.rows) = (at, rows);
                let table = self.table();
                self.feed(Input::Read { read, table });
                self.app.lease_desk.publish(self.grantor.reasons());
            }
            Ok(Err(error)) => tracing::warn!(%error, "the lease table is not read"),
            Err(_) => tracing::warn!("the lease table is not read in time"),
        }
    }

    fn table(&self) -> Table {
        let row = |(id, row): (&VpnConnectionId, &LeaseRow)| {
            let revision = self.wishes.revisions.get(id).copied();
            // Of a connection that was removed nothing is left to do.
            (revision.is_some() || !row.ended).then(|| (*id, shown(row, revision)))
        };
        let rows = self.rows.iter().filter_map(row).collect();
        Table { timeline: self.at.timeline, now: self.at.now, rows }
    }

    /// Performs a command or tells a holder; returns the connection that a command was about.
    async fn perform_one(&self, effect: Effect) -> Option<VpnConnectionId> {
        match effect {
            // Performed before.
            Effect::Read { .. } => None,
            // Giving authority has to wait; what takes it away goes on.
            Effect::Grant { connection, .. } if self.app.frozen().is_some() => {
                self.app.metrics.count("lease_commands", "frozen");
                Some(connection)
            }
            Effect::Grant { connection, node, generation, class, revision, reason, .. } => {
                let row = self.rows.get(&connection);
                let to = (node, generation, class);
                let given = commands::grant(connection, to, row, self.at);
                self.command(connection, given, revision, ("granted", reason)).await;
                Some(connection)
            }
            Effect::Fence { connection, revision, reason, .. } => {
                let row = self.rows.get(&connection)?;
                let given = commands::fence(connection, row);
                self.command(connection, given, Some(revision), ("fenced", reason)).await;
                Some(connection)
            }
            Effect::AskRelease { connection, node, generation, reason } => {
                tracing::info!(%connection, %node, %generation, %reason, "a lease is asked for");
                let body = ControlBody::ReleaseAsked { connection, generation };
                self.say(node, body, "release_asked").await;
                None
            }
            Effect::Offer { connection, node, generation, class } => {
                let body = ControlBody::LeaseOffered { connection, generation, class };
                self.say(node, body, "offered").await;
                None
            }
        }
    }

    async fn command(
        &self,
        connection: VpnConnectionId,
        given: Given,
        revision: Option<u64>,
        (word, reason): (&'static str, Reason),
    ) {
        let Some(term) = self.app.leadership.term() else {
            return self.app.metrics.count("lease_commands", "refused");
        };
        let given = give(self.app, term, connection, given, revision);
        let word = match timeout(ANSWER_LIMIT, given).await {
            Ok(Ok(())) => {
                self.failed.borrow_mut().remove(&connection);
                tracing::info!(%connection, %reason, word, "a lease moved");
                word
            }
            // Somebody was faster, or something moved: the next read tells.
            Ok(Err(Failure::Conflict | Failure::KeyGiven)) => "refused",
            Ok(Err(Failure::LeaseLost)) => {
                self.app.leadership.lost(term.generation);
                "refused"
            }
            Ok(Err(Failure::Problem(problem))) => {
                let before = self.failed.borrow_mut().insert(connection, problem.clone());
                if before.as_ref() == Some(&problem) {
                    tracing::debug!(%connection, %problem, "no lease moved, as before");
                } else {
                    tracing::warn!(%connection, %problem, rule = ?problem.rule, "no lease moved");
                }
                "failed"
            }
            Err(_) => "unanswered",
        };
        self.app.metrics.count("lease_commands", word);
    }

    async fn say(&self, node: NodeId, body: ControlBody, word: &'static str) {
        let (subject, payload) = self.app.say(node, body, clock::now());
        match timeout(ANSWER_LIMIT, self.app.bus.publish(subject, payload)).await {
            Ok(Ok(())) => self.app.metrics.count("lease_messages", word),
            Ok(Err(error)) => {
                self.app.metrics.count("lease_messages", "lost");
                tracing::debug!(%error, "a holder was not told; it is told again");
            }
            Err(_) => self.app.metrics.count("lease_messages", "lost"),
        }
    }
}

fn shown(row: &LeaseRow, revision: Option<u64>) -> Row {
    let hold = match row.ended {
        true => Hold::Ended,
        false => Hold::Held { renewed_at: row.renewed_at, valid_until: row.valid_until },
    };
    Row {
        generation: Generation::new(row.generation),
        holder: NodeId::from_uuid(row.holder),
        revision: revision.unwrap_or(0),
        hold,
    }
}

async fn read_rows(
    app: &App,
) -> Result<(DatabaseTime, BTreeMap<VpnConnectionId, LeaseRow>), LeaseTableError> {
    let mut rows = BTreeMap::new();
    let mut after = None;
    let mut first = None;
    loop {
        let page = app.leases.read_leases(VpnConnection::CATEGORY, after, MAX_LEASE_ROWS).await?;
        // The earliest time of all pages: by it the fewest leases are over.
        let at = *first.get_or_insert(page.at);
        after = page.rows.last().map(|(id, _)| *id);
        let full = page.rows.len() >= MAX_LEASE_ROWS;
        rows.extend(page.rows.into_iter().map(|(id, row)| (VpnConnectionId::from_uuid(id), row)));
        if !full {
            return Ok((at, rows));
        }
    }
}

/// Appends what belongs together, if this replica leads and nothing moved.
async fn give(
    app: &App,
    term: Term,
    connection: VpnConnectionId,
    given: Given,
    revision: Option<u64>,
) -> Result<(), Failure> {
    let mut work = Work::new(Arc::clone(&app.log), clock::now());
    let mut loaded = work.load::<VpnConnection>(connection.uuid()).await?;
    if revision.is_some_and(|revision| revision != loaded.revision) {
        return Err(Failure::Conflict);
    }
    for command in given.commands {
        work.decide(&mut loaded, command)?;
    }
    let grants = matches!(given.change, LeaseChange::Grant { .. });
    work.change_lease(given.change);
    work.guard(term.guard());
    let command = CommandId::new(clock::now(), clock::random());
    let identity = Identity {
        command,
        request_hash: Digest::of(command.uuid().as_bytes()),
        actor: By::System { process: NAME.to_owned() },
        allowed: None,
        causation: None,
    };
    if grants {
        app.may_grant()?;
    }
    work.commit(identity, Bytes::new()).await.map(|_| ())
}
