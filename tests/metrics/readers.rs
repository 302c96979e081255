//! Programs that read metrics, and what they make of ours.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::exact::config;
use crate::harness::{Launch, Scratch};
use crate::scrape::get;
use crate::software::{is_installed, python_with};
use crate::traffic::{origin, requests};

const CLASSIC: &str = "text/plain;version=0.0.4";
const OPEN: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

/// Runs a program on this text; what it has to say.
fn read_by(program: &mut Command, text: &str) -> (bool, String) {
    let child = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.stderr(Stdio::piped()).spawn().expect("it is there");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

/// What a weir says that has served and been asked, in both formats.
fn scrapes() -> [String; 2] {
    let (scratch, origin) = (Scratch::new(), origin());
    let door = scratch.file("weir.sock");
    let weir = Launch::new(config(&door, origin.address())).start();
    requests(weir.address(), 10, 200);
    requests(weir.address(), 1, 500);
    [CLASSIC, OPEN].map(|accept| get(&door, "/metrics", accept))
}

#[test]
fn promtool_has_nothing_to_say() {
    if !is_installed("promtool") {
        return;
    }
    let [classic, _] = scrapes();
    let mut promtool = Command::new("promtool");
    let (is_clean, said) = read_by(promtool.args(["check", "metrics"]), &classic);
    assert!(is_clean && said.trim().is_empty(), "{said}");
}

const PARSE: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families as classic
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
families = (open_metrics if sys.argv[1] == 'open' else classic)(sys.stdin.read())
for family in families:
    print(family.type, family.name, len(family.samples))
";

#[test]
fn the_parser_of_prometheus_reads_both_formats() {
    let Some(python) = python_with("prometheus_client") else {
        return;
    };
    let scrapes = scrapes();
    assert!(scrapes[1].ends_with("# EOF\n") && !scrapes[0].ends_with("# EOF\n"));
    for (form, text) in ["classic", "open"].iter().zip(&scrapes) {
        let (is_read, said) = read_by(Command::new(python).args(["-c", PARSE, form]), text);
        assert!(is_read, "{form}: {said}");
        for line in [
            "counter weir_listener_accepted 1\n",
            "histogram weir_request_duration_seconds 46\n",
            "summary weir_backend_response_seconds 2\n",
        ] {
            assert!(said.contains(line), "{form}: {line} is not in {said}");
        }
    }
}

#[test]
fn the_dashboard_is_json_and_its_panels_have_places_of_their_own() {
    let Some(python) = python_with("json") else {
        return;
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/grafana/weir.json");
    let text = fs::read_to_string(file).expect("it is there");
    let check = "
import json, sys
dashboard = json.load(sys.stdin)
taken, ids = set(), set()
for panel in dashboard['panels']:
    assert panel['id'] not in ids, panel
    ids.add(panel['id'])
    at = panel['gridPos']
    for x in range(at['x'], at['x'] + at['w']):
        for y in range(at['y'], at['y'] + at['h']):
            assert x < 24 and (x, y) not in taken, panel['title']
            taken.add((x, y))
    assert panel['type'] == 'row' or all(it['expr'] for it in panel['targets'])
";
    let (is_well, said) = read_by(Command::new(python).args(["-c", check]), &text);
    assert!(is_well, "{said}");
}
