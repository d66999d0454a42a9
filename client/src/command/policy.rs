//! `rap policy`.

use rap_proto::api::{ChangePolicy, Changed, NewPolicy, Policy, PolicyRules};
use reqwest::Method;

use super::Context;
use crate::{
    args::{PolicyCommand, Rules},
    failure::Failure,
    output::Row,
};

impl Row for Policy {
    const COLUMNS: &'static [&'static str] = &["NAME", "WHO", "WHAT"];

    fn cells(&self) -> Vec<String> {
        let named = |name: Option<String>, id: String| name.unwrap_or(id);
        let users = self
            .users
            .iter()
            .map(|user| named(user.name.as_ref().map(ToString::to_string), user.id.to_string()));
        let roles = self.roles.iter().map(|role| format!("every {role}"));
        let resources = self.resources.iter().map(|resource| {
            named(resource.name.as_ref().map(ToString::to_string), resource.id.to_string())
        });
        let kinds = self.kinds.iter().map(|kind| format!("every {kind}"));
        vec![
            self.name.to_string(),
            users.chain(roles).collect::<Vec<_>>().join(", "),
            resources.chain(kinds).collect::<Vec<_>>().join(", "),
        ]
    }
}

pub(super) async fn run(context: &Context, command: PolicyCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let base = format!("{}/policies", context.organization_path(&api).await?);
    match command {
        PolicyCommand::Ls => context.list(&api.list::<Policy>(&base, &[]).await?),
        PolicyCommand::Get { policy } => {
            context.one(&api.get::<Policy>(&format!("{base}/{policy}")).await?)
        }
        PolicyCommand::Create { name, rules } => {
            let body = NewPolicy { name, rules: policy_rules(rules) };
            context.one(&api.post::<_, Policy>(&base, &body).await?)
        }
        PolicyCommand::Set { policy, rules } => {
            let path = format!("{base}/{policy}");
            let found: Policy = api.get(&path).await?;
            let body = ChangePolicy { rules: policy_rules(rules) };
            let _: Changed =
                api.change(Method::PUT, &path, Some(found.revision), Some(&body)).await?;
            context.one(&api.get::<Policy>(&path).await?)
        }
        PolicyCommand::Rm { policy } => {
            let path = format!("{base}/{policy}");
            let found: Policy = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("{policy} is removed"))
        }
    }
}

fn policy_rules(rules: Rules) -> PolicyRules {
    let Rules { users, roles, resources, kinds } = rules;
    PolicyRules { users, roles, resources, kinds }
}
