//! The list of queues.

use std::fmt::{self, Write as _};

use super::{InQuery, Span, Text, document};
use crate::broker::inspect::{QueueView, QueuesView};

/// Every queue with its counts; `name` is what was searched for.
pub(crate) fn queues(view: &QueuesView, name: &str) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut body, view, name);
    document("Queues", &body)
}

fn write(out: &mut String, view: &QueuesView, name: &str) -> fmt::Result {
    write!(
        out,
        "<h1>Queues</h1>\n<p class=\"note\">Looking here consumes nothing. The same as JSON: \
         <a href=\"/_sqs/queues\">/_sqs/queues</a> <form><input name=\"name\" value=\"{}\" \
         placeholder=\"part of a name\"></form></p>\n",
        Text(name)
    )?;
    if view.queues.is_empty() {
        out.push_str("<p>No queue yet. Make one with <code>CreateQueue</code>.</p>\n");
        return Ok(());
    }
    out.push_str(
        "<table><tr><th>Name</th><th class=\"count\">Visible</th><th class=\"count\">In flight</th>\
         <th class=\"count\">Delayed</th><th>Oldest</th><th>Dead letters</th>\
         <th>Account, region</th></tr>\n",
    );
    for queue in &view.queues {
        row(out, queue)?;
    }
    out.push_str("</table>\n");
    if let Some(next) = &view.next {
        let (next, name) = (InQuery(next), InQuery(name));
        writeln!(out, "<p><a href=\"/?from={next}&amp;name={name}\">More queues</a></p>")?;
    }
    Ok(())
}

fn row(out: &mut String, queue: &QueueView) -> fmt::Result {
    write!(out, "<tr><td>")?;
    link(out, &queue.arn)?;
    write!(
        out,
        "</td><td class=\"count\">{}</td><td class=\"count\">{}</td><td class=\"count\">{}</td><td>",
        queue.visible, queue.in_flight, queue.delayed
    )?;
    if let Some(age) = queue.oldest_age_ms {
        write!(out, "{}", Span(age))?;
    }
    out.push_str("</td><td>");
    if let Some(dead) = &queue.dead_letter_queue {
        out.push_str("go to ");
        link(out, dead)?;
    }
    match queue.dead_letter_sources.as_slice() {
        [] => {}
        [source] => {
            out.push_str(" those of ");
            link(out, source)?;
        }
        sources => write!(out, " those of {} queues", sources.len())?,
    }
    let (account, region) = (Text(&queue.account), Text(&queue.region));
    writeln!(out, "</td><td class=\"dim\">{account}, {region}</td></tr>")
}

/// A queue's name, as a link to its messages.
pub(super) fn link(out: &mut String, arn: &str) -> fmt::Result {
    let name = arn.rsplit(':').next().unwrap_or(arn);
    write!(out, "<a href=\"/?queue={}\">{}</a>", InQuery(arn), Text(name))
}
