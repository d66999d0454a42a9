//! The egress' part in making a hole: it says where relays see its port, and knocks at what the
//! entry named.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use quinn::Connection;
use rap_mesh_core::{
    Caller,
    admission::admit_meeting,
    holes::{KNOCK_AT, LISTEN_AFTER, Limits, Places, may_knock_for},
    refusals::refusal,
};
use rap_proto::{
    NodeId, RefusalCode,
    wire::lane::{KNOCK_LABEL, Knocker, MAX_ADDRESSES, Mapping, RequestReply, Seen, knock_context},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    hops::{self, NearSocket as _},
    mesh::{Mesh, locked},
};

/// The rounds that this egress takes part in.
pub(crate) struct Meetings(Mutex<Places>);

impl Default for Meetings {
    fn default() -> Self {
        Self(Mutex::new(Places::new(Limits::MEETINGS)))
    }
}

/// A place among them, until the last knock was sent and a while longer: so the limit is one of how
/// often anybody can make this node knock as well.
struct Place {
    mesh: Arc<Mesh>,
    entry: NodeId,
}

impl Place {
    fn take(mesh: &Arc<Mesh>, entry: NodeId) -> Option<Self> {
        let taken = locked(&mesh.meetings.0).take(entry);
        taken.then(|| Self { mesh: mesh.clone(), entry })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.mesh.meetings.0).give_back(self.entry);
    }
}

/// Meets an entry whose lane's socket is seen as `far`. Knocking goes on after the answer.
pub(super) async fn meet(
    mesh: &Arc<Mesh>,
    (connection, caller): (&Connection, &Caller),
    round: u32,
    far: Seen,
) -> RequestReply {
    if let Err(code) = admit_meeting(&mesh.view(), caller, mesh.clock.now()) {
        mesh.refused(code, None);
        return RequestReply::Refused(refusal(code));
    }
    let entry = caller.node;
    let Some(place) = Place::take(mesh, entry) else {
        return RequestReply::Refused(refusal(RefusalCode::LimitReached));
    };
    // It is held for the whole time of a round, whatever becomes of this one or of its lane.
    let (tell, told) = oneshot::channel();
    mesh.spawn(hold(place, told));
    let mut secret = [0; 16];
    let context = knock_context(Knocker::Egress, round);
    if connection.export_keying_material(&mut secret, KNOCK_LABEL, &context).is_err() {
        return RequestReply::Refused(refusal(RefusalCode::PathUnavailable));
    }
    let relays = mesh.lines.at();
    let own = hops::look(mesh, &relays, &mesh.knocker).await;
    let is_hopeless = own.mapping == Mapping::Symmetric && far.mapping == Mapping::Symmetric;
    let named = far.addresses.into_iter().take(MAX_ADDRESSES);
    let at: Vec<SocketAddr> = named.filter(|at| may_knock_for(&own, *at)).collect();
    if !is_hopeless && !at.is_empty() {
        tracing::debug!(%entry, round, "an entry looks for a direct path");
        // Its task ends with the node alone.
        let _ = tell.send((at, secret));
    }
    RequestReply::Met(own)
}

/// Holds a round's place for its time, and knocks when it is told where.
async fn hold(place: Place, told: oneshot::Receiver<(Vec<SocketAddr>, [u8; 16])>) {
    let round = async {
        let (at, secret) = told.await.unwrap_or_default();
        let begun = Instant::now();
        for after in KNOCK_AT {
            sleep_until(begun + after).await;
            at.iter().for_each(|to| place.mesh.knocker.knock(*to, &secret));
        }
        tokio::time::sleep(LISTEN_AFTER).await;
    };
    tokio::select! {
        biased;
        () = place.mesh.leaving.cancelled() => {}
        () = round => {}
    }
}
