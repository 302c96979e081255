//! What is done by hand while there is load, in any order: nobody notices but who is kicked.

use weir::core::rng::Rng;

use crate::admin::ctl;
use crate::harness::{Launch, Load, Named, Scratch, eventually};
use crate::machine::{Machine, config};

const KINDS: [&str; 2] = ["1", "3"];
const ACTIONS: usize = 60;
const CLIENTS: usize = 4;

#[test]
fn any_actions_under_load_lose_nobody_but_who_is_kicked() {
    for (seed, workers) in (1..).zip(KINDS) {
        let [a, b, c] = ["A", "B", "C"].map(Named::new);
        let file = config().backend_with(a.address(), "id: a");
        let file = file.backend_with(b.address(), "id: b");
        let scratch = Scratch::new();
        let launch = Launch::new(file).open_to_all();
        let launch = launch.argument("--workers").argument(workers);
        let launch = launch.argument("-p").argument(scratch.file("weir.pid"));
        let machine = Machine::launch(launch);
        let done = |words: &[&str]| {
            let told = ctl(&scratch.file("weir.sock"), words);
            assert_eq!(told.code, Some(0), "{words:?}: {told:?}");
            told.stdout
        };
        let load = Load::start(machine.address(), CLIENTS);
        let (mut rng, mut has_more) = (Rng::new(seed), false);
        let address = c.address().to_string();
        for _ in 0..ACTIONS {
            // One of the first is always there to serve.
            let target = if has_more && rng.below(2) == 0 {
                "pool/c"
            } else {
                "pool/b"
            };
            match rng.below(8) {
                0 => done(&["drain", target]),
                1 => done(&["disable", target]),
                2 => done(&["enable", target]),
                3 => {
                    let at = usize::try_from(rng.below(4)).expect("small");
                    done(&["weight", target, ["0", "1", "9", "file"][at]])
                }
                4 => done(&["kick", target]),
                _ if has_more => {
                    has_more = false;
                    done(&["remove", "pool/c"])
                }
                _ => {
                    has_more = true;
                    done(&["add", "pool", &address, "--id", "c"])
                }
            };
        }
        done(&["enable", "pool"]);
        load.wait_more(20);
        let (sessions, failures) = load.finish_counted();
        // Those that were kicked are told one by one; some have had all before.
        eventually("all that have failed were kicked", || {
            let kicked = machine.log.count(&["ended: kicked"]);
            (failures.len() <= kicked).then_some(())
        });
        let status = done(&["status", "--json"]);
        let accepted = format!("\"accepted\":{sessions},\"active\":0");
        assert!(status.contains(&accepted), "{accepted}: {status}");
    }
}
