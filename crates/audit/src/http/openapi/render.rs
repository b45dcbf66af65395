//! The description as one HTML page: routes, parameters, bodies, answers, error codes. Every text
//! is escaped; headings carry the ids that problem documents link to.

use std::fmt::Write as _;

use contracts::errors::CODES;
use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}\
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f5f7;border-radius:4px}code{padding:.1em .3em}\
pre{padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}td,th{border:1px solid #d0d7de;\
padding:.3rem .5rem;text-align:left;vertical-align:top}.m{font-weight:700;text-transform:uppercase}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}code,pre{background:#1c2128}}";

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The page.
pub(super) fn page(description: &Value) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let title = escaped(text(description, "/info/title"));
    put(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <h1>{title} API</h1><p>{}</p><p>Send <code>Authorization: Bearer flt_…</code>. The \
         machine-readable form is <a href=\"/openapi.json\">/openapi.json</a>.</p>",
            escaped(text(description, "/info/description"))
        ),
    );
    out.push_str("<h2 id=\"routes\">Routes</h2>");
    for (path, methods) in members(description, "/paths") {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            route(&mut out, path, method, operation);
        }
    }
    out.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in members(description, "/components/schemas") {
        let shown = serde_json::to_string_pretty(schema).unwrap_or_default();
        let name = escaped(name);
        put(
            &mut out,
            format_args!("<h3 id=\"schema-{name}\">{name}</h3><pre>{}</pre>", escaped(&shown)),
        );
    }
    errors(&mut out);
    out.push_str("</body></html>");
    out
}

/// Writing to a string cannot fail.
fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = out.write_fmt(arguments);
}

fn members<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

fn route(out: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = text(operation, "/summary");
    put(
        out,
        format_args!(
            "<h3><span class=\"m\">{}</span> <code>{}</code></h3><p>{}</p>",
            escaped(method),
            escaped(path),
            escaped(summary)
        ),
    );
    let scopes: Vec<&str> = operation
        .pointer("/security/0/key")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !scopes.is_empty() {
        put(out, format_args!("<p>Scope: <code>{}</code></p>", escaped(&scopes.join(", "))));
    }
    parameters(out, operation);
    body(out, operation);
    answers(out, operation);
}

fn parameters(out: &mut String, operation: &Value) {
    let Some(parameters) = operation.pointer("/parameters").and_then(Value::as_array) else {
        return;
    };
    out.push_str("<table><tr><th>Parameter</th><th>In</th><th>What it is</th></tr>");
    for parameter in parameters {
        put(
            out,
            format_args!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escaped(text(parameter, "/name")),
                escaped(text(parameter, "/in")),
                escaped(text(parameter, "/description"))
            ),
        );
    }
    out.push_str("</table>");
}

fn body(out: &mut String, operation: &Value) {
    for (media, content) in members(operation, "/requestBody/content") {
        put(out, format_args!("<p>Body: <code>{}</code>{}</p>", escaped(media), schema(content)));
    }
}

fn answers(out: &mut String, operation: &Value) {
    out.push_str("<table><tr><th>Status</th><th>What it means</th><th>Body</th></tr>");
    for (status, answer) in members(operation, "/responses") {
        let bodies: Vec<String> = members(answer, "/content")
            .map(|(media, content)| format!("<code>{}</code>{}", escaped(media), schema(content)))
            .collect();
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(status),
                escaped(text(answer, "/description")),
                bodies.join("<br>")
            ),
        );
    }
    out.push_str("</table>");
}

/// A link to the schema that a content names.
fn schema(content: &Value) -> String {
    let direct = text(content, "/schema/$ref");
    let items = text(content, "/schema/items/$ref");
    let (reference, many) = if direct.is_empty() { (items, " of ") } else { (direct, " ") };
    match reference.rsplit('/').next() {
        Some(name) if !name.is_empty() => {
            let name = escaped(name);
            format!("{many}<a href=\"#schema-{name}\">{name}</a>")
        }
        _ => String::new(),
    }
}

fn errors(out: &mut String) {
    out.push_str(
        "<h2 id=\"errors\">Error codes</h2><p>The <code>type</code> of a problem document links \
         here.</p><table><tr><th>Code</th><th>Status</th><th>Meaning</th><th>What to do</th>\
         <th>Retry</th></tr>",
    );
    for code in CODES {
        put(
            out,
            format_args!(
                "<tr id=\"{0}\"><td><code>{0}</code></td><td>{1}</td><td>{2}</td><td>{3}</td><td>{4}</td></tr>",
                escaped(code.code),
                code.status,
                escaped(code.title),
                escaped(code.hint),
                if code.retryable { "yes" } else { "no" }
            ),
        );
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_escaped() {
        let evil = "<script>alert('1')</script>\"&";
        let description = serde_json::json!({
            "info": {"title": evil, "description": evil},
            "paths": {evil: {evil: {
                "summary": evil,
                "parameters": [{"name": evil, "in": evil, "description": evil}],
                "requestBody": {"content": {evil: {"schema": {"$ref": evil}}}},
                "responses": {evil: {"description": evil, "content": {evil: {}}}},
                "security": [{"key": [evil]}],
            }}},
            "components": {"schemas": {evil: {evil: evil}}},
        });
        let page = page(&description);
        assert!(!page.contains("<script"), "unescaped");
        assert!(!page.contains("('1')"), "unescaped quotes");
    }

    #[test]
    fn every_error_code_and_route_is_on_the_page() {
        let page = super::super::page();
        for code in CODES {
            assert!(page.contains(&format!("<tr id=\"{}\">", code.code)), "{}", code.code);
        }
        for route in ["/logs", "/logs/bulk", "/logs/{id}", "/logs/export", "/logs/live"] {
            assert!(page.contains(&format!("<code>{route}</code>")), "{route}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "reaches elsewhere");
    }
}
