//! The schemas of policies, holds, plans and explanations, as they travel.

use utoipa::ToSchema;

use crate::retention::Fate;

/// Which logs; every member that is there must match, an empty filter is every log.
#[derive(ToSchema)]
pub(crate) struct FilterBody {
    /// One of these; `*` stands for any characters, at most 4 in one.
    #[schema(max_items = 32)]
    actions: Option<Vec<String>>,
    /// One of these.
    #[schema(max_items = 32)]
    actors: Option<Vec<ActorBody>>,
    /// Some target has one of these types.
    #[schema(max_items = 32)]
    target_types: Option<Vec<String>>,
    /// success, failure, denied or unknown.
    outcomes: Option<Vec<super::Outcome>>,
    /// Dotted paths, at most 32, each with the text it must hold, or true where it must hold anything.
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
}

/// An actor, or all of a type.
#[derive(ToSchema)]
pub(crate) struct ActorBody {
    /// Its type.
    r#type: String,
    /// Its id; absent: every one of the type.
    id: Option<String>,
}

/// How logs are archived.
#[derive(ToSchema)]
pub(crate) struct ArchiveBody {
    /// zstd, gzip or lz4.
    #[schema(default = "zstd")]
    codec: Option<String>,
    /// `STANDARD`, `STANDARD_IA`, `ONEZONE_IA`, `INTELLIGENT_TIERING` or `GLACIER_IR`.
    #[schema(default = "STANDARD")]
    storage_class: Option<String>,
    /// How long an object is kept; absent: for ever.
    #[schema(example = "P7Y")]
    keep: Option<String>,
}

/// When a policy runs.
#[derive(ToSchema)]
pub(crate) struct ScheduleBody {
    /// Minute, hour, day of the month, month, day of the week.
    #[schema(example = "0 3 * * *")]
    cron: String,
    /// A zone of the IANA's list.
    #[schema(default = "UTC")]
    time_zone: Option<String>,
}

/// What stops a run until somebody approves it.
#[derive(ToSchema)]
pub(crate) struct BrakeBody {
    /// Share of the tenant's logs that a run may delete.
    #[schema(default = 0.2)]
    share_max: Option<f64>,
    /// How many times as many as the last run.
    #[schema(default = 3.0)]
    growth_max: Option<f64>,
}

/// Who is told: `{"type": "email", "to": …}`, or `slack` or `webhook` with a `name` that the worker's
/// configuration knows.
#[derive(ToSchema)]
pub(crate) struct NotifyBody {
    /// email, slack or webhook.
    r#type: String,
    /// A mailbox, for email.
    to: Option<String>,
    /// A name, for the others.
    name: Option<String>,
}

/// Which logs are archived and deleted.
#[derive(ToSchema)]
#[schema(example = json!({"filter": {"actions": ["invoice.*"]}, "before": "2026-01-01T00:00:00Z"}))]
pub(crate) struct CleanupBody {
    /// Those that it matches; an empty one needs `all`.
    filter: Option<FilterBody>,
    /// Of them, those recorded at this time or later.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Of them, those recorded before this time, which must be over.
    #[schema(format = DateTime)]
    before: String,
    /// Every log of the time, in place of a filter.
    #[schema(default = false)]
    all: Option<bool>,
    /// `confirm` of the dry run; absent: this is one.
    confirm: Option<String>,
}

