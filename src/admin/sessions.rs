//! Sessions as JSON.

use crate::admin::json::JsonWriter;
use crate::core::sessions::{GlobalName, SessionRow};

/// Sessions of these processes, whether there are more, and who has not told its own.
pub(crate) fn listed(rows: &[(u32, SessionRow)], is_all: bool, silent: &[u32]) -> String {
    let mut out = Vec::new();
    let mut json = JsonWriter::new(&mut out);
    json.begin_object();
    json.key("sessions");
    json.begin_list();
    for (pid, row) in rows {
        session(*pid, row, &mut json);
    }
    json.end_list();
    json.field("complete", is_all && silent.is_empty());
    json.key("silent_pids");
    json.begin_list();
    silent.iter().for_each(|pid| json.plain(pid));
    json.end_list();
    json.end_object();
    out.push(b'\n');
    String::from_utf8(out).unwrap_or_default()
}

fn session(pid: u32, row: &SessionRow, json: &mut JsonWriter<'_>) {
    let name = row.name;
    json.begin_object();
    json.text_field("id", &GlobalName { pid, name }.to_string());
    json.field("pid", pid);
    json.text_field("listener", &row.listener);
    json.key("client");
    match row.client {
        Some(client) => json.text(&client.to_string()),
        None => json.plain("null"),
    }
    json.text_field("backend", &row.backend);
    json.text_field("state", row.state.word());
    json.field("age_ms", row.age_ms);
    json.field("bytes_in", row.bytes_in);
    json.field("bytes_out", row.bytes_out);
    json.field("requests", row.requests);
    json.end_object();
}
