//! What an egress answers to a flow that asks for another connection, and what follows from it.

use rap_mesh_core::{ended::Close, moves::Stayed, refusals::worth_trying_elsewhere};
use rap_proto::{RefusalCode, observation::EndReason, wire::lane::FlowReply};

use crate::{
    frames::ReadFrameError,
    pipe::{Broken, Short},
};

/// Why an attempt came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nothing came back, or there was nothing to ask on.
    Path,
    /// The egress says no, and may say yes later. What led to it works.
    ForNow,
    /// The egress says no, or has nothing to go on with.
    Final(Option<Close>),
}

impl Failed {
    /// The same of a flow that could stay where it was.
    pub(super) const fn stayed(&self) -> Stayed {
        match self {
            Self::Path => Stayed::Path,
            Self::ForNow | Self::Final(_) => Stayed::Flow,
        }
    }

    fn refused(code: RefusalCode) -> Self {
        if worth_trying_elsewhere(code) { Self::ForNow } else { Self::Final(Some(ended_by(code))) }
    }
}

/// How far the egress came.
pub(crate) fn received(reply: Result<FlowReply, ReadFrameError>) -> Result<u64, Failed> {
    match reply {
        Ok(FlowReply::Attached { received }) => Ok(received),
        Ok(FlowReply::Refused(refused)) => Err(Failed::refused(refused.code)),
        // An egress that started again, or never knew of such flows.
        Ok(FlowReply::Gone | FlowReply::Opened) => Err(Failed::Final(None)),
        // It refused the whole connection.
        Err(ReadFrameError::Stream(Short::Broken(Broken::Reset(code)))) => {
            match Close::from_code(code) {
                Some(Close::Refused(code)) => Err(Failed::refused(code)),
                Some(Close::Ended(_) | Close::Done) | None => Err(Failed::Path),
            }
        }
        Err(_) => Err(Failed::Path),
    }
}

/// What a refusal means for a flow that runs.
fn ended_by(code: RefusalCode) -> Close {
    match code {
        RefusalCode::SessionTerminated | RefusalCode::AccessDenied => {
            Close::Ended(EndReason::Terminated)
        }
        RefusalCode::LeaseSuperseded => Close::Ended(EndReason::LeaseLost),
        _ => Close::Ended(EndReason::PathLost),
    }
}

#[cfg(test)]
mod tests {
    use rap_mesh_core::refusals::refusal;

    use super::*;

    fn stays(reply: Result<FlowReply, ReadFrameError>) -> Option<Stayed> {
        received(reply).err().map(|failed| failed.stayed())
    }

    #[test]
    fn a_path_that_brings_an_answer_is_not_the_one_that_failed() {
        let refused = |code| Ok(FlowReply::Refused(refusal(code)));
        for code in [RefusalCode::LimitReached, RefusalCode::TokenExpired] {
            assert_eq!(stays(refused(code)), Some(Stayed::Flow), "{code}");
        }
        assert_eq!(received(refused(RefusalCode::LimitReached)), Err(Failed::ForNow));
        assert_eq!(stays(Ok(FlowReply::Gone)), Some(Stayed::Flow));
        assert_eq!(stays(Ok(FlowReply::Attached { received: 7 })), None);
    }

    #[test]
    fn a_connection_that_is_refused_brought_an_answer_and_one_that_is_lost_did_not() {
        let reset =
            |close: Close| Err(ReadFrameError::Stream(Short::Broken(Broken::Reset(close.code()))));
        let limit = Close::Refused(RefusalCode::LimitReached);
        assert_eq!(stays(reset(limit)), Some(Stayed::Flow));
        assert_eq!(stays(reset(Close::Done)), Some(Stayed::Path));
        assert_eq!(stays(Err(ReadFrameError::Stream(Short::Finished))), Some(Stayed::Path));
        assert_eq!(stays(Err(ReadFrameError::TimedOut)), Some(Stayed::Path));
    }
}
