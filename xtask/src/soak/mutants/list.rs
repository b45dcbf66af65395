//! The mutants. Each invariant of the simulation is broken by one at least.

use super::Mutant;

const fn mutant(
    name: &'static str,
    breaks: &'static str,
    file: &'static str,
    edits: &'static [(&'static str, &'static str)],
) -> Mutant {
    Mutant { name, breaks, file, edits }
}

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "acknowledge-before-the-effect",
        "nothing-lost",
        "crates/queue-core/src/delivery.rs",
        &[(
            "        let answer = handle(&*self.worker,",
            "        self.settler.delete(case.held).await;\n        let answer = handle(&*self.worker,",
        )],
    ),
    mutant(
        "deleted-although-the-dead-letter-was-not-taken",
        "nothing-lost",
        "crates/queue-core/src/delivery/fate.rs",
        &[(
            "if self.dead_letters.send(&rejection).await.is_err() {",
            "if self.dead_letters.send(&rejection).await.is_err() && false {",
        )],
    ),
    mutant(
        "receive-counted-as-failure",
        "true-reason",
        "crates/queue-core/src/delivery/fate.rs",
        &[(
            "            failures: case.history.failures,\n            receives,",
            "            failures: case.history.failures.max(receives - 1),\n            receives,",
        )],
    ),
    mutant(
        "infrastructure-error-counted-as-failure",
        "failures-count",
        "crates/queue-core/src/attempts.rs",
        &[("self.failures += u32::from(failure.counts);", "self.failures += 1;")],
    ),
    mutant(
        "leaked-permit",
        "permits-return",
        "crates/queue-core/src/fetch/poller.rs",
        &[("                drop(room);\n", "                std::mem::forget(room);\n")],
    ),
    mutant(
        "more-asked-for-than-fits",
        "bounded-memory",
        "crates/queue-core/src/fetch/poller.rs",
        &[("let asked = room.messages();", "let asked = BATCH_ENTRIES_MAX;")],
    ),
    mutant(
        "failures-of-what-ended-kept",
        "bounded-memory",
        "crates/queue-core/src/delivery/fate.rs",
        &[(
            "            self.recorder.forget(&case.identity()).await;",
            "            let _ = case.identity();",
        )],
    ),
    mutant(
        "failed-entries-ignored",
        "done-stays-done",
        "crates/queue-core/src/settle.rs",
        &[(
            "        Ok(results) => results,\n",
            "        Ok(results) => results.into_iter().map(|_| Ok(())).collect(),\n",
        )],
    ),
    mutant(
        "processed-forgotten",
        "done-stays-done",
        "crates/queue-core/src/delivery/fate.rs",
        &[("processed: self.settler.processed(&case.received.message_id),", "processed: false,")],
    ),
    mutant(
        "ledger-outside-the-transaction",
        "effect-once",
        "crates/queue-core/src/effects/memory.rs",
        &[(
            "        self.effects.push((key.clone(), effect.into()));",
            "        self.ledger.locked().effects.push((key.clone(), effect.into()));",
        )],
    ),
    mutant(
        "entry-before-the-effect",
        "nothing-lost",
        "crates/queue-core/src/effects/memory.rs",
        &[(
            "                    None if claimed.insert(key.clone()) => {\n",
            "                    None if claimed.insert(key.clone()) => {\n                        entries.insert(key.clone(), State::Done(Outcome::default()));\n",
        )],
    ),
    mutant(
        "doubt-taken-for-a-no",
        "effect-once",
        "crates/queue-core/src/effects/once.rs",
        &[
            (
                "        Begun::Abandoned { entry, .. } if promise == Promise::Idempotent => entry,",
                "        Begun::Abandoned { entry, .. } => entry,",
            ),
            (
                "        Begun::Abandoned { entry, since, by } => {\n            // Nobody is at it: a person may settle it at once. Not heard, our hold ends by itself.\n            let _ = effects.extend(&entry, Duration::ZERO).await;\n            return Err(unknown(key, &format!(\"was begun at {since} by {by} and not completed\")));\n        }\n",
                "",
            ),
        ],
    ),
    mutant(
        "lease-not-extended-while-buffered",
        "live-lease",
        "crates/queue-core/src/lease/keeper.rs",
        &[(
            "            if !lease.running() {\n",
            "            if !lease.running() || lease.progress.load(Ordering::Relaxed) == 0 {\n",
        )],
    ),
    mutant(
        "handler-outlives-its-lease",
        "live-lease",
        "crates/queue-core/src/delivery/handle.rs",
        &[(
            "        () = lease.cancelled().cancelled() => {",
            "        () = std::future::pending::<()>() => {",
        )],
    ),
    mutant(
        "extended-too-late",
        "lease-kept",
        "crates/queue-core/src/lease/keeper.rs",
        &[("left <= length / 2 &&", "left <= slack &&")],
    ),
    mutant(
        "drain-aborts-a-poll",
        "poll-awaited",
        "crates/queue-core/src/fetch/poller.rs",
        &[(
            "        let answer = poll(&fetcher, asked).await;\n",
            "        let answer = tokio::select! {\n            () = fetcher.drain.cancelled() => return,\n            answer = poll(&fetcher, asked) => answer,\n        };\n",
        )],
    ),
    mutant(
        "drain-keeps-what-never-started",
        "clean-drain",
        "crates/queue-core/src/delivery/fate.rs",
        &[(
            "                case.held.wait_for(&self.polls_over).await;\n",
            "                case.held.wait_for(&self.polls_over).await;\n                return Fate::Over { outcome: Outcome::Released, gone: false };\n",
        )],
    ),
    mutant(
        "breaker-that-never-closes",
        "outage-ends",
        "crates/queue-core/src/breaker/watch.rs",
        &[("Some(Ok(())) => circuit.up(),", "Some(Ok(())) => circuit.down(now, String::new()),")],
    ),
    mutant(
        "polls-during-an-outage",
        "outage-rests",
        "crates/queue-core/src/breaker.rs",
        &[("            Flow::Stopped\n", "            Flow::Free\n")],
    ),
    mutant(
        "calls-back-during-an-outage",
        "outage-rests",
        "crates/queue-core/src/recall.rs",
        &[(
            "        self.breakers.open() || failed.is_some_and(|at| at.elapsed() < QUIET)\n",
            "        failed.is_some_and(|at| at.elapsed() < QUIET)\n",
        )],
    ),
    mutant(
        "nothing-is-called-back",
        "back-soon",
        "crates/queue-core/src/recall.rs",
        &[("        self.filled.notify_one();\n", "")],
    ),
    mutant(
        "called-back-twice",
        "back-soon",
        "crates/queue-core/src/recall.rs",
        &[(
            "                self.call(&entries).await;\n",
            "                self.call(&entries).await;\n                self.call(&entries).await;\n",
        )],
    ),
    mutant(
        "duplicate-settle",
        "settled-once",
        "crates/queue-core/src/settle.rs",
        &[(
            "                    self.processed.forget(lease.message_id());\n",
            "                    self.processed.forget(lease.message_id());\n                    let _ = self.deletes.call((), receipt.clone(), receipt.len()).await;\n",
        )],
    ),
    mutant(
        "backoff-without-ceiling",
        "bounded-delay",
        "crates/queue-core/src/backoff.rs",
        &[
            (
                ".with_max_interval(schedule.ceiling)",
                ".with_max_interval(schedule.ceiling * 1_000)",
            ),
            ("    interval.min(schedule.ceiling)\n", "    interval\n"),
        ],
    ),
    mutant(
        "poison-sinks-its-batch",
        "true-reason",
        "crates/queue-core/src/coalesce/bisect.rs",
        &[(
            "            Err(BisectError::Whole(error)) => return Err(error),\n            Err(BisectError::Data(error)) if to - from == 1 => results.push(Err(error)),\n            Err(BisectError::Data(_)) => {\n                let middle = from + (to - from) / 2;\n                ranges.push((middle, to));\n                ranges.push((from, middle));\n            }\n",
            "            Err(BisectError::Whole(error) | BisectError::Data(error)) => return Err(error),\n",
        )],
    ),
    mutant(
        "dead-poller-not-replaced",
        "comes-to-an-end",
        "crates/queue-core/src/fetch.rs",
        &[
            (
                "                            slots[index] = self.start(&mut tasks, index, REPLACE_PAUSE);\n",
                "                            slots[index].finished = false;\n",
            ),
            // The watchdog would find it later.
            (
                "                        if silent && !slot.finished {\n",
                "                        if silent && slot.finished {\n",
            ),
        ],
    ),
    mutant(
        "task-of-the-engine-ends",
        "keeps-running",
        "crates/queue-core/src/engine.rs",
        &[(
            "        // A background task that ends is a fault of the engine.\n        std::future::pending::<()>().await;\n",
            "",
        )],
    ),
    mutant(
        "follower-not-held",
        "fifo-order",
        "crates/queue-core/src/group.rs",
        &[(
            "        let Fate::Over { outcome, gone: true } = fate else { return Some((taken, fate)) };\n",
            "        let Fate::Over { outcome, .. } = fate else {\n            self.end(taken, fate).await;\n            return None;\n        };\n",
        )],
    ),
    mutant(
        "followers-of-a-rejected-one-run",
        "parked-waits",
        "crates/queue-core/src/group.rs",
        &[("        *parked |= matches!(outcome, Outcome::DeadLettered | Outcome::Parked);\n", "")],
    ),
];
