//! The registry of error codes: one entry gives the HTTP status, whether a retry can help and what
//! to do. The same codes stand in problem documents, dead letters and the command line.

/// One kind of failure that a user or operator can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// Stable name, kebab-case; `docs/errors.md#{code}` explains it.
    pub code: &'static str,
    /// HTTP status where it ends a request.
    pub status: u16,
    /// Whether the same request or message may succeed later, unchanged.
    pub retryable: bool,
    /// One line, for the problem document's `title`.
    pub title: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $retry:literal, $title:literal, $hint:literal;)*) => {
        $(
            $(#[$doc])*
            #[doc = $title]
            pub const $name: ErrorCode = ErrorCode {
                code: $code, status: $status, retryable: $retry, title: $title, hint: $hint,
            };
        )*
        /// Every code, in the order of the docs.
        pub const CODES: &[ErrorCode] = &[$($name),*];
    };
}

codes! {
    UNAUTHENTICATED = "unauthenticated", 401, false, "No valid API key.",
        "Send `Authorization: Bearer flt_…`; make a key with `fleetctl keys create`.";
    FORBIDDEN = "forbidden", 403, false, "The key lacks a scope.",
        "Use a key that has the scope named in `detail`, or create one.";
    NOT_FOUND = "not-found", 404, false, "Nothing here under that id or path.",
        "Check the id; an accepted log can take a second to be stored.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, false, "The path exists, this method does not.",
        "See the `Allow` header and /docs.";
    INVALID_JSON = "invalid-json", 400, false, "The body is not valid JSON.",
        "Mend the body at the line and column given in `detail`.";
    INVALID_FIELD = "invalid-field", 422, false, "A field is missing, wrong or out of range.",
        "Mend each field listed in `errors` by its JSON pointer.";
    INVALID_QUERY = "invalid-query", 400, false, "A query parameter cannot be understood.",
        "Mend the parameter named in `detail`.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, false, "The content type is not taken here.",
        "Send application/json, or application/x-ndjson to the bulk route.";
    BODY_TOO_LARGE = "body-too-large", 413, false, "The body is over the limit.",
        "Send fewer or smaller events per request; the limit is in `detail`.";
    HEADERS_TOO_LARGE = "headers-too-large", 431, false, "The headers are over the limit.",
        "Send fewer or shorter headers.";
    SLOW_CLIENT = "slow-client", 408, true, "The request did not arrive in time.",
        "Send the body faster, or in smaller requests.";
    RATE_LIMITED = "rate-limited", 429, true, "The key is over its rate.",
        "Wait for `Retry-After`; the `RateLimit` header shows what is left.";
    OVERLOADED = "overloaded", 503, true, "The bounded buffers are full.",
        "Wait for `Retry-After` and send again; nothing of this request was accepted.";
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch", 422, false, "The idempotency key was used with another body.",
        "Use a new key for a new body.";
    IDEMPOTENCY_UNAVAILABLE = "idempotency-unavailable", 503, true, "Idempotency keys cannot be checked now.",
        "Send again with the same key, or without one and without its promise.";
    QUEUE_UNAVAILABLE = "queue-unavailable", 503, true, "The queue did not accept the message.",
        "Wait for `Retry-After` and send again; nothing of this request was acknowledged.";
    DATABASE_UNAVAILABLE = "database-unavailable", 503, true, "PostgreSQL does not answer.",
        "Check DATABASE_URL and the server; `fleetctl doctor` names what is wrong.";
    SEARCH_UNAVAILABLE = "search-unavailable", 503, true, "The search engine does not answer.",
        "Check OPENSEARCH_URL and the cluster; `fleetctl doctor` names what is wrong.";
    PUBSUB_UNAVAILABLE = "pubsub-unavailable", 503, true, "Redis does not answer.",
        "Check REDIS_URL and the server; `fleetctl doctor` names what is wrong.";
    CURSOR_INVALID = "cursor-invalid", 400, false, "The cursor is damaged or of another query.",
        "Start again without a cursor.";
    TICKET_INVALID = "ticket-invalid", 401, false, "The live-tail ticket is unknown, used or over a minute old.",
        "Ask for a new ticket with your API key.";
    CONFIRM_INVALID = "confirm-invalid", 400, false, "The confirm token is damaged, or belongs to another request.",
        "Ask for a dry run of this very request and confirm it with the token that it answers.";
    CONFIRM_FOREIGN = "confirm-foreign", 403, false, "The confirm token was made for another key.",
        "Ask for a dry run with this key: whoever confirms has seen what goes.";
    CONFIRM_EXPIRED = "confirm-expired", 409, false, "The confirm token is over 15 minutes old.",
        "Ask for a new dry run, look at it, and confirm it with its token.";
    CONFIRM_STALE = "confirm-stale", 409, false, "Policies or holds have changed since the dry run.",
        "Ask for a new dry run: other logs may stay or go now.";
    CLOCK_BEHIND = "clock-behind", 503, true, "The clock is behind the last document of the tenant's chain.",
        "Set the clock (NTP); what waits goes on by itself once it is right.";
    SIGNING_KEY_MISSING = "signing-key-missing", 503, true, "No signing key is set up for the archive.",
        "Run `fleetctl signing init` once; what waits goes on by itself.";
    DOCUMENT_TOO_LARGE = "document-too-large", 422, false, "A manifest or receipt is larger than 2 MiB.",
        "Archive or delete in smaller units.";
    VERSION_CONFLICT = "version-conflict", 409, false, "Somebody changed it meanwhile.",
        "Read it again, apply your change to that version and send it with that version's number.";
    POLICY_CONFLICT = "policy-conflict", 409, false, "A legal maximum lies before a legal minimum.",
        "Let the policies named in `detail` and this one match different logs, or mend their terms.";
    NAME_TAKEN = "name-taken", 409, false, "Another one has this name.",
        "Use another name, or change the one named in `detail`.";
    LIMIT_REACHED = "limit-reached", 409, false, "There are as many as there may be.",
        "Delete or release what is not needed any more; the limit is in `detail`.";
    INTERNAL = "internal", 500, true, "A fault of ours.",
        "Send again; if it stays, report the `request_id`.";
    NOT_JSON = "message-not-json", 422, false, "The message is not JSON, or carries no envelope.",
        "Find its producer by the message attributes; edit and redrive, or purge.";
    UNKNOWN_TYPE = "message-unknown-type", 422, false, "No worker of this version knows the type or its version.",
        "Deploy the worker that knows it, then redrive.";
    MALFORMED_MESSAGE = "message-malformed", 422, false, "The body does not fit its type.",
        "Mend the producer; edit and redrive, or purge.";
    LOOP = "message-loop", 422, false, "The message was relayed too often.",
        "Find the rule that emits into its own input.";
    FAILURES_EXHAUSTED = "failures-exhausted", 500, false, "Every attempt failed.",
        "Read the attempts' errors, mend the cause, then redrive.";
    CRASH_LOOP = "crash-loop", 500, false, "The worker died or lost its lease each time it held this message.",
        "Run it alone with `fleetctl dlq redrive` on a worker with debug logs.";
    EXPIRED = "message-expired", 500, false, "The message waited until close to its retention's end.",
        "Mend what kept it waiting, then redrive.";
    HANDLER_PANIC = "handler-panic", 500, false, "The handler panicked.",
        "Report the panic with the worker's log.";
    HANDLER_TIMEOUT = "handler-timeout", 500, true, "The handler made no progress in time.",
        "Look at the sinks' latency; raise the handler's limit if the work is really that long.";
    RELEASED = "released", 503, true, "The message was given back before it was handled.",
        "Nothing: a drain or an outage gave it back, and it is tried again.";
    SNOOZED = "snoozed", 503, true, "The handler asked for the message later.",
        "Nothing: it is tried again; the worker's log says why.";
    SKIPPED = "skipped", 409, false, "An operator took the message out of its parked group.",
        "Read the reason; redrive it when its group is open, if it is still wanted.";
    REJECTED_BY_STORE = "rejected-by-store", 422, false, "PostgreSQL refuses the row.",
        "Read the reason; mend the producer, or edit and redrive.";
    REJECTED_BY_SEARCH = "rejected-by-search", 422, false, "The search engine refuses the document.",
        "Read the reason; mend the mapping or the document, then redrive.";
    LOG_HELD = "log-held", 409, false, "A legal hold keeps the log.",
        "See `GET /logs/{id}/retention`; what a hold keeps is erased after its release: then ask again, or redrive the message.";
    LOG_MISSING = "log-missing", 404, false, "The log that a change names was never stored.",
        "Look for its INDEX message in the dead-letter queue; redrive that first, then this.";
    EFFECT_UNKNOWN = "effect-unknown", 500, false, "The effect was begun, and nobody knows whether it happened.",
        "Ask the other side whether it happened, say so by `fleetctl effects settle`, then redrive: what is done is not done again.";
    CLAIM_MISSING = "claim-missing", 422, false, "The object that holds the message's body is gone.",
        "Look for it among the bucket's older versions; put it back and redrive, or send the message anew.";
    CLAIM_MISMATCH = "claim-mismatch", 422, false, "The object is not what the message says that it is.",
        "Find who wrote it or the message; without the right object the message cannot be handled.";
    OBJECTS_UNAVAILABLE = "objects-unavailable", 503, true, "The object store does not answer.",
        "Check CLAIM_BUCKET or CLAIM_DIR and the rights on it; the worker's log names what is wrong.";
    ARCHIVE_UNIT_FAILED = "archive-unit-failed", 500, false, "A unit of work cannot be archived.",
        "Read the reason; its logs stay, and the next run takes them again once it is mended.";
    CLEANUP_UNIT_FAILED = "cleanup-unit-failed", 500, false, "A unit of work cannot be deleted.",
        "Read the reason; what is left of its logs stays, and what was deleted has its receipt.";
    CLEANUP_REFUSED = "cleanup-refused", 422, false, "The message asks for a deletion that nothing allows.",
        "Read the reason; find the message's producer, or purge it.";
    RUN_UNKNOWN = "run-unknown", 422, false, "The run or unit that the message names is not there.",
        "After a restore of the database, purge it: runs start anew. Else find its producer.";
    RUN_STATE_CONFLICT = "run-state-conflict", 409, false, "That cannot be done to the run where it stands, or to its policy.",
        "Read the run again; `detail` says where it stands.";
    SELF_APPROVAL = "self-approval", 403, false, "Who wrote the policy or started the run may not approve it.",
        "Approve with another person's key, with the scope `policies:approve`.";
    RUN_NOT_PLANNED = "run-not-planned", 500, false, "A run of a policy cannot be planned.",
        "Read the reason; the run has failed and its logs stay. Start it anew once the cause is mended.";
    ARCHIVE_UNAVAILABLE = "archive-unavailable", 503, false, "This service was started without an archive.",
        "Set ARCHIVE_BUCKET, or ARCHIVE_DIR, and start it again.";
    NOTIFY_UNAVAILABLE = "notify-unavailable", 503, true, "Slack, the mail server or the webhook does not take notifications now.",
        "Check the target and the SMTP_ variables; the reason says what it answered. It is tried again.";
    NOTIFY_REFUSED = "notify-refused", 422, false, "The target refuses the notification, or may not be called.",
        "Read the reason; mend the target's URL, the guard's WEBHOOK_ALLOW_ variables or the receiver, then redrive.";
    NOTIFY_TARGET_GONE = "notify-target-gone", 410, false, "The target is gone: an archived channel, a revoked webhook, no such mailbox.",
        "Replace or remove the target where it is configured; notifications to it are not tried again.";
    CONFIG_INVALID = "config-invalid", 500, false, "The configuration is not valid.",
        "Mend the variable named; `--check-config` tries it without starting.";
}

impl ErrorCode {
    /// The entry of that code.
    pub fn find(code: &str) -> Option<&'static Self> {
        CODES.iter().find(|entry| entry.code == code)
    }
}
