//! Why requests and sessions ended as they did, for people.

use std::fmt::Write as _;

use serde_yaml::Value;

use crate::core::text::plural;
use crate::ctl::tables::{Table, bytes};

/// What weir says of them: the latest at length, and if there are more, all in a table.
pub(super) fn text(told: &str) -> Option<String> {
    let told: Value = serde_yaml::from_str(told).ok()?;
    let all = told.get("requests")?.as_sequence()?;
    let Some(latest) = all.first() else {
        return Some("there is none of that kind among those that are kept\n".to_owned());
    };
    let mut text = String::new();
    if all.len() > 1 {
        text += &table(all);
        text += "\nThe latest:\n";
    }
    text += &one(latest);
    Some(text)
}

fn table(all: &[Value]) -> String {
    let mut table = Table::new(&[
        "TIME",
        "STATUS",
        "WHY",
        "?UPSTREAM",
        "BACKEND",
        "?>TRIED",
        "?>MS",
        "?REQUEST",
        "ID",
    ]);
    for it in all {
        let words = [
            "status", "why", "upstream", "backend", "attempts", "total_ms",
        ];
        let mut cells = vec![clock(it)];
        cells.extend(words.map(|key| said(it, key).unwrap_or_else(|| "-".to_owned())));
        cells.push(said(it, "request").unwrap_or_else(|| "-".to_owned()));
        cells.push(said(it, "id").unwrap_or_default());
        table.row(cells);
    }
    table.text()
}

/// The time of day, in UTC.
fn clock(it: &Value) -> String {
    let time = said(it, "time").unwrap_or_default();
    time.get(11..23).unwrap_or_default().to_owned()
}

fn one(it: &Value) -> String {
    let said = |key: &str| said(it, key);
    let count = |key| it.get(key).and_then(Value::as_u64).unwrap_or(0);
    let or = |key, other: &str| said(key).unwrap_or_else(|| other.to_owned());
    let mut text = format!("{} {}", or("kind", ""), or("id", ""));
    if let Some(request) = said("request") {
        let _ = write!(text, ": {request}");
    }
    let _ = write!(
        text,
        "\n  ended      {}, worker {}",
        or("time", ""),
        or("worker", "")
    );
    if let Some(client) = client(it) {
        let _ = write!(text, "\n  client     {client}");
    }
    let _ = write!(text, "\n  outcome    {}", outcome(it));
    if let Some(reason) = said("reason") {
        let _ = write!(text, ": {reason}");
    }
    if let Some(who) = said("closed_by") {
        let _ = write!(text, "; {who} closed first");
    }
    let _ = write!(text, "\n  way        listener {}", or("listener", "-"));
    for key in ["route", "upstream", "backend"] {
        if let Some(name) = said(key) {
            let _ = write!(text, ", {key} {name}");
        }
    }
    if let Some(rule) = said("rule") {
        let members = count("members");
        let s = plural(members == 1);
        let _ = match said("backend") {
            Some(_) => write!(text, "\n  picked by  {rule}, of {members} backend{s}"),
            None => write!(text, "\n  picked     none of {members} backend{s}"),
        };
    }
    left_out(it, &mut text);
    tries(it, &mut text);
    let spans = ["wait", "queue", "connect", "ttfb", "total", "parked"];
    let spans = spans.map(|name| Some(format!("{name} {} ms", said(&format!("{name}_ms"))?)));
    let spans: Vec<String> = spans.into_iter().flatten().collect();
    let _ = write!(text, "\n  took       {}", spans.join(", "));
    let (up, down) = (bytes(count("bytes_in")), bytes(count("bytes_out")));
    let _ = writeln!(text, "\n  bytes      {up} from the client, {down} to it");
    text
}

/// Whose it was, and which server it has asked for.
fn client(it: &Value) -> Option<String> {
    let address = said(it, "client");
    let client = match (address, said(it, "client_port")) {
        (Some(address), Some(port)) if address.contains(':') => Some(format!("[{address}]:{port}")),
        (Some(address), Some(port)) => Some(format!("{address}:{port}")),
        (address, _) => address,
    };
    match (client, said(it, "sni")) {
        (Some(client), Some(name)) => Some(format!("{client}, which asked for {name}")),
        (None, Some(name)) => Some(format!("one that asked for {name}")),
        (client, None) => client,
    }
}

/// The status and what led to it.
fn outcome(it: &Value) -> String {
    let why = said(it, "why").unwrap_or_default();
    let Some(status) = said(it, "status") else {
        return why;
    };
    let by = if said(it, "backend").is_some() {
        "the backend"
    } else {
        "weir"
    };
    match why.as_str() {
        "ok" => format!("{status} by {by}"),
        why => format!("{status}, {why}"),
    }
}

fn left_out(it: &Value, text: &mut String) {
    for (at, it) in list(it, "left_out").iter().enumerate() {
        let head = if at == 0 { "left out" } else { "" };
        let backend = said(it, "backend").unwrap_or_default();
        let words = said(it, "words").unwrap_or_default();
        let _ = write!(text, "\n  {head:<11}{backend}: {words}");
    }
}

