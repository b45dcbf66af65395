//! Rules for faults, as a file or a request body holds them:
//! `{"seed": 7, "rules": [{"fault": "throttle", "queue": "orders*", "action": "SendMessage", "every": 3}]}`.
//! A rule meets the requests that fit it: all of them, every nth, or each with a probability; at most
//! `count` of them. Wrong rules are refused as a whole, with the rule's number and what is wrong.

use serde::{Deserialize, Serialize};

use super::choice::{Choice, action, queue};
use crate::broker::Random;
use crate::codec::members;
use crate::model::QueueArn;
use crate::operations::Request;

/// Rules of one plan.
pub const RULES_MAX: usize = 100;
/// Bytes of a plan.
pub const PLAN_BYTES_MAX: usize = 64 * 1_024;
/// Milliseconds of latency.
pub const DELAY_MS_MAX: u64 = 60_000;

/// What can be done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The call waits `delay_ms` before it begins.
    Latency,
    /// `RequestThrottled`, 403: nothing takes effect.
    Throttle,
    /// `InternalFailure`, 500: nothing takes effect.
    Error,
    /// What a standard queue hands out stays visible: the next receive gets it again.
    Duplicate,
    /// The call takes effect and the connection is closed without a reply.
    LostReply,
    /// A receive that got messages: they are in flight, the connection is closed without a reply.
    GhostReceive,
}

impl Fault {
    const ALL: [(&'static str, Self); 6] = [
        ("latency", Self::Latency),
        ("throttle", Self::Throttle),
        ("error", Self::Error),
        ("duplicate", Self::Duplicate),
        ("lost-reply", Self::LostReply),
        ("ghost-receive", Self::GhostReceive),
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    }

    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// Whether it can happen to that request.
    pub(super) fn fits(self, request: &Request) -> bool {
        match self {
            Self::Duplicate => is_receive(request) && queue(request).is_none_or(is_standard),
            Self::GhostReceive => is_receive(request),
            _ => true,
        }
    }

    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::Duplicate => "it takes a ReceiveMessage on a standard queue.",
            Self::GhostReceive => "it takes a ReceiveMessage.",
            _ => "it fits every call.",
        }
    }

    /// Whether it is chosen only once messages were received.
    fn needs_messages(self) -> bool {
        matches!(self, Self::Duplicate | Self::GhostReceive)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is done.
    pub fault: Fault,
    /// Milliseconds, for latency only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Only this queue, by name; a `*` at the end stands for any rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Only this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only every nth request that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Only with this probability, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// At most so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    #[serde(default)]
    seed: u64,
    rules: Vec<Rule>,
}

/// Why rules are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Larger than allowed.
    #[error("the fault rules have {0} bytes; at most {PLAN_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not the JSON that a plan is.
    #[error("the fault rules are not understood: {0}")]
    Syntax(String),
    /// More than allowed.
    #[error("there are {0} fault rules; at most {RULES_MAX} can be on")]
    TooMany(usize),
    /// A rule that makes no sense.
    #[error("fault rule {number}: {problem}")]
    Rule {
        /// Counted from 1.
        number: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// A rule and how often it was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleView {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// Requests that fitted it.
    pub matched: u64,
    /// Requests that met it.
    pub injected: u64,
}

/// The rules as they stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanView {
    /// Where chance comes from.
    pub seed: u64,
    /// In order.
    pub rules: Vec<RuleView>,
}

/// Rules with their counters.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: u64,
    random: Random,
    rules: Vec<RuleView>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seed: 0, random: Random::new(0), rules: Vec::new() }
    }
}

