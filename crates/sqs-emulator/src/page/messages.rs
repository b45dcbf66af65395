//! One queue: its settings and its messages.

use std::fmt::{self, Write as _};

use super::queues::link;
use super::{InQuery, Span, Text, document, table};
use crate::broker::inspect::{MessageState, MessageView, MessagesView};

/// A queue with a page of its messages.
pub(crate) fn messages(view: &MessagesView) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut body, view);
    document(&view.queue.name, &body)
}

fn write(out: &mut String, view: &MessagesView) -> fmt::Result {
    let queue = &view.queue;
    write!(
        out,
        "<p><a href=\"/\">All queues</a></p>\n<h1>{}</h1>\n<p class=\"note\">{}<br>{} visible, {} in \
         flight, {} delayed. Looking here consumes nothing. The same as JSON: \
         <a href=\"/_sqs/messages?queue={}\">/_sqs/messages</a></p>\n",
        Text(&queue.name),
        Text(&queue.arn),
        queue.visible,
        queue.in_flight,
        queue.delayed,
        InQuery(&queue.arn)
    )?;
    if let Some(dead) = &queue.dead_letter_queue {
        out.push_str("<p>Dead letters go to ");
        link(out, dead)?;
        out.push_str("</p>\n");
    }
    if !queue.dead_letter_sources.is_empty() {
        out.push_str("<p>Dead letters come from");
        for source in &queue.dead_letter_sources {
            out.push(' ');
            link(out, source)?;
        }
        out.push_str("</p>\n");
    }
    out.push_str("<h2>Messages, oldest first</h2>\n");
    if view.messages.is_empty() {
        out.push_str("<p>None.</p>\n");
    }
    for message in &view.messages {
        article(out, message, view.now_ms)?;
    }
    if let Some(next) = view.next {
        let arn = InQuery(&queue.arn);
        writeln!(out, "<p><a href=\"/?queue={arn}&amp;from={next}\">Later messages</a></p>")?;
    }
    out.push_str("<h2>Attributes</h2>\n");
    table(out, queue.attributes.iter().map(|(name, value)| (*name, value.as_str())))?;
    if !queue.tags.is_empty() {
        out.push_str("<h2>Tags</h2>\n");
        table(out, queue.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    }
    Ok(())
}

fn article(out: &mut String, message: &MessageView, now_ms: i64) -> fmt::Result {
    let (class, state) = match message.state {
        MessageState::Visible => ("visible", "visible"),
        MessageState::InFlight => ("in_flight", "in flight"),
        MessageState::Delayed => ("delayed", "delayed"),
    };
    write!(out, "<article><span class=\"state {class}\">{state}")?;
    if let Some(at) = message.visible_at_ms {
        write!(out, " for {}", Span(at - now_ms))?;
    }
    write!(out, "</span> {} <small>sent {} ago, ", message.id, Span(now_ms - message.sent_at_ms))?;
    match message.receives {
        0 => out.push_str("never received"),
        1 => out.push_str("received once"),
        receives => write!(out, "received {receives} times")?,
    }
    for (what, value) in [
        ("group", &message.group),
        ("deduplication id", &message.deduplication),
        ("sequence number", &message.sequence),
        ("trace", &message.trace_header),
    ] {
        if let Some(value) = value {
            write!(out, ", {what} {}", Text(value))?;
        }
    }
    if let Some(source) = &message.dead_letter_source {
        out.push_str(", dead letter of ");
        link(out, source)?;
    }
    write!(out, "</small>\n<pre>{}</pre>", Text(&message.body))?;
    if message.body.len() < message.body_bytes {
        let (shown, all) = (message.body.len(), message.body_bytes);
        write!(out, "<small>the first {shown} of {all} bytes</small>")?;
    }
    if !message.attributes.is_empty() {
        out.push_str("<table class=\"pairs\">");
        for attribute in &message.attributes {
            write!(
                out,
                "<tr><th>{}</th><td class=\"dim\">{}</td><td>{}</td></tr>",
                Text(&attribute.name),
                Text(&attribute.data_type),
                Text(&attribute.value)
            )?;
        }
        out.push_str("</table>");
    }
    out.push_str("</article>\n");
    Ok(())
}
