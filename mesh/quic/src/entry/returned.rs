//! A client that lost its connection and comes back with another: its channels go on over that.

use std::sync::Arc;

use rap_mesh_core::{admission::claimed, refusals::refusal};
use rap_proto::{
    ChannelKind, Lane, RefusalCode,
    token::AccessClaims,
    wire::{
        client::{ChannelReply, OpenChannel},
        resume::Resume,
    },
};

use super::{Client, channel::refuse_with};
use crate::{
    frames::say_last,
    kept::{NotFound, Opener, Owner, Waiting, hand_over},
    lanes::Newest,
    mesh::Mesh,
    pipe::{Inlet, Outlet},
};

/// Whose a channel is: whoever holds the token's key.
pub(super) fn owner(claims: &AccessClaims, channel: ChannelKind, lane: Lane) -> Owner {
    Owner::new(Opener::Client(claims.client_key, lane), claims, channel)
}

/// Waits for the client of a channel until its session is over.
pub(super) fn waiting(client: &Arc<Client>) -> Waiting {
    let mesh = client.mesh.clone();
    let client = client.clone();
    Waiting::new(&mesh, move || client.over.borrow().is_none())
}

/// The token that the client showed last, also on a connection that came after this.
pub(super) fn shown_last(client: &Arc<Client>) -> Newest {
    let client = client.clone();
    Arc::new(move || {
        let own = client.admitted();
        let (session, key) = (own.claims.session, own.claims.client_key);
        client.mesh.clients.shown_last(session, key).unwrap_or(own)
    })
}

/// Gives a channel this connection: one that lost its own, or whose client saw that first. The request
/// was admitted like an opening.
pub(super) async fn go_on(
    mesh: &Mesh,
    claims: &AccessClaims,
    (mut send, recv): (Outlet, Inlet),
    request: &OpenChannel,
    resume: Resume,
) {
    send.keep_queue_short(request.lane, &mesh.controllers);
    let owner = owner(claims, request.channel, request.lane);
    let lasting = match mesh.kept_channels.find(resume.flow, owner, resume.generation) {
        Ok(lasting) => lasting,
        Err(NotFound::Gone) => {
            say_last(&mut send, &ChannelReply::Gone).await;
            return;
        }
        Err(NotFound::Foreign) => {
            mesh.refused(RefusalCode::AccessDenied, Some(claimed(claims)));
            return refuse_with(&mut send, refusal(RefusalCode::AccessDenied)).await;
        }
    };
    let answer = |offer| match offer {
        Some(received) => ChannelReply::Attached { received },
        None => ChannelReply::Gone,
    };
    hand_over(&lasting, (send, recv, ()), resume, answer).await;
}
