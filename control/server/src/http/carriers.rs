//! What the flows of lanes run on: by the platform for everybody, and by an organization for its own.

use rap_control_core::{Action, Target};
use rap_events::{
    cluster::{Cluster, ClusterCommand},
    organization::{self, OrganizationCommand},
};
use rap_proto::{
    Lane,
    api::{Carriers, Changed, PlatformCarriers, SetCarriers, TakenCarriers},
    carriers::{CarrierRules, CarrierRuling},
};

use super::{
    answer::Done,
    call::Call,
    failure::{Failure, not_found},
    reference::organization_of,
};

pub(super) async fn get(call: Call) -> Result<Carriers, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::ReadCarriers, Target::Organization(id))?;
    let found = call.state.organizations().get(id).ok_or_else(not_found)?;
    let (platform, own) = (call.state.cluster().carriers, found.bandwidth.carriers);
    let CarrierRules { interactive, media, bulk } = own;
    let taken = |lane| CarrierRuling::of(platform.of(lane), own.of(lane));
    Ok(Carriers {
        organization: id,
        interactive,
        media,
        bulk,
        platform: Some(platform),
        taken: Some(TakenCarriers {
            interactive: taken(Lane::Interactive),
            media: taken(Lane::Media),
            bulk: taken(Lane::Bulk),
        }),
        revision: found.stamp.revision,
    })
}

pub(super) async fn set(call: Call, body: SetCarriers) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::RuleCarriers, Target::Organization(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, OrganizationCommand::RuleCarriers { carriers: rules(body) })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn get_platform(call: Call) -> Result<PlatformCarriers, Failure> {
    call.allow(Action::ReadPlatformCarriers, Target::Platform)?;
    let cluster = call.state.cluster();
    let CarrierRules { interactive, media, bulk } = cluster.carriers;
    Ok(PlatformCarriers { interactive, media, bulk, revision: cluster.revision })
}

pub(super) async fn set_platform(call: Call, body: SetCarriers) -> Result<Done<Changed>, Failure> {
    call.allow(Action::RulePlatformCarriers, Target::Platform)?;
    let mut work = call.work();
    let mut loaded = work.load::<Cluster>(call.app.custody.cluster.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ClusterCommand::RuleCarriers { carriers: rules(body) })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

const fn rules(body: SetCarriers) -> CarrierRules {
    let SetCarriers { interactive, media, bulk } = body;
    CarrierRules { interactive, media, bulk }
}