impl Plan {
    /// Reads a plan; empty text is an empty plan.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, PlanError> {
        if text.len() > PLAN_BYTES_MAX {
            return Err(PlanError::TooLong(text.len()));
        }
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let PlanText { seed, rules } =
            serde_json::from_slice(text).map_err(|error| PlanError::Syntax(error.to_string()))?;
        if rules.len() > RULES_MAX {
            return Err(PlanError::TooMany(rules.len()));
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|problem| PlanError::Rule { number: index + 1, problem })?;
        }
        let rules =
            rules.into_iter().map(|rule| RuleView { rule, matched: 0, injected: 0 }).collect();
        Ok(Self { seed, random: Random::new(seed), rules })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(crate) fn view(&self) -> PlanView {
        PlanView { seed: self.seed, rules: self.rules.clone() }
    }

    /// Adds what the rules do to that request before it is called.
    pub(super) fn choose(&mut self, request: &Request, choice: &mut Choice) {
        let (action, queue) = (action(request), queue(request));
        for view in self.rules.iter_mut().filter(|view| !view.rule.fault.needs_messages()) {
            if view.rule.is_for(action, queue) && view.meets(&mut self.random) {
                choice.add(view.rule.fault, view.rule.delay_ms.unwrap_or(0));
            }
        }
    }

    /// Adds what the rules do to a receive that got messages.
    pub(super) fn choose_for_messages(&mut self, queue: &QueueArn, choice: &mut Choice) {
        for view in self.rules.iter_mut().filter(|view| view.rule.fault.needs_messages()) {
            let fits = view.rule.fault != Fault::Duplicate || is_standard(queue);
            if fits
                && view.rule.is_for("ReceiveMessage", Some(queue))
                && view.meets(&mut self.random)
            {
                choice.add(view.rule.fault, 0);
            }
        }
    }
}

impl RuleView {
    /// Counts a request that fits and says whether it meets the rule.
    fn meets(&mut self, random: &mut Random) -> bool {
        self.matched += 1;
        if self.rule.count.is_some_and(|count| self.injected >= count) {
            return false;
        }
        let turn = self.rule.every.is_none_or(|every| self.matched.is_multiple_of(every));
        let luck = self.rule.probability.is_none_or(|probability| random.unit() < probability);
        self.injected += u64::from(turn && luck);
        turn && luck
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        match (self.fault, self.delay_ms) {
            (Fault::Latency, Some(1..=DELAY_MS_MAX)) => {}
            (Fault::Latency, _) => {
                return Err(format!("latency needs delay_ms, 1 to {DELAY_MS_MAX}"));
            }
            (_, Some(_)) => return Err("delay_ms is for latency only".to_owned()),
            (_, None) => {}
        }
        if let Some(name) = self.action.as_deref() {
            if members::known(name).is_none() {
                return Err(format!("'{name}' is no action of SQS, such as SendMessageBatch"));
            }
            if self.fault.needs_messages() && name != "ReceiveMessage" {
                return Err(format!("{name} hands out no messages: {}", self.fault.needs()));
            }
        }
        let queue = self.queue.as_deref().unwrap_or("*");
        if queue.is_empty() || queue.trim_end_matches('*').contains('*') {
            return Err("queue is a name, or a beginning with one * at its end".to_owned());
        }
        if self.fault == Fault::Duplicate && is_fifo_name(queue) {
            return Err(format!("a FIFO queue does not double: {}", self.fault.needs()));
        }
        if self.every == Some(0) || self.count == Some(0) {
            return Err("every and count start at 1".to_owned());
        }
        if self.every.is_some() && self.probability.is_some() {
            return Err("either every or probability, not both".to_owned());
        }
        match self.probability {
            Some(p) if !(p > 0.0 && p <= 1.0) => {
                Err(format!("probability {p} is not above 0 and at most 1"))
            }
            _ => Ok(()),
        }
    }

    fn is_for(&self, action: &str, queue: Option<&QueueArn>) -> bool {
        let named = |wanted: &String| match (wanted.strip_suffix('*'), queue) {
            (Some(beginning), Some(queue)) => queue.name().starts_with(beginning),
            (None, Some(queue)) => queue.name() == wanted,
            (_, None) => false,
        };
        self.action.as_deref().is_none_or(|wanted| wanted == action)
            && self.queue.as_ref().is_none_or(named)
    }
}

fn is_receive(request: &Request) -> bool {
    matches!(request, Request::ReceiveMessage(_))
}

fn is_standard(queue: &QueueArn) -> bool {
    !is_fifo_name(queue.name())
}

/// The kind is part of the name on SQS.
fn is_fifo_name(name: &str) -> bool {
    name.strip_suffix(".fifo").is_some()
}
