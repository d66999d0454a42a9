use rap_proto::{
    OrganizationId, Timestamp,
    bandwidth::{Allowance, BandwidthRule, OrganizationBandwidth},
};

use super::{
    Organization, OrganizationBandwidthGranted, OrganizationBandwidthRuled,
    OrganizationCarriersRuled, OrganizationCommand, OrganizationCreated, OrganizationEvent,
    OrganizationQuotasSet, OrganizationRejection, OrganizationRemoved, OrganizationRenamed,
    OrganizationResumed, OrganizationSuspended, Standing, check_bandwidth, check_grant,
};
use crate::{Aggregate, aggregate::is_plain_text};

impl Aggregate for Organization {
    const CATEGORY: &'static str = "organization";
    type Command = OrganizationCommand;
    type Event = OrganizationEvent;
    type Rejection = OrganizationRejection;

    fn decide(
        &self,
        command: OrganizationCommand,
        _: Timestamp,
    ) -> Result<Vec<OrganizationEvent>, OrganizationRejection> {
        match (&command, self.standing) {
            (OrganizationCommand::Create { .. }, Standing::Absent) => {}
            (OrganizationCommand::Create { .. }, _) => {
                return Err(OrganizationRejection::AlreadyExists);
            }
            (OrganizationCommand::Remove, Standing::Removed) => return Ok(Vec::new()),
            (_, Standing::Absent | Standing::Removed) => {
                return Err(OrganizationRejection::NotFound);
            }
            (_, Standing::Active | Standing::Suspended) => {}
        }
        let suspended = self.standing == Standing::Suspended;
        let event = match command {
            OrganizationCommand::Create { organization, name } => {
                OrganizationCreated { organization, name }.into()
            }
            OrganizationCommand::Rename { name } if self.name.as_ref() == Some(&name) => {
                return Ok(Vec::new());
            }
            OrganizationCommand::Rename { name } => OrganizationRenamed { name }.into(),
            OrganizationCommand::Suspend { .. } if suspended => return Ok(Vec::new()),
            OrganizationCommand::Suspend { reason } if is_plain_text(&reason) => {
                OrganizationSuspended { reason }.into()
            }
            OrganizationCommand::Suspend { .. } => return Err(OrganizationRejection::TextNotPlain),
            OrganizationCommand::Resume if !suspended => return Ok(Vec::new()),
            OrganizationCommand::Resume => OrganizationResumed {}.into(),
            OrganizationCommand::Remove => OrganizationRemoved {}.into(),
            OrganizationCommand::SetQuotas { quotas } if !quotas.are_sound() => {
                return Err(OrganizationRejection::QuotaOutOfRange);
            }
            OrganizationCommand::SetQuotas { quotas } if quotas == self.quotas => {
                return Ok(Vec::new());
            }
            OrganizationCommand::SetQuotas { quotas } => OrganizationQuotasSet { quotas }.into(),
            OrganizationCommand::GrantBandwidth { granted } => return self.grant(granted),
            OrganizationCommand::RuleBandwidth { rules } => return self.rule(rules),
            OrganizationCommand::RuleCarriers { carriers }
                if carriers == self.bandwidth.carriers =>
            {
                return Ok(Vec::new());
            }
            OrganizationCommand::RuleCarriers { carriers } => {
                OrganizationCarriersRuled { carriers }.into()
            }
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &OrganizationEvent) {
        match event {
            OrganizationEvent::Created(created) => {
                self.id = Some(created.organization);
                self.name = Some(created.name.clone());
                self.standing = Standing::Active;
            }
            OrganizationEvent::Renamed(renamed) => self.name = Some(renamed.name.clone()),
            OrganizationEvent::Suspended(_) => self.standing = Standing::Suspended,
            OrganizationEvent::Resumed(_) => self.standing = Standing::Active,
            OrganizationEvent::Removed(_) => self.standing = Standing::Removed,
            OrganizationEvent::QuotasSet(set) => self.quotas = set.quotas,
            OrganizationEvent::BandwidthGranted(event) => self.bandwidth.granted = event.granted,
            OrganizationEvent::BandwidthRuled(event) => {
                self.bandwidth.rules.clone_from(&event.rules);
            }
            OrganizationEvent::CarriersRuled(event) => self.bandwidth.carriers = event.carriers,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.id
    }
}

impl Organization {
    /// The platform may grant less than the rules say: nodes keep to both.
    fn grant(&self, granted: Allowance) -> Result<Vec<OrganizationEvent>, OrganizationRejection> {
        check_grant(&granted).map_err(|fault| fault.rejection)?;
        if granted == self.bandwidth.granted {
            return Ok(Vec::new());
        }
        Ok(vec![OrganizationBandwidthGranted { granted }.into()])
    }

    fn rule(
        &self,
        rules: Vec<BandwidthRule>,
    ) -> Result<Vec<OrganizationEvent>, OrganizationRejection> {
        let OrganizationBandwidth { granted, rules: before, .. } = &self.bandwidth;
        check_bandwidth(granted, before, &rules).map_err(|fault| fault.rejection)?;
        if rules == self.bandwidth.rules {
            return Ok(Vec::new());
        }
        Ok(vec![OrganizationBandwidthRuled { rules }.into()])
    }
}
