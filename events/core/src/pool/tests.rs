#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::given,
        samples::{ACME, name},
    },
};

fn created() -> PoolEvent {
    PoolCreated { organization: ACME, name: name("office") }.into()
}

#[test]
fn a_pool_is_created_and_removed_once() {
    let create = PoolCommand::Create { organization: ACME, name: name("office") };
    let state = given::<Pool>([]).when(create.clone()).then([created()]);
    assert_eq!(state.organization(), Some(ACME));
    let removed: PoolEvent = PoolRemoved {}.into();
    for events in [vec![created()], vec![created(), removed.clone()]] {
        given::<Pool>(events).when(create.clone()).rejected(PoolRejection::AlreadyExists);
    }
    given::<Pool>([]).when(PoolCommand::Remove).rejected(PoolRejection::NotFound);
    given::<Pool>([created()]).when(PoolCommand::Remove).then([removed.clone()]);
    given::<Pool>([created(), removed]).when(PoolCommand::Remove).nothing();
}
