//! The demo, as it is but for its ports: it gets ready, and what it says to try does what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Launch, Port, Scratch, eventually};
use crate::software::is_installed;

/// The ports that are in conf/demo.yaml.
const OWN: [&str; 6] = ["18081", "18082", "18083", "8080", "8090", "8099"];

/// The commands of conf/demo.txt that curl is for, and how often each is to be run.
const TRIED: [(&str, usize); 6] = [
    ("/'", 6),
    ("/api/users?id=7'", 1),
    ("/shop/'", 2),
    ("/docs'", 1),
    ("/health'", 1),
    ("/'", 1),
];

fn curl(command: &str) -> (bool, String) {
    let command = command.replacen("curl ", "curl -sS --max-time 20 ", 1);
    let output = Command::new("sh").args(["-c", &command]).output();
    let output = output.expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

#[test]
fn the_demo_does_what_it_says() {
    if !is_installed("curl") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("it is there");
    let free = OWN.map(|_| Port::reserve());
    let with_free = |mut text: String| {
        for (own, free) in OWN.iter().zip(&free) {
            let free = format!(":{}", free.address().port());
            text = text.replace(&format!(":{own}"), &free);
        }
        text
    };
    let (file, hints) = (with_free(read("demo.yaml")), with_free(read("demo.txt")));
    let _weir = Launch::new(file).start();
    let admin = free[5].address();
    eventually("the demo is ready", || {
        curl(&format!("curl -f 'http://{admin}/ready'"))
            .0
            .then_some(())
    });
    let (_, page) = curl(&format!("curl -f 'http://{admin}/'"));
    assert!(page.contains("</html>"), "{page}");

    let scratch = Scratch::new();
    let jar = scratch.file("jar").display().to_string();
    let shown = hints.lines().filter(|line| line.starts_with("  curl "));
    let commands: Vec<String> = shown
        .map(|line| {
            let command = line.trim().split("    ").next().expect("it is first");
            command.replace("/tmp/jar", &jar)
        })
        .collect();
    assert_eq!(commands.len(), TRIED.len(), "{commands:?}");
    let mut told = Vec::new();
    for (command, (end, times)) in commands.iter().zip(TRIED) {
        assert!(command.ends_with(end), "{command}");
        let all: Vec<String> = (0..times)
            .map(|_| {
                let (is_done, text) = curl(command);
                assert!(is_done, "{command}: {text}");
                text
            })
            .collect();
        told.push(all);
    }
    let [turns, api, shop, docs, health, tcp] = &told[..] else {
        panic!("{told:?}");
    };
    let from = |name: &str| {
        let begin = format!("backend {name}: GET /\n");
        turns.iter().filter(|it| it.starts_with(&begin)).count()
    };
    assert_eq!(["one", "two", "three"].map(from), [3, 2, 1], "{turns:?}");
    for text in turns {
        assert!(text.contains("X-Forwarded-For: 127.0.0.1\n"), "{text}");
    }
    assert!(api[0].contains(": GET /users"), "{api:?}");
    assert!(api[0].contains("X-Entry: demo\n"), "{api:?}");
    assert!(shop[0].starts_with("backend "), "{shop:?}");
    assert_eq!(shop[0], shop[1]);
    assert!(docs[0].starts_with("HTTP/1.1 302 "), "{docs:?}");
    let place = "https://example.com/docs\r\n";
    assert!(docs[0].contains(place), "{docs:?}");
    assert!(health[0].ends_with("\r\n\r\nweir is here\n"), "{health:?}");
    assert!(tcp[0].starts_with("backend "), "{tcp:?}");
}
