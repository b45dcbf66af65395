//! The contender beside the Rust crate `shove`, each in a process of its own. `shove` finds its queue by
//! declaring a topic of SNS for it, so a double of SNS says yes to that; no message goes through it.
//! Its consumers and what each takes at once are swept, its batch consumer too, and its best is what we
//! are compared with.

use anyhow::Context;
use axum::Router;
use axum::routing::post;

use crate::books::Books;
use crate::median;
use crate::racer::{self, Variables};
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;

const ROUNDS: usize = 3;
const CONSUMERS: [u16; 3] = [4, 8, 16];
/// Messages that a consumer handles at once; 0 is the batch consumer.
const PREFETCH: [u16; 3] = [0, 10, 64];
/// Of a round's messages, so many are enough to choose.
const SWEEP_SHARE: usize = 5;
const UNIT: &str = "messages/s";
const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:topic";

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let sns = sns().await?;
    let variables = |(consumers, prefetch): (u16, u16)| -> Variables {
        vec![
            ("CONSUMERS", consumers.to_string()),
            ("PREFETCH", prefetch.to_string()),
            ("AWS_ENDPOINT_URL_SNS", sns.clone()),
        ]
    };
    let mut best: Option<(f64, (u16, u16))> = None;
    for pair in CONSUMERS.into_iter().flat_map(|one| PREFETCH.map(|other| (one, other))) {
        let few = count / SWEEP_SHARE;
        let one = racer::run(&server, "shove-drain", few, &variables(pair), Ok).await?;
        eprintln!("  shove, {} consumers by {}: {:.0} {UNIT}", pair.0, pair.1, one.rate);
        if best.is_none_or(|(rate, _)| one.rate > rate) {
            best = Some((one.rate, pair));
        }
    }
    let (_, best) = best.context("a best")?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let (mut their_books, mut books) = (Books::default(), Books::default());
    for _ in 0..ROUNDS {
        let one = racer::run(&server, "shove-drain", count, &variables(best), Ok).await?;
        theirs.push(one.rate);
        their_books = their_books.and(one.books);
        let one = racer::run(&server, "contender", count, &Variables::new(), Ok).await?;
        ours.push(one.rate);
        books = books.and(one.books);
    }
    let (theirs, ours) = (median(&theirs), median(&ours));
    let figure = Figure::new("shove 0.16", theirs, UNIT).books(their_books);
    report.add(figure.beside(format!(
        "its best of {CONSUMERS:?} consumers by {PREFETCH:?} at once (0: the batch consumer): {} by {}",
        best.0, best.1
    )));
    report.add(Figure::new("contender, beside shove", ours, UNIT).books(books));
    let ratio = Figure::new("contender / shove", ours / theirs, "ratio");
    report.add(ratio.at_least(1.3).books(books));
    Ok(())
}

/// Says yes to whoever declares a topic; its endpoint.
async fn sns() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let yes = post(|body: String| async move {
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
        let (action, name) = match action {
            Some("Subscribe") => ("Subscribe", "SubscriptionArn"),
            _ => ("CreateTopic", "TopicArn"),
        };
        format!(
            "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>\
             <{name}>{TOPIC}</{name}></{action}Result></{action}Response>"
        )
    });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", yes)).await });
    Ok(endpoint)
}
