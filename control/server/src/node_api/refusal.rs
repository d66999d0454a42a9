use std::num::NonZeroU32;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use rap_control_core::state::{Node, NodeStanding};
use rap_events::node::RevocationReason;
use rap_proto::{
    api::{Problem, ProblemCode},
    codec,
    wire::node_api::{CONTENT_TYPE, NodeApiCode, NodeApiRefusal},
};

/// A refusal on its way to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    refusal: NodeApiRefusal,
    retry_after: Option<NonZeroU32>,
    everywhere: bool,
}

impl Refused {
    pub(crate) fn new(code: NodeApiCode, message: &str) -> Self {
        let refusal = NodeApiRefusal { code, message: message.to_owned() };
        Self { refusal, retry_after: None, everywhere: false }
    }

    /// What no replica can answer: the status is one that sends nodes to no other.
    pub(super) fn everywhere(message: &str) -> Self {
        Self { everywhere: true, ..Self::new(NodeApiCode::Unavailable, message) }
    }

    /// The node follows an authority that came after this one, and whose log has it: here is nothing for
    /// it, unless this replica is merely behind.
    pub(super) fn of_later_epoch() -> Self {
        Self::new(NodeApiCode::Unavailable, "of a later authority epoch")
    }

    /// What the agent is told of a failure that is not of its own making, or of a broken rule.
    pub(crate) fn from_problem(problem: &Problem) -> Self {
        let code = match problem.code() {
            Some(ProblemCode::NotFound) => NodeApiCode::UnknownNode,
            Some(
                ProblemCode::MalformedRequest
                | ProblemCode::ValidationFailed
                | ProblemCode::BodyTooLarge,
            ) => NodeApiCode::Malformed,
            Some(ProblemCode::NameTaken | ProblemCode::Rejected) => NodeApiCode::NotPermitted,
            _ => NodeApiCode::Unavailable,
        };
        Self { retry_after: problem.retry_after_seconds, ..Self::new(code, &problem.detail) }
    }

    pub(crate) fn response(&self) -> HttpResponse {
        let status = match self.refusal.code {
            NodeApiCode::Malformed => StatusCode::BAD_REQUEST,
            NodeApiCode::TokenInvalid | NodeApiCode::NotTrusted => StatusCode::UNAUTHORIZED,
            NodeApiCode::TokenUsed | NodeApiCode::IdentityCopied => StatusCode::CONFLICT,
            NodeApiCode::NotPermitted | NodeApiCode::Revoked | NodeApiCode::QuotaReached => {
                StatusCode::FORBIDDEN
            }
            NodeApiCode::UnknownNode => StatusCode::NOT_FOUND,
            NodeApiCode::Unavailable if self.retry_after.is_some() => StatusCode::TOO_MANY_REQUESTS,
            NodeApiCode::Unavailable if self.everywhere => StatusCode::INTERNAL_SERVER_ERROR,
            NodeApiCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, CONTENT_TYPE));
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response.body(codec::encode(&self.refusal))
    }
}

/// An approved node goes on; every other one is told why not.
pub(super) fn check_standing(node: &Node) -> Result<(), Refused> {
    match (node.standing, node.revoked) {
        (NodeStanding::Approved, _) => Ok(()),
        (NodeStanding::Pending, _) => {
            Err(Refused::new(NodeApiCode::NotPermitted, "the node waits for approval"))
        }
        (NodeStanding::Revoked, Some(RevocationReason::IdentityCopied)) => Err(Refused::new(
            NodeApiCode::IdentityCopied,
            "two hosts held this identity; both are locked out",
        )),
        (NodeStanding::Rejected | NodeStanding::Revoked, _) => {
            Err(Refused::new(NodeApiCode::Revoked, "the node may not work in this cluster"))
        }
    }
}
