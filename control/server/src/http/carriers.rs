//! What the flows of an organization's lanes run on.

use rap_control_core::{Action, Target};
use rap_events::organization::{self, OrganizationCommand};
use rap_proto::{
    api::{Carriers, Changed, SetCarriers},
    carriers::CarrierRules,
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
    let CarrierRules { interactive, media, bulk } = found.bandwidth.carriers;
    let revision = found.stamp.revision;
    Ok(Carriers { organization: id, interactive, media, bulk, revision })
}

pub(super) async fn set(call: Call, body: SetCarriers) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::RuleCarriers, Target::Organization(id))?;
    let SetCarriers { interactive, media, bulk } = body;
    let carriers = CarrierRules { interactive, media, bulk };
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, OrganizationCommand::RuleCarriers { carriers })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}
