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
pub(crate) struct Refused(NodeApiRefusal);

impl Refused {
    pub(crate) fn new(code: NodeApiCode, message: &str) -> Self {
        Self(NodeApiRefusal { code, message: message.to_owned() })
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
        Self::new(code, &problem.detail)
    }

    pub(crate) fn response(&self) -> HttpResponse {
        let status = match self.0.code {
            NodeApiCode::Malformed => StatusCode::BAD_REQUEST,
            NodeApiCode::TokenInvalid | NodeApiCode::NotTrusted => StatusCode::UNAUTHORIZED,
            NodeApiCode::TokenUsed | NodeApiCode::IdentityCopied => StatusCode::CONFLICT,
            NodeApiCode::NotPermitted | NodeApiCode::Revoked => StatusCode::FORBIDDEN,
            NodeApiCode::UnknownNode => StatusCode::NOT_FOUND,
            NodeApiCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        HttpResponse::build(status)
            .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
            .body(codec::encode(&self.0))
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
