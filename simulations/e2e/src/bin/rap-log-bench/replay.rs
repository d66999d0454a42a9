//! From the stored form of events to the state.

use std::{collections::BTreeSet, time::Instant};

use rap_control_core::State;
use rap_events::{
    pool::{Pool, PoolCommand},
    vpn_connection::{VpnConnection, VpnConnectionCommand},
};
use rap_proto::{LeaseClass, OrganizationId};
use uuid::Uuid;

use crate::{Outcome, figure, platform::Platform};

/// Aggregates of each kind.
const EACH: u128 = 50_000;

pub(crate) fn measure() -> Outcome<()> {
    let mut platform = Platform::default();
    let organization = OrganizationId::from_u128(1);
    for number in 1..=EACH {
        let name = |kind: &str| format!("{kind}-{number}").parse();
        let commands =
            [PoolCommand::Create { organization, name: name("pool")? }, PoolCommand::Remove];
        platform.create::<Pool>(Uuid::from_u128(number), commands)?;
        let create = VpnConnectionCommand::Create {
            organization,
            name: name("vpn")?,
            class: LeaseClass::Fast,
            nodes: BTreeSet::new(),
            enabled: true,
        };
        platform.create::<VpnConnection>(Uuid::from_u128(number | 1 << 64), [create])?;
    }
    let begun = Instant::now();
    let mut state = State::default();
    for envelope in &platform.log {
        state.fold(envelope)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(state.digest(), platform.state.digest(), "a replay gives the same state");
    figure("replay_fold", platform.log.len() as f64 / seconds, "events/s");
    Ok(())
}
