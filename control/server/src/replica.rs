//! Which replicas sign the authority beat: shown and changed on a replica's own host, by whoever
//! holds its state directory. It needs no server and no quorum, so that it can end a freeze.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rap_control_core::beat::Charter;
use rap_events::{
    Actor,
    authority::{Authority, AuthorityCommand, AuthorityRejection},
    handler::Loaded,
};
use rap_proto::{CommandId, Digest, KeyId, PublicKey, Signer as _, beat::EpochStatement, signed};

use crate::{
    ControlOptions, ServeError, clock,
    custody::Custody,
    http::failure::Failure,
    server::open_log,
    work::{Identity, MAX_CONFLICT_RETRIES, Work},
};

const NAME: &str = "replica-command";

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Adds the replica of the options' state directory.
    Add,
    Remove(KeyId),
}

#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(
        "this replica is listed already; if its state directory was copied from another, remove \
         replica.key from the copy, start it once, and add it then"
    )]
    Listed,
    #[error("no replica has this key")]
    Unknown,
    #[error("{0}")]
    Rejected(AuthorityRejection),
    #[error("the log: {0}")]
    Log(String),
}

/// The replicas of a cluster, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    pub statement: EpochStatement,
    /// The key of the replica that was asked.
    pub own: KeyId,
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EpochStatement { epoch, revision, replicas, threshold, .. } = &self.statement;
        writeln!(f, "epoch {epoch}, statement {revision}")?;
        let count = replicas.len();
        match count {
            1 => writeln!(f, "one replica: no quorum")?,
            _ => writeln!(f, "{threshold} of {count} replicas make a quorum")?,
        }
        for key in replicas.iter().map(PublicKey::id) {
            let note = match (*revision, key == self.own) {
                (0, _) => "  (the control key, which every replica holds)",
                (_, true) => "  (this host)",
                (_, false) => "",
            };
            writeln!(f, "{key}{note}")?;
        }
        Ok(())
    }
}

/// The statement that is valid now.
pub async fn list(options: &ControlOptions) -> Result<Replicas, ReplicaError> {
    let desk = Desk::open(options).await?;
    let (_, loaded) = desk.load().await?;
    Ok(desk.shown(desk.charter(&loaded).statement))
}

/// Makes another statement valid and returns it.
pub async fn change(options: &ControlOptions, change: Change) -> Result<Replicas, ReplicaError> {
    let desk = Desk::open(options).await?;
    for _ in 0..MAX_CONFLICT_RETRIES {
        if let Some(statement) = desk.change(change).await? {
            return Ok(desk.shown(statement));
        }
    }
    Err(ReplicaError::Log("others changed the same thing too often meanwhile; repeat".to_owned()))
}

/// What a command of this host works with.
struct Desk {
    custody: Custody,
    log: Arc<dyn rap_events::Log>,
}

impl Desk {
    async fn open(options: &ControlOptions) -> Result<Self, ReplicaError> {
        let custody =
            Custody::open(&options.state_dir, clock::now()).map_err(ServeError::Custody)?;
        let log = open_log(&options.log).await?.log;
        Ok(Self { custody, log })
    }

    async fn load(&self) -> Result<(Work, Loaded<Authority>), ReplicaError> {
        let work = Work::new(Arc::clone(&self.log), clock::now());
        let loaded = work.load::<Authority>(self.custody.cluster.uuid()).await;
        Ok((work, loaded.map_err(failed)?))
    }

    fn charter(&self, loaded: &Loaded<Authority>) -> Charter {
        match loaded.state.statement.clone() {
            Some(statement) => Charter::new(statement, &self.custody.control),
            None => Charter::implied(self.custody.cluster, &self.custody.control),
        }
    }

    /// The new statement, or `None` when somebody else was faster.
    async fn change(&self, change: Change) -> Result<Option<EpochStatement>, ReplicaError> {
        let (mut work, mut loaded) = self.load().await?;
        let charter = self.charter(&loaded);
        let replicas = changed(&charter.statement, change, self.custody.replica.public_key())?;
        let statement = charter.followed_by(replicas);
        let signed = signed::seal(&statement, &[&self.custody.control]).into();
        let command = AuthorityCommand::State { statement: statement.clone(), signed };
        work.try_decide(&mut loaded, command).map_err(ReplicaError::Rejected)?;
        let command = CommandId::new(clock::now(), clock::random());
        let identity = Identity {
            command,
            request_hash: Digest::of(command.uuid().as_bytes()),
            actor: Actor::System { process: NAME.to_owned() },
            allowed: None,
            causation: None,
        };
        match work.commit(identity, Bytes::new()).await {
            Ok(_) => Ok(Some(statement)),
            Err(Failure::Conflict) => Ok(None),
            Err(failure) => Err(failed(failure)),
        }
    }

    fn shown(&self, statement: EpochStatement) -> Replicas {
        Replicas { statement, own: self.custody.replica.public_key().id() }
    }
}

fn changed(
    present: &EpochStatement,
    change: Change,
    own: PublicKey,
) -> Result<Vec<PublicKey>, ReplicaError> {
    // The control key is every replica's: the first key that is one replica's own takes its place.
    let mut replicas = if present.revision == 0 { Vec::new() } else { present.replicas.clone() };
    match change {
        Change::Add if present.lists(&own) => return Err(ReplicaError::Listed),
        Change::Add => replicas.push(own),
        Change::Remove(key) => {
            let before = replicas.len();
            replicas.retain(|listed| listed.id() != key);
            if replicas.len() == before {
                return Err(ReplicaError::Unknown);
            }
        }
    }
    Ok(replicas)
}

fn failed(failure: Failure) -> ReplicaError {
    ReplicaError::Log(match failure {
        Failure::Problem(problem) => problem.detail.into(),
        Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost => {
            "another was faster".to_owned()
        }
    })
}
