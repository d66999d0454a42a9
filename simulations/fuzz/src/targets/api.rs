//! The REST API's bodies, JSON in both directions.

use std::fmt::Debug;

use rap_proto::api::{
    Access, AuditEvent, ChangePolicy, LoggedIn, NewApiToken, NewJoinToken, NewLogin, NewPolicy,
    NewResource, NewUser, Node, Page, Problem, Reachable, RequestAccess, Session, SetNodeRoles,
    Setup,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::round_trip::choose;

pub fn target(data: &[u8]) {
    choose(
        &[
            check::<RequestAccess>,
            check::<NewLogin>,
            check::<Setup>,
            check::<NewUser>,
            check::<NewApiToken>,
            check::<NewJoinToken>,
            check::<SetNodeRoles>,
            check::<NewResource>,
            check::<NewPolicy>,
            check::<ChangePolicy>,
            check::<Access>,
            check::<LoggedIn>,
            check::<Page<Reachable>>,
            check::<Page<Session>>,
            check::<Page<Node>>,
            check::<Page<AuditEvent>>,
            check::<Problem>,
        ],
        data,
    );
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let own = serde_json::to_vec(&value).expect("a body can be written");
    let again: T = serde_json::from_slice(&own).expect("what we wrote can be read");
    assert_eq!(again, value);
}
