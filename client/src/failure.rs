//! What went wrong, what to do about it, and the exit code that tells programs.

use std::{fmt, io, process::ExitCode};

use rap_proto::{
    RefusalCode,
    api::{Problem, ProblemCode},
    observation::EndReason,
    refusal::Refusal,
};

/// The program's exit codes, as `rap --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Unauthenticated = 3,
    Denied = 4,
    NotFound = 5,
    Rejected = 6,
    Unavailable = 7,
    Target = 8,
    Limit = 9,
    NotCompared = 10,
}

/// A failed command: one line for what happened, one for what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    what: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, what)
    }

    /// A file or stream of this machine that could not be used.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {error}"))
    }

    pub(crate) fn not_logged_in() -> Self {
        Self::new(Exit::Unauthenticated, "you are not logged in")
            .hint("log in: rap login --control URL --ca sha256:… --user NAME")
    }

    /// Says what to do about it; a later hint replaces an earlier one.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says more about what happened.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.what.push_str(more);
        self
    }

    /// Prints both lines to standard error.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rap: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n     {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let refusal = refusal_of(&problem);
        let exit = match refusal {
            Some(code) => exit_of_refusal(code),
            None => problem.code().map_or(exit_of_status(problem.status), exit_of_problem),
        };
        let mut what = if problem.detail.is_empty() {
            problem.title.to_string()
        } else {
            format!("{}: {}", problem.title, problem.detail)
        };
        if let Some(field) = &problem.field {
            what.push_str(&format!(" (in {field})"));
        }
        let failure = Self::new(exit, what);
        match refusal.map_or_else(|| problem.code().and_then(hint_of_problem), hint_of_refusal) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Why access was denied: then the problem's rule is the refusal that was recorded.