/// Each attempt; those that failed are told of one by one, unless they were too many.
fn tries(it: &Value, text: &mut String) {
    let failed = list(it, "tries");
    if failed.is_empty() {
        return;
    }
    for (at, it) in failed.iter().enumerate() {
        let head = if at == 0 { "attempts" } else { "" };
        let backend = said(it, "backend").unwrap_or_default();
        let words = said(it, "words").unwrap_or_default();
        let after_ms = said(it, "after_ms").unwrap_or_default();
        let _ = write!(
            text,
            "\n  {head:<11}{backend}: {words}, after {after_ms} ms"
        );
    }
    let is_of_backend = |it: &&Value| said(it, "failed_at").is_some_and(|at| at != "parked");
    let failures = failed.iter().filter(is_of_backend).count() as u64;
    let attempts = it.get("attempts").and_then(Value::as_u64).unwrap_or(0);
    if attempts == failures + 1
        && let Some(backend) = said(it, "backend")
    {
        let outcome = said(it, "status").or_else(|| said(it, "why"));
        let _ = write!(
            text,
            "\n  {:<11}{backend}: {}",
            "",
            outcome.unwrap_or_default()
        );
    } else if attempts > failures {
        let _ = write!(text, "\n  {:<11}and {} more", "", attempts - failures);
    }
}

fn list<'a>(it: &'a Value, key: &str) -> &'a [Value] {
    let list = it.get(key).and_then(Value::as_sequence);
    list.map_or(&[], Vec::as_slice)
}

/// A text or a number, as it is; none where there is none.
fn said(it: &Value, key: &str) -> Option<String> {
    let value = it.get(key)?;
    let text = value.as_str().map(str::to_owned);
    text.or_else(|| value.as_u64().map(|number| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"requests":[{"id":"00ab","time":"2026-11-28T14:03:12.123Z","worker":1,
        "kind":"http","client":"192.0.2.1","client_port":51234,
        "request":"GET /x","listener":"web","route":"/","upstream":"app",
        "backend":"b3","rule":"least connections","why":"connect failed","reason":null,
        "closed_by":"weir","status":502,"attempts":2,"members":3,"bytes_in":2048,"bytes_out":10,
        "wait_ms":0,"queue_ms":null,"connect_ms":null,"ttfb_ms":null,"total_ms":12,
        "parked_ms":null,"tries":[{"backend":"b1","after_ms":1,"failed_at":"connect",
        "words":"connect failed: connection refused"},{"backend":"b3","after_ms":12,
        "failed_at":"connect","words":"connect failed: timed out"}],
        "left_out":[{"backend":"b2","state":"down","since":"2026-11-28T14:03:11.000Z",
        "words":"down since 14:03:11: 3 checks timed out"}]}]}"#;

    #[test]
    fn one_is_told_at_length() {
        let told = text(TOLD).expect("it is JSON");
        for line in [
            "http 00ab: GET /x",
            "  client     192.0.2.1:51234",
            "  outcome    502, connect failed; weir closed first",
            "  way        listener web, route /, upstream app, backend b3",
            "  picked by  least connections, of 3 backends",
            "  left out   b2: down since 14:03:11: 3 checks timed out",
            "  attempts   b1: connect failed: connection refused, after 1 ms",
            "             b3: connect failed: timed out, after 12 ms",
            "  took       wait 0 ms, total 12 ms",
            "  bytes      2.0 KiB from the client, 10 B to it",
        ] {
            assert!(told.lines().any(|it| it == line), "{line:?} in {told}");
        }
        assert!(!told.contains("more"), "{told}");
    }

    #[test]
    fn what_went_nowhere_and_who_it_was_is_told() {
        let told = r#"{"requests":[{"id":"00ac","time":"2026-11-28T14:03:12.123Z","worker":1,
            "kind":"tcp","client":"2001:db8::1","client_port":7,"sni":"a.test","members":1,
            "rule":"hash","upstream":"app","why":"no usable backend"}]}"#;
        let told = text(told).expect("it is JSON");
        for line in [
            "  client     [2001:db8::1]:7, which asked for a.test",
            "  picked     none of 1 backend",
        ] {
            assert!(told.lines().any(|it| it == line), "{line:?} in {told}");
        }
    }

    #[test]
    fn several_are_in_a_table_with_the_latest_at_length() {
        let several = TOLD.replace("]}]}", r#"]},{"id":"00aa","kind":"tcp","why":"ok"}]}"#);
        let told = text(&several).expect("it is JSON");
        assert!(told.starts_with("TIME "), "{told}");
        assert!(
            told.contains("00aa") && told.contains("14:03:12.123  502"),
            "{told}"
        );
        assert_eq!(told.matches("outcome").count(), 1);
    }

    #[test]
    fn none_is_said_and_nonsense_is_no_answer() {
        let told = text(r#"{"requests":[]}"#).expect("it is JSON");
        assert!(told.contains("none"), "{told}");
        for nonsense in ["", "{", "[]", r#"{"requests":7}"#] {
            assert_eq!(text(nonsense), None, "{nonsense:?}");
        }
    }
}
