use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Context, Policy as Rule, PolicyId as RuleId, PolicySet, SlotId, Template};
use rap_events::policy::PolicyDocument;
use rap_proto::{Lane, PolicyId, WeekHour};

use super::{
    Answer, CompiledRule, Question,
    answer::ask,
    document::compile_document,
    question::{context, groups},
    schema::{ISOLATION, LISTS_TEMPLATE},
};

const TEMPLATE_ID: &str = "builtin/lists";
const ISOLATION_ID: &str = "builtin/isolation";

/// Everything that one organization's policies say, compiled.
#[derive(Debug, Clone)]
pub(crate) struct OrganizationRules {
    /// Who may reach what, whenever.
    always: PolicySet,
    /// The same, of rules that ask what time it is.
    timed: PolicySet,
    /// What documents say of administration; only once there is a document.
    administration: Option<PolicySet>,
    /// The rules of each document, by their names.
    documents: BTreeMap<PolicyId, Vec<CompiledRule>>,
    /// The documents that this program cannot read: they may forbid anything.
    unreadable: BTreeSet<PolicyId>,
}

impl Default for OrganizationRules {
    fn default() -> Self {
        let mut always = isolation();
        let template = Template::parse(Some(RuleId::new(TEMPLATE_ID)), LISTS_TEMPLATE);
        let template = template.expect("the template is sound");
        always.add_template(template).expect("the template has a name of its own");
        Self {
            always,
            timed: PolicySet::new(),
            administration: None,
            documents: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        }
    }
}

impl OrganizationRules {
    /// Takes in a policy, in place of what it said before.
    pub(crate) fn put(&mut self, id: PolicyId, document: Option<&PolicyDocument>) {
        self.remove(id);
        let Some(document) = document else {
            let values = [SlotId::principal(), SlotId::resource()].into_iter().zip(groups(id));
            let values = values.map(|(slot, (kind, name))| (slot, kind.named(name))).collect();
            let linked =
                self.always.link(RuleId::new(TEMPLATE_ID), RuleId::new(id.to_string()), values);
            if linked.is_err() {
                self.unreadable.insert(id);
            }
            return;
        };
        match compile_document(id, &document.text) {
            Ok(rules) => {
                if !rules.iter().all(|rule| self.add(rule)) {
                    self.unreadable.insert(id);
                }
                self.documents.insert(id, rules);
                self.administration = self.administered();
                if self.administration.is_none() {
                    self.unreadable.insert(id);
                }
            }
            Err(_) => {
                self.unreadable.insert(id);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: PolicyId) {
        self.unreadable.remove(&id);
        // Whatever is not there need not go.
        let _ = self.always.unlink(RuleId::new(id.to_string()));
        if let Some(rules) = self.documents.remove(&id) {
            for rule in rules {
                let set = if rule.timed { &mut self.timed } else { &mut self.always };
                let _ = set.remove_static(rule.rule.id().clone());
            }
            self.administration = self.administered();
        }
    }

    pub(crate) fn has_documents(&self) -> bool {
        !self.documents.is_empty() || self.is_unreadable()
    }

    /// Whether some policy cannot be read, and nothing can be permitted therefore.
    pub(crate) fn is_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// What the rules say at one hour.
    pub(crate) fn reach(&self, question: &Question, at: WeekHour) -> Answer {
        self.ask(&self.always, question, at).and(self.ask_timed(question, at))
    }

    /// Whether there is an hour of the week at which the rules permit it. Rules that do not look
    /// at the time are asked once.
    pub(crate) fn reach_ever(&self, question: &Question) -> bool {
        let mut hours = WeekHour::all();
        let Some(first) = hours.next() else { return false };
        let always = self.ask(&self.always, question, first);
        if always.is_forbidden() || self.timed.is_empty() {
            return always.is_permitted();
        }
        std::iter::once(first)
            .chain(hours)
            .any(|at| always.clone().and(self.ask_timed(question, at)).is_permitted())
    }

    /// What the rules say at each hour of the week: once for all, where none looks at the time.
    pub(crate) fn reach_each_hour(&self, question: &Question) -> Vec<Answer> {
        let hours = if self.timed.is_empty() { 1 } else { usize::MAX };
        WeekHour::all().take(hours).map(|at| self.reach(question, at)).collect()
    }

    /// What those of the rules that are called so give of lanes.
    pub(crate) fn lanes(&self, called: &BTreeSet<String>) -> BTreeSet<Lane> {
        let is_called = |rule: &&CompiledRule| called.contains(&rule.rule.id().to_string());
        let rules = self.documents.values().flatten().filter(|rule| rule.lane.is_some());
        rules.filter(is_called).filter_map(|rule| rule.lane).collect()
    }

    /// What documents say of an action of administration. They are told nothing of time.
    pub(crate) fn administer(&self, question: &Question) -> Answer {
        let failed = || Answer { failed: true, ..Answer::default() };
        match (&self.administration, &question.entities) {
            _ if self.is_unreadable() => failed(),
            (None, _) => Answer::default(),
            (Some(_), None) => failed(),
            (Some(rules), Some(entities)) => {
                ask(rules, &question.asked, Context::empty(), entities)
            }
        }
    }

    fn ask_timed(&self, question: &Question, at: WeekHour) -> Answer {
        if self.timed.is_empty() {
            return Answer::default();
        }
        self.ask(&self.timed, question, at)
    }

    fn ask(&self, rules: &PolicySet, question: &Question, at: WeekHour) -> Answer {
        match &question.entities {
            Some(entities) if !self.is_unreadable() => {
                ask(rules, &question.asked, context(at), entities)
            }
            _ => Answer { failed: true, ..Answer::default() },
        }
    }

    fn add(&mut self, rule: &CompiledRule) -> bool {
        let set = if rule.timed { &mut self.timed } else { &mut self.always };
        set.add(rule.rule.clone()).is_ok()
    }

    fn administered(&self) -> Option<PolicySet> {
        if self.documents.is_empty() {
            return None;
        }
        let mut set = isolation();
        for rule in self.documents.values().flatten() {
            set.add(rule.rule.clone()).ok()?;
        }
        Some(set)
    }
}

fn isolation() -> PolicySet {
    let rule = Rule::parse(Some(RuleId::new(ISOLATION_ID)), ISOLATION);
    let rule = rule.expect("the isolation rule is sound");
    PolicySet::from_policies([rule]).expect("it is the only one")
}
