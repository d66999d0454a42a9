//! The client's control stream: refreshes, leaving, and the entry's notices.

use std::sync::Arc;

use rap_mesh_core::{
    admission::{Presented, admit_refresh, claimed, open_token},
    refusals::refusal,
};
use rap_proto::{
    RefusalCode, Timestamp,
    observation::Claimed,
    wire::client::{ClientControl, EntryControl, Hello},
};
use tokio::sync::mpsc;

use super::{Admitted, Client, Left, departed};
use crate::{
    frames::{ReadFrameError, read_frame, write_frame},
    mesh::locked,
    pipe::{Broken, Inlet, Outlet, Short, Unsent},
    watch::until,
};

pub(super) struct Control {
    pub(super) client: Arc<Client>,
    pub(super) send: Outlet,
}

impl Control {
    pub(super) async fn say(&mut self, message: &EntryControl) -> Result<(), Unsent> {
        write_frame(&mut self.send, message).await
    }

    /// Answers the client until it is done or gone.
    pub(super) async fn serve(&mut self, recv: Inlet) -> Left {
        // Reading a frame cannot be interrupted without losing bytes, so it has its own future.
        let (requests, mut next) = mpsc::channel(1);
        let reading = read_all(recv, requests);
        let client = self.client.clone();
        let draining = until(&client.mesh, |view, _| view.assignment.draining.then_some(()));
        tokio::pin!(reading, draining);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                Some(request) = next.recv() => match request {
                    ClientControl::Close => return Left::Done,
                    ClientControl::Refresh(hello) => {
                        let answer = self.refresh(hello);
                        if self.say(&answer).await.is_err() {
                            return Left::Lost;
                        }
                    }
                },
                left = &mut reading => return left,
                () = &mut draining, if !told => {
                    told = true;
                    if self.say(&EntryControl::Draining).await.is_err() {
                        return Left::Lost;
                    }
                }
            }
        }
    }

    fn refresh(&self, hello: Hello) -> EntryControl {
        match self.admit(hello) {
            Ok(expires_at) => {
                let mesh = &self.client.mesh;
                mesh.lanes.refreshed(mesh, self.client.admitted().claims.session);
                EntryControl::Refreshed { expires_at }
            }
            Err((code, claimed)) => {
                self.client.mesh.refused(code, claimed);
                EntryControl::RefreshRefused(refusal(code))
            }
        }
    }

    fn admit(&self, hello: Hello) -> Result<Timestamp, (RefusalCode, Option<Claimed>)> {
        let Client { mesh, exported, admitted, .. } = &*self.client;
        let view = mesh.view();
        let Hello { token, proof } = hello;
        let claims = open_token(&view, &token).map_err(|code| (code, None))?.into_inner();
        let presented = Presented { claims: &claims, token: &token, proof: &proof };
        let mut current = locked(admitted);
        admit_refresh(&view, &current.claims, presented, exported, mesh.clock.now())
            .map_err(|code| (code, Some(claimed(&claims))))?;
        // An older token, sent again, takes nothing back.
        if claims.expires_at > current.claims.expires_at {
            *current = Arc::new(Admitted { claims, token, proof });
        }
        Ok(current.claims.expires_at)
    }
}

async fn read_all(mut recv: Inlet, requests: mpsc::Sender<ClientControl>) -> Left {
    loop {
        match read_frame(&mut recv).await {
            Ok(request) => {
                let last = request == ClientControl::Close;
                if requests.send(request).await.is_err() || last {
                    // The answering side takes it from here.
                    return std::future::pending().await;
                }
            }
            Err(ReadFrameError::Stream(Short::Broken(Broken::Lost(close)))) => {
                return departed(close);
            }
            Err(ReadFrameError::Stream(_)) => return Left::Closed,
            Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => return Left::Lost,
        }
    }
}
