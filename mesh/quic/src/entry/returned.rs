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

use super::{
    Client,
    channel::{answer_last, refuse_with},
};
use crate::{
    frames::write_frame,
    kept::{NotFound, Opener, Owner, Waiting},
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

/// Gives a channel that lost its connection this one. The request was admitted like an opening.
pub(super) async fn go_on(
    mesh: &Mesh,
    claims: &AccessClaims,
    (mut send, recv): (Outlet, Inlet),
    request: &OpenChannel,
    Resume { flow, generation, received }: Resume,
) {
    let owner = owner(claims, request.channel, request.lane);
    let lasting = match mesh.kept_channels.find(flow, owner, generation) {
        Ok(lasting) => lasting,
        Err(NotFound::Gone) => return answer_last(&mut send, &ChannelReply::Gone).await,
        Err(NotFound::Foreign) => {
            mesh.refused(RefusalCode::AccessDenied, Some(claimed(claims)));
            return refuse_with(&mut send, refusal(RefusalCode::AccessDenied)).await;
        }
    };
    let reply = ChannelReply::Attached { received: lasting.detach() };
    if write_frame(&mut send, &reply).await.is_ok() {
        lasting.go_on((send, recv, ()), generation, received);
    }
}
