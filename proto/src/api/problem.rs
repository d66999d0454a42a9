use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::term::terms;

/// What every `type` starts with; the code follows.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:rap:problem:";
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

terms! {
    /// Why a request failed. Programs match this, never the text.
    ProblemCode, "problem":
    /// Not readable as what was asked for; `field` says where, when that is known.
    MalformedRequest = "malformed_request",
    /// Readable, but a value breaks a rule; `field` and `rule` say which.
    ValidationFailed = "validation_failed",
    IdempotencyKeyMissing = "idempotency_key_missing",
    /// The same key is being worked on; repeat later.
    IdempotencyKeyInFlight = "idempotency_key_in_flight",
    /// The key was used before, with another request.
    IdempotencyKeyReused = "idempotency_key_reused",
    Unauthenticated = "unauthenticated",
    /// The name, the password, the code or the secret is wrong.
    WrongCredentials = "wrong_credentials",
    /// The caller may know of it, and may not do this; `rule` says which rule says so.
    Forbidden = "forbidden",
    /// There is no such thing, or the caller may not know of it.
    NotFound = "not_found",
    MethodNotAllowed = "method_not_allowed",
    /// A rule of the thing's own says no; `rule` says which.
    Rejected = "rejected",
    NameTaken = "name_taken",
    /// Others changed the same thing too often meanwhile; repeat.
    Conflict = "conflict",
    /// Another host used the join token.
    JoinTokenUsed = "join_token_used",
    /// The installation has its first owner already.
    AlreadySetUp = "already_set_up",
    PreconditionRequired = "precondition_required",
    PreconditionFailed = "precondition_failed",
    BodyTooLarge = "body_too_large",
    UnsupportedMediaType = "unsupported_media_type",
    /// A named limit was reached; `rule` names it.
    LimitReached = "limit_reached",
    /// The organization uses what it may of something; `rule` names the quota, `limit` and `used`
    /// say how much.
    QuotaReached = "quota_reached",
    /// The caller asks too often; `rule` names whose rate it is, `retryAfterSeconds` when to repeat.
    RateLimited = "rate_limited",
    /// No policy lets the caller reach this resource, or there is no such resource.
    AccessDenied = "access_denied",
    /// The certificate's renewal counter is not the expected one: the identity was copied.
    RenewalMismatch = "renewal_mismatch",
    /// Positions that old are no longer served; start from the present.
    PositionTooOld = "position_too_old",
    /// The projections did not reach `min_position` in time; repeat.
    PositionNotReached = "position_not_reached",
    /// The log cannot be reached; nothing was changed.
    Unavailable = "unavailable",
    /// Nothing may be changed now: `rule` says why. Reading works.
    AuthorityFrozen = "authority_frozen",
    /// It is not known whether the change was made; repeat with the same `Idempotency-Key`.
    OutcomeUnknown = "outcome_unknown",
    Internal = "internal",
}

/// A problem document (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{title}: {detail}")]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:rap:problem:` and a code that never changes its meaning.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub title: Box<str>,
    pub status: u16,
    pub detail: Box<str>,
    /// The rule that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Box<str>>,
    /// The field of the request that broke it, as a JSON path without the dollar sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Box<str>>,
    /// Repeating it earlier is pointless; the same as the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub retry_after_seconds: Option<NonZeroU32>,
    /// How much there may be of what the rule names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How much there is at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u32>,
    /// Ties this to the server's log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Box<str>>,
}

impl ProblemCode {
    /// The HTTP status that always goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::MalformedRequest | Self::IdempotencyKeyMissing => 400,
            Self::Unauthenticated | Self::WrongCredentials => 401,
            Self::AccessDenied | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::IdempotencyKeyInFlight
            | Self::Rejected
            | Self::NameTaken
            | Self::Conflict
            | Self::JoinTokenUsed
            | Self::RenewalMismatch
            | Self::AlreadySetUp => 409,
            Self::PositionTooOld => 410,
            Self::PreconditionFailed => 412,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ValidationFailed | Self::IdempotencyKeyReused => 422,
            Self::PreconditionRequired => 428,
            Self::LimitReached | Self::QuotaReached | Self::RateLimited => 429,
            Self::Internal => 500,
            Self::PositionNotReached
            | Self::Unavailable
            | Self::AuthorityFrozen
            | Self::OutcomeUnknown => 503,
        }
    }

    /// One sentence, the same for every occurrence.
    pub const fn title(self) -> &'static str {
        match self {
            Self::MalformedRequest => "The request cannot be read",
            Self::ValidationFailed => "A value is not acceptable",
            Self::IdempotencyKeyMissing => "A command needs an Idempotency-Key",
            Self::IdempotencyKeyInFlight => "The same command is being worked on",
            Self::IdempotencyKeyReused => "The Idempotency-Key was used for another request",
            Self::Unauthenticated => "Log in first",
            Self::WrongCredentials => "The credentials are wrong",
            Self::Forbidden => "You may not do this",
            Self::NotFound => "There is no such thing, or you may not see it",
            Self::MethodNotAllowed => "Nothing here answers that method",
            Self::Rejected => "A rule says no",
            Self::NameTaken => "The name is taken",
            Self::Conflict => "Others changed the same thing meanwhile",
            Self::JoinTokenUsed => "The join token was used",
            Self::AlreadySetUp => "The installation is set up",
            Self::PreconditionRequired => "A change needs If-Match",
            Self::PreconditionFailed => "The thing was changed since you read it",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The content type is not understood",
            Self::LimitReached => "A limit was reached",
            Self::QuotaReached => "The organization's quota is used up",
            Self::RateLimited => "Too many requests",
            Self::AccessDenied => "Access denied",
            Self::RenewalMismatch => "The certificate's counter is not the expected one",
            Self::PositionTooOld => "Positions that old are no longer served",
            Self::PositionNotReached => "The position was not reached in time",
            Self::Unavailable => "The log cannot be reached",
            Self::AuthorityFrozen => "Nothing may be changed now",
            Self::OutcomeUnknown => "It is not known whether the change was made",
            Self::Internal => "The server failed",
        }
    }
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{PROBLEM_TYPE_PREFIX}{code}").into(),
            title: code.title().into(),
            status: code.status(),
            detail: detail.into().into_boxed_str(),
            rule: None,
            field: None,
            retry_after_seconds: None,
            limit: None,
            used: None,
            request_id: None,
        }
    }

    #[must_use]
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into().into_boxed_str());
        self
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into().into_boxed_str());
        self
    }

    /// Says how much there may be, and how much there is.
    #[must_use]
    pub fn within(mut self, limit: u32, used: u32) -> Self {
        self.limit = Some(limit);
        self.used = Some(used);
        self
    }

    /// Says when repeating it may help: in whole seconds, and in one at the earliest.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.retry_after_seconds = Some(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// `None` when a newer server uses a code that this program does not know.
    pub fn code(&self) -> Option<ProblemCode> {
        self.kind.strip_prefix(PROBLEM_TYPE_PREFIX)?.parse().ok()
    }
}
