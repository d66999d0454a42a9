//! From the change of one policy to the last signed snapshot of ten thousand nodes, in memory.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rap_control_core::Compiler;
use rap_events::{
    Personal,
    cluster::{Cluster, ClusterCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicySpec},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
    user::{User, UserCommand},
};
use rap_proto::{
    ClusterId, Digest, NodeId, NodeRole, OrganizationId, OrganizationRole, PoolId, ResourceKind,
    Signer as _, key::LocalKey, signed, snapshot::Target,
};
use uuid::Uuid;

use crate::{
    Outcome, figure,
    platform::{NOW, Platform, requested},
};

const EGRESSES: u32 = 10_000;
const ENTRIES: u32 = 20;
const RESOURCES: u128 = 50;
const ORGANIZATION: OrganizationId = OrganizationId::from_u128(2);
const POOL: PoolId = PoolId::from_u128(3);

pub(crate) fn measure() -> Outcome<()> {
    let control = key(1);
    let mut platform = platform(&control)?;
    let before = platform.state.position();
    let begun = Instant::now();
    let spec = PolicySpec {
        roles: [OrganizationRole::User].into(),
        kinds: [ResourceKind::Tcp].into(),
        ..PolicySpec::default()
    };
    let create = PolicyCommand::Create { organization: ORGANIZATION, name: "all".parse()?, spec };
    platform.create::<Policy>(Uuid::from_u128(4), [create])?;
    let (mut compiler, mut signed) = (Compiler::default(), 0);
    for node in platform.state.nodes().approved().filter(|node| node.version > before) {
        let compiled = compiler.compile(&platform.state, node.id)?;
        signed::seal(&compiled.manifest, &[&control]);
        signed += 1;
    }
    let elapsed = begun.elapsed();
    assert_eq!(signed, EGRESSES, "every egress of the pool has a new snapshot");
    figure("memory_snapshots_last", elapsed.as_secs_f64() * 1e3, "ms");
    Ok(())
}

fn key(number: u32) -> LocalKey {
    let random = Digest::of(&number.to_be_bytes());
    LocalKey::from_random(random.as_bytes())
        .expect("a hash is a scalar, but for an astronomic chance")
}

/// One organization whose resources every one of its nodes serves.
fn platform(control: &LocalKey) -> Outcome<Platform> {
    let mut platform = Platform::default();
    let cluster = ClusterId::from_u128(1);
    let bootstrap = ClusterCommand::Bootstrap {
        cluster,
        ca_certificate: vec![0; 600],
        control_keys: vec![control.public_key()],
        setup_code: Digest::of(b"setup").into(),
    };
    platform.create::<Cluster>(cluster.uuid(), [bootstrap])?;
    let organization =
        OrganizationCommand::Create { organization: ORGANIZATION, name: "acme".parse()? };
    platform.create::<Organization>(ORGANIZATION.uuid(), [organization])?;
    let user = UserCommand::Create { name: "alice".parse()?, display_name: Personal::default() };
    platform.create::<User>(Uuid::from_u128(5), [user])?;
    let pool = PoolCommand::Create { organization: ORGANIZATION, name: "office".parse()? };
    platform.create::<Pool>(POOL.uuid(), [pool])?;
    for number in 1..=RESOURCES {
        let resource = ResourceCommand::Create {
            organization: ORGANIZATION,
            name: format!("r{number}").parse()?,
            kind: ResourceKind::Tcp,
            target: Target { host: format!("10.0.0.{number}"), port: 22, allow_local: false },
            pool: POOL,
        };
        platform.create::<Resource>(Uuid::from_u128(number | 6 << 64), [resource])?;
    }
    for number in 0..ENTRIES {
        node(&mut platform, number, NodeRole::EntryNode)?;
    }
    for number in ENTRIES..ENTRIES + EGRESSES {
        node(&mut platform, number, NodeRole::StreamWorker)?;
    }
    Ok(platform)
}

fn node(platform: &mut Platform, number: u32, role: NodeRole) -> Outcome<()> {
    let entry = role == NodeRole::EntryNode;
    let organization = (!entry).then_some(ORGANIZATION);
    let pools = if entry { BTreeSet::new() } else { [POOL].into() };
    let request = requested(number, key(number + 10).public_key(), (organization, role, pools))?;
    let certificate = NodeCommand::IssueCertificate {
        serial: [7; 16],
        expires_at: NOW + Duration::from_secs(86_400),
    };
    let id = NodeId::from_u128(u128::from(number) | 8 << 64);
    platform.create::<Node>(id.uuid(), [request, certificate])
}
