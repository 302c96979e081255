//! A WebSocket client and a WebSocket server that know nothing of weir, with weir in between and
//! nothing configured for them.

use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};

use crate::config::Config;
use crate::harness::Weir;
use crate::software::{Running, bounded, output, python_with};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/websocket.py");

struct Server {
    _running: Running,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(python: &str) -> Self {
        let mut command = Command::new(python);
        command.args([SCRIPT, "server"]).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the server starts");
        let stdout = child.stdout.take().expect("it is piped");
        Self {
            _running: Running(child),
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn line(&mut self) -> String {
        let line = self.lines.next().expect("the server runs");
        line.expect("its lines are text")
    }
}

#[test]
fn a_websocket_client_and_server_talk_through_weir() {
    let Some(python) = python_with("websockets") else {
        return;
    };
    let mut server = Server::start(python);
    let weir = Weir::start(Config::pool([format!("127.0.0.1:{}", server.line())]));
    let url = format!("ws://{}/chat?room=1", weir.address_of("web"));
    let said = output(bounded(python).args([SCRIPT, "client", &url]));
    assert_eq!(said, "all is well\n");
    assert_eq!(server.line(), "closed 4000 the client leaves");
    assert_eq!(server.line(), "closed 4001 the server leaves");
}
