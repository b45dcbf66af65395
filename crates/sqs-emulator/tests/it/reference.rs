//! The broker against a reference that is slow and plain: one list, scanned from the start each time.
//! After every random step both must have handed out the same messages in the same order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sqs_emulator::{Draft, QueueArn};

use crate::support::{Bench, bodies, in_group};

#[derive(Clone, Debug)]
enum Step {
    Send {
        group: u8,
        delay: i64,
    },
    Receive {
        max: i64,
        lease: i64,
    },
    /// Of the n-th receipt handed out so far, counted from the latest.
    Delete {
        back: usize,
    },
    Hide {
        back: usize,
        seconds: i64,
    },
    Wait {
        ms: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..3, prop_oneof![Just(0_i64), 0_i64..4]).prop_map(|(group, delay)| Step::Send { group, delay }),
        4 => (1_i64..=10, 0_i64..6).prop_map(|(max, lease)| Step::Receive { max, lease }),
        3 => (0_usize..12).prop_map(|back| Step::Delete { back }),
        2 => (0_usize..12, 0_i64..6).prop_map(|(back, seconds)| Step::Hide { back, seconds }),
        3 => (1_i64..4_000).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Clone, Debug)]
struct Plain {
    body: String,
    group: u8,
    visible_at: i64,
    leased: bool,
    /// Every receipt it was handed out with, the latest last.
    receipts: Vec<usize>,
    leased_at: i64,
}

#[derive(Default)]
struct Reference {
    messages: Vec<Plain>,
    receipts: usize,
    /// When each group appeared or was taken from last.
    turns: BTreeMap<u8, u64>,
    last_turn: u64,
}

impl Reference {
    fn pass(&mut self, now: i64) {
        for message in self.messages.iter_mut().filter(|m| m.visible_at <= now) {
            message.leased = false;
        }
    }

    fn receive(&mut self, now: i64, max: usize, lease: i64, fifo: bool) -> Vec<String> {
        self.pass(now);
        let picked = if fifo { self.pick_fifo(now, max) } else { self.pick(now, max) };
        picked
            .into_iter()
            .map(|index| {
                self.last_turn += 1;
                self.turns.insert(self.messages[index].group, self.last_turn);
                let message = &mut self.messages[index];
                message.visible_at = now + lease * 1_000;
                message.leased = lease > 0;
                message.leased_at = now;
                message.receipts.push(self.receipts);
                self.receipts += 1;
                message.body.clone()
            })
            .collect()
    }

    fn pick(&self, now: i64, max: usize) -> Vec<usize> {
        let visible = |index: &usize| self.messages[*index].visible_at <= now;
        (0..self.messages.len()).filter(visible).take(max).collect()
    }

    fn pick_fifo(&self, now: i64, max: usize) -> Vec<usize> {
        let mut groups: Vec<u8> = self.turns.keys().copied().collect();
        groups.sort_by_key(|group| self.turns[group]);
        let mut picked = Vec::new();
        for group in groups {
            let of = (0..self.messages.len()).filter(|index| self.messages[*index].group == group);
            picked.extend(of.take_while(|index| self.messages[*index].visible_at <= now));
        }
        picked.truncate(max);
        picked
    }

    fn send(&mut self, message: Plain) {
        if self.messages.iter().all(|other| other.group != message.group) {
            self.last_turn += 1;
            self.turns.insert(message.group, self.last_turn);
        }
        self.messages.push(message);
    }

    /// The message that a receipt can still delete: only its latest does.
    fn of_latest(&self, receipt: usize) -> Option<usize> {
        self.messages.iter().position(|message| message.receipts.last() == Some(&receipt))
    }

    /// The message that a receipt can still hide: on a standard queue any of its receipts does.
    fn of_any(&self, receipt: usize, fifo: bool) -> Option<usize> {
        if fifo {
            return self.of_latest(receipt);
        }
        self.messages.iter().position(|message| message.receipts.contains(&receipt))
    }
}

/// Runs the steps on both; gives how many messages were handed out.
fn compare(steps: &[Step], fifo: bool) -> usize {
    let mut bench = Bench::new();
    let queue: QueueArn = if fifo {
        bench.create("q.fifo", &[("FifoQueue", "true")])
    } else {
        bench.create("q", &[])
    };
    let mut reference = Reference::default();
    let mut receipts: Vec<String> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Send { group, delay } => {
                let body = format!("m{number}");
                let (draft, delay) = if fifo {
                    (in_group(&body, &group.to_string(), &body), 0)
                } else {
                    (Draft { delay_seconds: Some(delay), ..Draft::text(&body) }, delay)
                };
                bench.send(&queue, draft).unwrap();
                let visible_at = bench.now + delay * 1_000;
                reference.send(Plain {
                    body,
                    group,
                    visible_at,
                    leased: false,
                    receipts: Vec::new(),
                    leased_at: 0,
                });
            }
            Step::Receive { max, lease } => {
                let got = bench.receive(&queue, max, lease);
                let expected =
                    reference.receive(bench.now, usize::try_from(max).unwrap(), lease, fifo);
                assert_eq!(bodies(&got), expected, "step {number}");
                receipts.extend(got.into_iter().map(|delivery| delivery.receipt));
            }
            Step::Delete { back } if back < receipts.len() => {
                let receipt = receipts.len() - 1 - back;
                reference.pass(bench.now);
                let known = reference.of_latest(receipt);
                let done = bench.delete(&queue, &receipts[receipt]).is_ok();
                match known {
                    Some(index) if !fifo || reference.messages[index].leased => {
                        assert!(done, "step {number}");
                        reference.messages.remove(index);
                    }
                    // An old handle is an error on FIFO while the message is there, else nothing.
                    _ => assert!(done || fifo, "step {number}"),
                }
            }
            Step::Hide { back, seconds } if back < receipts.len() => {
                let receipt = receipts.len() - 1 - back;
                reference.pass(bench.now);
                let known = reference
                    .of_any(receipt, fifo)
                    .filter(|index| !fifo || reference.messages[*index].leased);
                let done = bench.hide(&queue, &receipts[receipt], seconds).is_ok();
                assert_eq!(done, known.is_some(), "step {number}");
                if let Some(index) = known {
                    reference.messages[index].visible_at = bench.now + seconds * 1_000;
                    reference.messages[index].leased = seconds > 0;
                }
            }
            Step::Wait { ms } => bench.now += ms,
            Step::Delete { .. } | Step::Hide { .. } => {}
        }
        let total: usize = bench.depth(&queue).iter().sum();
        assert_eq!(total, reference.messages.len(), "nothing is lost or doubled, step {number}");
    }
    receipts.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_standard_queue_does_what_the_reference_does(steps in steps()) {
        compare(&steps, false);
    }

    #[test]
    fn a_fifo_queue_does_what_the_reference_does(steps in steps()) {
        compare(&steps, true);
    }
}