/// A retention policy.
#[derive(ToSchema)]
#[schema(example = json!({
    "name": "invoices", "filter": {"actions": ["invoice.*"]}, "keep": "P90D",
    "then": "archive_and_delete", "schedule": {"cron": "0 3 * * *", "time_zone": "Europe/Berlin"}
}))]
pub(crate) struct PolicyBody {
    /// Unique in the tenant.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Which logs; absent: all.
    filter: Option<FilterBody>,
    /// How long: an ISO 8601 duration of years, months, weeks and days.
    #[schema(example = "P90D")]
    keep: String,
    /// `archive`, `archive_and_delete` or `delete`.
    then: String,
    /// How they are archived.
    archive: Option<ArchiveBody>,
    /// When it runs; absent: at 03:00 UTC.
    schedule: Option<ScheduleBody>,
    /// Of two policies that match a log, the higher one decides.
    #[schema(minimum = -1000, maximum = 1000, default = 0)]
    priority: Option<i32>,
    /// No log that matches goes before, whichever policy decides.
    legal_minimum: Option<String>,
    /// A log that matches should be gone by then; one that a minimum keeps longer is a conflict.
    legal_maximum: Option<String>,
    /// What stops a run.
    brake: Option<BrakeBody>,
    /// Who is told.
    #[schema(max_items = 8)]
    notify: Option<Vec<NotifyBody>>,
    /// active or disabled.
    #[schema(default = "active")]
    state: Option<String>,
    /// From when on; absent: now.
    #[schema(format = DateTime)]
    effective_at: Option<String>,
    /// The version that a change was made from; or `If-Match`.
    version: Option<u64>,
}

/// A version of a policy.
#[derive(ToSchema)]
pub(crate) struct StoredPolicy {
    /// The policy's id.
    id: uuid::Uuid,
    /// Counted from 1.
    version: u64,
    /// What it says, but for `effective_at`.
    #[serde(flatten)]
    #[schema(inline)]
    policy: PolicyBody,
    /// From when on.
    effective_from: String,
    /// Who wrote it: key id and address.
    #[schema(value_type = Object)]
    created_by: (),
    /// When.
    created_at: String,
}

/// A legal hold.
#[derive(ToSchema)]
pub(crate) struct HoldBody {
    /// The case.
    #[schema(min_length = 1, max_length = 200)]
    matter: String,
    /// Why.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Which logs; `{}` for all.
    filter: FilterBody,
    /// Of them, those recorded at this time or later.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Of them, those recorded before this time.
    #[schema(format = DateTime)]
    to: Option<String>,
}

/// A hold that was placed.
#[derive(ToSchema)]
pub(crate) struct StoredHold {
    /// Its id.
    id: uuid::Uuid,
    /// What was asked for.
    #[serde(flatten)]
    #[schema(inline)]
    hold: HoldBody,
    /// Who placed it: key id and address.
    #[schema(value_type = Object)]
    placed_by: (),
    /// When.
    placed_at: String,
    /// By whom, when and why it was released; absent: it is in force.
    #[schema(value_type = Option<Object>)]
    released: Option<()>,
}

/// Why a hold is released.
#[derive(ToSchema)]
pub(crate) struct ReleaseBody {
    /// 1 to 1,000 characters.
    reason: String,
}

/// By when to judge.
#[derive(ToSchema)]
pub(crate) struct SimulateBody {
    /// From now to 3,660 days ahead; absent: now.
    #[schema(format = DateTime)]
    as_of: Option<String>,
}

/// A plan, and what it is compared with.
#[derive(ToSchema)]
pub(crate) struct SimulationBody {
    /// What a run would do now.
    plan: PlanBody,
    /// When the newest plan of an earlier day was made, and its events and bytes.
    #[schema(value_type = Option<Object>)]
    previous: Option<()>,
    /// How many times as many logs go as then.
    growth: Option<f64>,
}

/// What a policy would do.
#[derive(ToSchema)]
pub(crate) struct PlanBody {
    /// Whose logs.
    tenant: String,
    /// The policy.
    policy_id: uuid::Uuid,
    /// Its version.
    policy_version: u64,
    /// What it does.
    then: String,
    /// The time that it judges by.
    as_of: String,
    /// Logs recorded before this time were looked at.
    cutoff: String,
    /// Logs of transactions below this one were looked at.
    snapshot_xmin: u64,
    /// Which rules it was made by.
    rules_fingerprint: String,
    /// Whether every such log was looked at; else it covers the oldest, up to `covers_until`.
    complete: bool,
    /// The last log looked at, where the plan is not complete.
    covers_until: Option<String>,
    /// Logs that were looked at.
    looked_at: u64,
    /// Logs that go.
    events: u64,
    /// Bytes of their records.
    bytes: u64,
    /// The oldest of them.
    oldest: Option<String>,
    /// The newest of them.
    newest: Option<String>,
    /// Logs past the policy's term that stay: `held`, `by_floor`, `by_policy`, `conflicts`,
    /// `already_archived`, and `in_progress`: in the hands of a run that has not ended.
    #[schema(value_type = Object)]
    staying: (),
    /// Those that go by action, the 20 most frequent.
    #[schema(value_type = Vec<Object>)]
    by_action: Vec<()>,
    /// Those of all other actions.
    #[schema(value_type = Object)]
    other_actions: (),
    /// Those that go by hour and class.
    #[schema(value_type = Vec<Object>)]
    cells: Vec<()>,
    /// Those that go as units of work, at most 20,000.
    #[schema(value_type = Vec<Object>)]
    units: Vec<()>,
}