fn refusal_of(problem: &Problem) -> Option<RefusalCode> {
    let denied = problem.code() == Some(ProblemCode::AccessDenied);
    problem.rule.as_deref().filter(|_| denied)?.parse().ok()
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(exit_of_refusal(refusal.code), refusal.to_string());
        match hint_of_refusal(refusal.code) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn exit_of_problem(code: ProblemCode) -> Exit {
    match code {
        ProblemCode::Unauthenticated | ProblemCode::WrongCredentials => Exit::Unauthenticated,
        ProblemCode::AccessDenied | ProblemCode::Forbidden => Exit::Denied,
        ProblemCode::NotFound => Exit::NotFound,
        ProblemCode::Rejected
        | ProblemCode::NameTaken
        | ProblemCode::Conflict
        | ProblemCode::JoinTokenUsed
        | ProblemCode::AlreadySetUp
        | ProblemCode::ValidationFailed
        | ProblemCode::PreconditionFailed => Exit::Rejected,
        ProblemCode::LimitReached
        | ProblemCode::QuotaReached
        | ProblemCode::RateLimited
        | ProblemCode::BodyTooLarge => Exit::Limit,
        ProblemCode::Unavailable
        | ProblemCode::OutcomeUnknown
        | ProblemCode::PositionNotReached
        | ProblemCode::AuthorityFrozen
        | ProblemCode::IdempotencyKeyInFlight => Exit::Unavailable,
        ProblemCode::MalformedRequest
        | ProblemCode::IdempotencyKeyMissing
        | ProblemCode::IdempotencyKeyReused
        | ProblemCode::MethodNotAllowed
        | ProblemCode::PreconditionRequired
        | ProblemCode::UnsupportedMediaType
        | ProblemCode::RenewalMismatch
        | ProblemCode::PositionTooOld
        | ProblemCode::Internal => Exit::Failed,
    }
}

/// For codes of a newer server than this program.
fn exit_of_status(status: u16) -> Exit {
    match status {
        401 => Exit::Unauthenticated,
        403 => Exit::Denied,
        404 => Exit::NotFound,
        409 | 412 | 422 => Exit::Rejected,
        413 | 429 => Exit::Limit,
        502..=504 => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn hint_of_problem(code: ProblemCode) -> Option<&'static str> {
    Some(match code {
        ProblemCode::Unauthenticated => "log in again: rap login",
        ProblemCode::WrongCredentials => "check the name and the password, or the one-time code",
        ProblemCode::AccessDenied => "rap ls shows what you may reach; a policy would allow more",
        ProblemCode::Forbidden => "somebody with a higher role can do it",
        ProblemCode::NotFound => "check the name, and --organization",
        ProblemCode::NameTaken => "choose another name",
        ProblemCode::Conflict | ProblemCode::PreconditionFailed => "look again, then repeat",
        ProblemCode::QuotaReached => "the platform's owner can raise it: rap org quota",
        ProblemCode::RateLimited => "do less at once, or wait a little",
        ProblemCode::AlreadySetUp => "log in instead: rap login",
        ProblemCode::Unavailable | ProblemCode::OutcomeUnknown => "try again in a moment",
        ProblemCode::Internal => "its log says more under the request's id",
        _ => return None,
    })
}

fn exit_of_refusal(code: RefusalCode) -> Exit {
    match code {
        RefusalCode::TokenUntrusted
        | RefusalCode::TokenExpired
        | RefusalCode::TokenNotYetValid
        | RefusalCode::TokenWrongAudience
        | RefusalCode::TokenWrongKey
        | RefusalCode::TokenWrongCluster
        | RefusalCode::SessionTerminated
        | RefusalCode::ChannelNotPermitted
        | RefusalCode::AccessDenied => Exit::Denied,
        RefusalCode::RoleNotAssigned
        | RefusalCode::PeerNotTrusted
        | RefusalCode::NodeDraining
        | RefusalCode::SnapshotBehind
        | RefusalCode::SnapshotStale
        | RefusalCode::PathUnavailable
        | RefusalCode::WorkerUnavailable
        | RefusalCode::LeaseSuperseded
        | RefusalCode::LeaseNotHeld
        | RefusalCode::ChannelNotServed
        | RefusalCode::LaneNotRelayed
        | RefusalCode::AuthorityLost => Exit::Unavailable,
        RefusalCode::AddressNotAllowed
        | RefusalCode::TargetUnreachable
        | RefusalCode::TargetRefused => Exit::Target,
        RefusalCode::LimitReached => Exit::Limit,
        RefusalCode::Malformed => Exit::Failed,
    }
}

fn hint_of_refusal(code: RefusalCode) -> Option<&'static str> {
    Some(match code {
        RefusalCode::TokenExpired | RefusalCode::TokenNotYetValid => {
            "check this machine's clock, then try again"
        }
        RefusalCode::SessionTerminated => "somebody with authority ended it; ask them",
        RefusalCode::AccessDenied | RefusalCode::ChannelNotPermitted => {
            "rap ls shows what you may reach; a policy would allow more"
        }
        RefusalCode::NodeDraining
        | RefusalCode::SnapshotBehind
        | RefusalCode::WorkerUnavailable
        | RefusalCode::LeaseSuperseded
        | RefusalCode::LeaseNotHeld
        | RefusalCode::PathUnavailable => "try again in a moment",
        RefusalCode::SnapshotStale | RefusalCode::RoleNotAssigned | RefusalCode::PeerNotTrusted => {
            "whoever runs the fabric can see why: rap node ls"
        }
        RefusalCode::TargetUnreachable | RefusalCode::TargetRefused => {
            "the fabric works; look at the resource itself"
        }
        RefusalCode::AddressNotAllowed => {
            "an administrator can allow local addresses: rap resource set --allow-local"
        }
        _ => return None,
    })
}

/// What the end of a session means for the command that used it.
pub(crate) fn of_end(reason: EndReason) -> Failure {
    let (exit, what) = match reason {
        EndReason::Terminated => (Exit::Denied, "the access was withdrawn"),
        EndReason::TargetClosed => (Exit::Target, "the resource closed the connection"),
        EndReason::WorkerDied => (Exit::Unavailable, "the adapter worker died"),
        EndReason::PathLost => (Exit::Unavailable, "the path through the mesh was lost"),
        EndReason::NodeLeft => (Exit::Unavailable, "a node on the path was drained or revoked"),
        EndReason::ClientLost => (Exit::Unavailable, "the entry lost this client"),
        EndReason::ClientClosed => (Exit::Failed, "the session was closed"),
        EndReason::NotUsed => (Exit::Failed, "the session was not used in time"),
        EndReason::LeaseLost => {
            (Exit::Unavailable, "the node that carried the resource does so no more")
        }
    };
    let failure = Failure::new(exit, format!("{what} ({reason})"));
    match exit {
        Exit::Unavailable => failure.hint("connect again"),
        Exit::Denied => failure.hint("somebody with authority ended it; ask them"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_become_one_line_a_hint_and_a_code() {
        let failure = Failure::from(Problem::new(ProblemCode::NameTaken, "acme exists"));
        assert_eq!(failure.exit, Exit::Rejected);
        assert_eq!(
            failure.to_string(),
            "rap: The name is taken: acme exists\n     choose another name"
        );
    }

    #[test]
    fn a_denial_says_whether_trying_again_helps() {
        let denied = |code: RefusalCode| {
            Failure::from(Problem::new(ProblemCode::AccessDenied, "no").rule(code.as_str()))
        };
        assert_eq!(denied(RefusalCode::AccessDenied).exit, Exit::Denied);
        let not_held = denied(RefusalCode::LeaseNotHeld);
        assert_eq!(not_held.exit, Exit::Unavailable);
        assert!(not_held.to_string().ends_with("try again in a moment"), "{not_held}");
    }

    #[test]
    fn codes_of_newer_servers_go_by_their_status() {
        let mut problem = Problem::new(ProblemCode::NotFound, "");
        problem.kind = "urn:rap:problem:moved_away".into();
        assert_eq!(Failure::from(problem).exit, Exit::NotFound);
    }

    #[test]
    fn refusals_tell_the_resource_from_the_fabric() {
        let exit = |code| Failure::from(Refusal::new(code, "no")).exit;
        assert_eq!(exit(RefusalCode::TargetRefused), Exit::Target);
        assert_eq!(exit(RefusalCode::AccessDenied), Exit::Denied);
        assert_eq!(exit(RefusalCode::PathUnavailable), Exit::Unavailable);
        assert_eq!(exit(RefusalCode::LimitReached), Exit::Limit);
        assert_eq!(of_end(EndReason::Terminated).exit, Exit::Denied);
    }
}
