//! The rebuild of the answering replica's projections: asked for, and shown.
//!
//! It changes no authority, so no event tells of it: the replica that was asked remembers the
//! command, and a repetition there begins no other.

use rap_control_core::{Action, Target};
use rap_proto::api::Rebuild;

use super::{
    answer::Done,
    call::Call,
    endpoint::Nothing,
    failure::{Failure, internal},
};

pub(super) async fn get(call: Call) -> Result<Rebuild, Failure> {
    call.allow(Action::ReadPlatform, Target::Platform)?;
    Ok(call.app.rebuilds.shown(call.app.replica))
}

pub(super) async fn ask(call: Call, _: Nothing) -> Result<Done<Rebuild>, Failure> {
    call.allow(Action::RebuildProjections, Target::Platform)?;
    let app = &call.app;
    let command = call.identity.as_ref().ok_or_else(internal)?.command;
    app.rebuilds.ask(command, call.now, app.state().position())?;
    Ok(Done::unstored(&app.rebuilds.shown(app.replica)))
}
