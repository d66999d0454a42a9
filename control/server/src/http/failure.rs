//! How rejections and the log's errors become problems.

use rap_events::{Aggregate, AppendError, handler::LoadError, keys, log::ReadError};
use rap_proto::api::{Problem, ProblemCode};

/// Why a handler did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller is told.
    Problem(Problem),
    /// Somebody else wrote to the same stream first: decide again.
    Conflict,
    /// This person was given a key before: decide again, with that one.
    KeyGiven,
    /// Another replica does this by now: stop.
    LeaseLost,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "the log cannot be read");
        Self::Problem(match error {
            ReadError::Unavailable(_) => {
                Problem::new(ProblemCode::Unavailable, "the log cannot be read; repeat later")
            }
            ReadError::Corrupt { .. } => internal(),
        })
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Read(error) => error.into(),
            error => {
                tracing::error!(%error, "a stream cannot be folded");
                Self::Problem(internal())
            }
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let problem = match error {
            AppendError::Conflict { .. }
            | AppendError::LeaseHeld { .. }
            | AppendError::LeaseGeneration { .. }
            | AppendError::TimelineChanged { .. } => return Self::Conflict,
            AppendError::LeaseLost { .. } => return Self::LeaseLost,
            AppendError::Claimed { key } if keys::is_subject_key(&key) => return Self::KeyGiven,
            AppendError::Claimed { key } => claimed(&key),
            AppendError::CommandReused => Problem::new(
                ProblemCode::IdempotencyKeyReused,
                "the Idempotency-Key was used before, for another request",
            ),
            AppendError::TooLarge { limit, actual, greatest } => Problem::new(
                ProblemCode::ValidationFailed,
                format!("{limit}: {actual} is above {greatest}"),
            )
            .rule("append_limit"),
            AppendError::Unavailable(detail) => {
                tracing::error!(detail, "the log cannot be written");
                Problem::new(ProblemCode::Unavailable, "nothing was changed; repeat later")
            }
            AppendError::OutcomeUnknown => Problem::new(
                ProblemCode::OutcomeUnknown,
                "repeat with the same Idempotency-Key to learn what happened",
            ),
            AppendError::StreamTwice { stream } => {
                tracing::error!(%stream, "one append names a stream twice");
                internal()
            }
        };
        Self::Problem(problem)
    }
}

/// What a caller is told of a lost race, or of a lease that moved on.
pub(crate) fn contended() -> Problem {
    Problem::new(ProblemCode::Conflict, "others changed the same thing too often meanwhile; repeat")
        .rule("max_conflict_retries")
}

/// The claim's key tells which rule of uniqueness it was; what holds it is not told.
fn claimed(key: &str) -> Problem {
    let rule = key.split('/').next().unwrap_or("claim").replace('-', "_");
    Problem::new(ProblemCode::NameTaken, "something else has that name")
        .rule(format!("unique_{rule}"))
        .field("name")
}

/// Rules that speak about a value of the request rather than about the state of the thing.
const VALUE_RULES: &[&str] = &[
    "text_not_plain",
    "lifetime_out_of_range",
    "no_scopes",
    "scope_too_large",
    "too_many_addresses",
    "host_invalid",
    "port_invalid",
    "matches_nobody",
    "matches_nothing",
    "too_many_entries",
    "too_many_labels",
    "document_invalid",
    "tests_invalid",
    "quota_out_of_range",
    "bandwidth_out_of_range",
    "bandwidth_says_nothing",
    "reserve_above_cap",
    "too_many_bandwidth_rules",
    "bandwidth_rule_twice",
    "reserve_for_many",
    "only_bulk_gives_way",
    "bandwidth_above_grant",
    "invitation_too_long",
    "not_a_verifier",
];

/// An aggregate's rejection: `rule` is `<category>.<rejection>`.
pub(crate) fn rejected<A: Aggregate>(rejection: &A::Rejection) -> Failure {
    let name = snake_case(&format!("{rejection:?}"));
    let code = match name.as_str() {
        "not_found" => return not_found().into(),
        name if VALUE_RULES.contains(&name) => ProblemCode::ValidationFailed,
        _ => ProblemCode::Rejected,
    };
    Problem::new(code, rejection.to_string()).rule(format!("{}.{name}", A::CATEGORY)).into()
}

/// One answer for what is absent and for what the caller may not see.
pub(crate) fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "nothing that you may see is here")
}

pub(crate) fn internal() -> Problem {
    Problem::new(ProblemCode::Internal, "the server's log says more, under the request's id")
}

pub(crate) fn invalid(field: &str, rule: &str, detail: impl Into<String>) -> Failure {
    Problem::new(ProblemCode::ValidationFailed, detail).rule(rule).field(field).into()
}

fn snake_case(variant: &str) -> String {
    let mut text = String::with_capacity(variant.len() + 4);
    for (at, c) in variant.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_events::{
        organization::{Organization, OrganizationRejection},
        resource::{Resource, ResourceRejection},
    };

    use super::*;

    fn problem(failure: Failure) -> Problem {
        match failure {
            Failure::Problem(problem) => problem,
            other => unreachable!("a problem, not {other:?}"),
        }
    }

    #[test]
    fn a_key_that_another_command_gave_first_is_no_name_that_is_taken() {
        let claimed = |key| Failure::from(AppendError::Claimed { key });
        let user = rap_proto::UserId::from_u128(7);
        assert!(matches!(claimed(keys::subject_key(user)), Failure::KeyGiven));
        let name = problem(claimed(keys::user_name(&"alice".parse().unwrap())));
        assert_eq!(name.rule.as_deref(), Some("unique_user_name"));
    }

    #[test]
    fn a_rejection_names_its_rule_and_absence_names_nothing() {
        let taken = problem(rejected::<Organization>(&OrganizationRejection::AlreadyExists));
        assert_eq!(taken.code(), Some(ProblemCode::Rejected));
        assert_eq!(taken.rule.as_deref(), Some("organization.already_exists"));
        let value = problem(rejected::<Resource>(&ResourceRejection::PortInvalid));
        assert_eq!(value.code(), Some(ProblemCode::ValidationFailed));
        let absent = problem(rejected::<Organization>(&OrganizationRejection::NotFound));
        assert_eq!(absent, not_found());
    }

    #[test]
    fn a_taken_name_is_told_without_its_holder() {
        let key = "resource-name/0190/secret-db".to_owned();
        let problem = problem(AppendError::Claimed { key }.into());
        assert_eq!(problem.rule.as_deref(), Some("unique_resource_name"));
        assert!(!format!("{problem:?}").contains("secret-db"));
    }
}