/// What becomes of one log, and why.
#[derive(ToSchema)]
pub(crate) struct ExplainedBody {
    /// The log.
    log_id: uuid::Uuid,
    /// When the server took it.
    recorded_at: String,
    /// Its class.
    class: String,
    /// The time that it is judged by.
    as_of: String,
    /// Which rules were asked.
    rules_fingerprint: String,
    /// Where it stands.
    fate: Fate,
    /// When it goes; with a hold: when it would.
    goes_at: Option<String>,
    /// What happens then.
    then: Option<String>,
    /// The policy that decides.
    winner: Option<uuid::Uuid>,
    /// Every policy that matches, the one that decides first.
    #[schema(value_type = Vec<Object>)]
    matched: Vec<()>,
    /// Every hold that keeps it.
    #[schema(value_type = Vec<Object>)]
    held_by: Vec<()>,
    /// The latest of the legal minimums, and whose.
    #[schema(value_type = Option<Object>)]
    floor: Option<()>,
    /// The earliest of the legal maximums, and whose.
    #[schema(value_type = Option<Object>)]
    ceiling: Option<()>,
    /// The same in words.
    why: String,
}

/// Logs and bytes of their records.
#[derive(ToSchema)]
pub(crate) struct TallyBody {
    /// Logs.
    events: u64,
    /// Bytes.
    bytes: u64,
}

/// A run of a policy.
#[derive(ToSchema)]
pub(crate) struct RunBody {
    /// Its id.
    id: uuid::Uuid,
    /// The policy.
    policy_id: uuid::Uuid,
    /// The version that it goes by, whatever is written meanwhile.
    policy_version: u64,
    /// The time by the schedule; absent where somebody started it.
    slot: Option<String>,
    /// Who started it.
    #[schema(value_type = Object)]
    requester: (),
    /// archive, `archive_and_delete` or delete.
    then: String,
    /// planning, braked, running, done, failed or cancelled.
    state: String,
    /// The time it judges by.
    as_of: String,
    /// Which rules it goes by.
    rules_fingerprint: Option<String>,
    /// Who let it pass the brake, and when.
    #[schema(value_type = Vec<Object>)]
    approvals: Vec<()>,
    /// Units in all, open and failed.
    #[schema(value_type = Object)]
    units: (),
    /// Found by the plan: what follows adds up to it in the end.
    planned: TallyBody,
    /// In an object of the archive.
    archived: TallyBody,
    /// Of them, read back whole and in the chain.
    verified: TallyBody,
    /// Deleted.
    deleted: TallyBody,
    /// Kept by a hold, or not due any more.
    held: TallyBody,
    /// Erased meanwhile.
    gone: TallyBody,
    /// Of units that failed.
    failed: TallyBody,
    /// Of an ended run: whether the numbers add up.
    adds_up: Option<bool>,
    /// Why it waits, failed or was cancelled.
    reason: Option<String>,
    /// Of one that waits for its turn to be planned: when that is looked for again.
    waits_until: Option<String>,
    /// Follows it from request to receipt.
    correlation_id: String,
    /// When it was begun.
    created_at: String,
    /// When it was started.
    started_at: Option<String>,
    /// When it ended.
    ended_at: Option<String>,
    /// The plan that it executes; of one run only.
    plan: Option<PlanBody>,
}
