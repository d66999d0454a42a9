//! Starting from what the disk holds, joining, and leaving for ever.

use std::{collections::BTreeMap, time::Duration};

use rap_agent_core::{
    Machine as _,
    disk::{Disk as _, StateFile},
    fetch::{self, Fetcher},
    link::{self, Link},
    record::{self, HeldCredentials},
    snapshot::{self, Floor, SnapshotStore},
    spool::{self, Spool},
    standing::Standing,
};
use rap_mesh_core::sessions::{EgressSessions, EntrySessions};
use rap_proto::{IncarnationId, Signer as _};

use super::{
    Agent, Phase, PowerCut, SimNode,
    beat::{Hearing, place},
    identity,
    leases::Leases,
    witness::Watching,
};
use crate::{
    checkers::Violation,
    control::join_secret,
    message::{Enroll, EnrollAnswer, Message},
    mutation::Mutation,
    network::Party,
    turn::Turn,
};

const JOIN_EVERY: Duration = Duration::from_secs(3);

impl SimNode {
    /// The power is back.
    pub fn boot(&mut self, turn: &mut Turn<'_>) {
        self.disk.restore_power();
        turn.note(format_args!("{} starts", self.host.name));
        let standing = self.read::<Standing>(StateFile::Standing);
        if standing.is_some_and(|standing| standing.is_revoked()) {
            self.phase = Phase::Stopped;
            return;
        }
        match self.read::<HeldCredentials>(StateFile::Credentials) {
            None => self.phase = Phase::Joining { ask_at: turn.moment },
            Some(held) => self.act(turn, |node, turn| node.work(turn, &held)),
        }
    }

    fn read<T: record::Record>(&self, file: StateFile) -> Option<T> {
        let bytes = self.disk.read(file).ok()??;
        record::decode(&bytes).ok()
    }

    pub(super) fn ask_to_join(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Joining { ask_at: turn.moment + JOIN_EVERY };
        let enroll = Enroll {
            host: self.index,
            name: self.host.name.clone(),
            key: self.key.public_key(),
            secret: join_secret(self.host.token),
            address: self.address(),
        };
        turn.send(Party::Control, Message::Enroll(Box::new(enroll)));
    }

    pub(super) fn enrolled(
        &mut self,
        turn: &mut Turn<'_>,
        answer: EnrollAnswer,
    ) -> Result<(), PowerCut> {
        match answer {
            EnrollAnswer::Pending => Ok(()),
            EnrollAnswer::Refused => {
                self.phase = Phase::Stopped;
                Ok(())
            }
            EnrollAnswer::Enrolled(credentials) => {
                let held = HeldCredentials {
                    obtained_at: self.calendar(turn.now),
                    credentials: *credentials,
                };
                // The floor comes first: with credentials and no floor no agent starts.
                self.keep(StateFile::Floor, &Floor::nothing())?;
                self.keep(StateFile::Credentials, &held)?;
                self.work(turn, &held)
            }
        }
    }

    fn keep<T: record::Record>(&mut self, file: StateFile, value: &T) -> Result<(), PowerCut> {
        self.disk.replace(file, &record::encode(value)).map_err(|_| PowerCut)
    }

    fn work(&mut self, turn: &mut Turn<'_>, held: &HeldCredentials) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let (floor, kept) = match snapshot::load(&self.disk) {
            Ok(found) => found,
            Err(error) => {
                let detail = format!("{} cannot start: {error}", self.host.name);
                turn.judge(Err(Violation::new("disk", detail)));
                return Ok(());
            }
        };
        let leases = Leases::load(&self.disk, turn.moment, self.chance.number());
        let leases = leases.expect("marks are replaced whole");
        let spooled = self.disk.read(StateFile::Spool).ok().flatten();
        let spooled = spooled.filter(|_| !turn.planted(Mutation::SpoolForgotten));
        let (cluster, id) = (held.credentials.cluster, held.credentials.node);
        let incarnation = IncarnationId::new(at, self.chance.bytes());
        let watching = self.watches.then(|| {
            let keys = held.credentials.control_keys.clone();
            Watching::load(&self.disk, (id, keys), turn.moment, self.chance.number())
        });
        let hearing = self.hears.then(|| {
            let keys = held.credentials.control_keys.clone();
            let (seed, when) = (self.chance.number(), (turn.moment, at));
            let (hearing, kept) = Hearing::load(&self.disk, keys, when, seed);
            if let Some(floor) = kept {
                turn.checkers.beat.restored(turn.now, self.index, place(&floor), &floor.beat);
            }
            hearing
        });
        let mut agent = Agent {
            id,
            store: SnapshotStore::new(identity(&held.credentials), floor),
            fetcher: Fetcher::new(self.chance.number()),
            link: Link::new(cluster, id, incarnation, self.chance.number()),
            spool: Spool::restore(spooled.as_deref(), self.chance.number()),
            ask: self.chance.number() >> 1,
            view: None,
            entry: EntrySessions::default(),
            egress: EgressSessions::default(),
            leases,
            watching,
            hearing,
            clients: BTreeMap::new(),
            flows: BTreeMap::new(),
        };
        if let Some(kept) = kept {
            agent.store.handle_input(turn.moment, snapshot::Input::Restore { kept, at });
        }
        let keys = link::Input::ControlKeys(agent.store.control_keys());
        agent.link.handle_input(turn.moment, keys);
        let epoch = link::Input::AuthorityEpoch(agent.store.authority_epoch());
        agent.link.handle_input(turn.moment, epoch);
        agent.link.handle_input(turn.moment, link::Input::Connected);
        agent.spool.handle_input(turn.moment, spool::Input::Link { up: true });
        let (version, sections) = agent.store.holding();
        agent.fetcher.handle_input(turn.moment, fetch::Input::Holding { version, sections });
        self.phase = Phase::Working(Box::new(agent));
        self.drain(turn)
    }

    /// Revoked: the agent stops, and stays stopped after a restart.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        self.keep(StateFile::Standing, &Standing::revoked_by_control(at))?;
        turn.note(format_args!("{} was revoked and stops", self.host.name));
        if let Some(id) = self.id() {
            turn.checkers.admission.node_ended(id);
        }
        self.phase = Phase::Stopped;
        Ok(())
    }
}
