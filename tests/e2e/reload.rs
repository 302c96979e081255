//! A new configuration comes into use without a failed connection; a bad one changes nothing.

use crate::harness::log::{DOWN, LISTENING, UP};
use crate::harness::process::wait_closed;
use crate::harness::{Config, Gate, Load, Named, Peer, Signal, Weir, ask, eventually};

#[test]
fn backends_and_weights_change_under_load_without_a_failed_connection() {
    let [a, b, c] = ["A", "B", "C"].map(Named::new);
    let files = [
        Config::new().backend(a.address()).backend(b.address()),
        Config::new().backend(b.address()).backend(c.address()),
        Config::new()
            .listen("side", "127.0.0.2:0")
            .backend_with(c.address(), "weight: 7"),
        Config::new()
            .upstream("algorithm: least_conn")
            .backend_with(a.address(), "weight: 3")
            .backend(b.address())
            .backend(c.address()),
    ];
    let weir = Weir::start(&files[0]);
    let load = Load::start(weir.address(), 4);
    for round in 1..=12 {
        weir.reload(&files[round % files.len()]);
        load.wait_more(20);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(a.asked() > 0 && b.asked() > 0 && c.asked() > 0);
}

#[test]
fn the_log_level_goes_down_and_up_again() {
    let origin = Named::new("A");
    let file = |level: &str| {
        let text = Config::new().backend(origin.address()).to_string();
        text.replace("log_level: debug", &format!("log_level: {level}"))
    };
    let weir = Weir::start(file("info"));
    ask(&mut weir.connect());
    let mark = weir.log.mark();
    weir.reload(file("debug"));
    ask(&mut weir.connect());
    weir.log.wait_since(mark, &["DEBUG"]);
    weir.reload(file("info"));
    let mark = weir.log.mark();
    ask(&mut weir.connect());
    weir.reload(file("info"));
    assert_eq!(weir.log.count_since(mark, &["DEBUG"]), 0);
}

#[test]
fn a_removed_backend_keeps_its_sessions_and_gets_no_more() {
    let [a, b] = ["A", "B"].map(Named::new);
    let weir = Weir::start(Config::new().backend(a.address()));
    let mut held = weir.connect();
    assert_eq!(ask(&mut held), "A");
    weir.reload(Config::new().backend(b.address()));
    for _ in 0..6 {
        assert_eq!(ask(&mut weir.connect()), "B");
    }
    held.send("still here");
    held.expect("still here");
    held.finish();
    held.expect_end();
}

#[test]
fn a_changed_weight_counts_from_the_next_connection() {
    let [a, b] = ["A", "B"].map(Named::new);
    let weights = |of_a, of_b| {
        Config::new()
            .backend_with(a.address(), &format!("weight: {of_a}"))
            .backend_with(b.address(), &format!("weight: {of_b}"))
    };
    let weir = Weir::start(weights(1, 1));
    weir.reload(weights(0, 1));
    for _ in 0..6 {
        assert_eq!(ask(&mut weir.connect()), "B");
    }
    weir.reload(weights(3, 1));
    let seen: String = (0..40).map(|_| ask(&mut weir.connect())).collect();
    assert_eq!(seen.matches('A').count(), 30, "{seen}");
}

#[test]
fn a_reload_that_does_not_touch_a_backend_keeps_its_state() {
    let [a, b, c] = ["A", "B", "C"].map(Named::new);
    let check = "rise: 2, fall: 1, path: /health";
    let config = Config::new()
        .checked(check)
        .backend(a.address())
        .backend(b.address());
    a.set_status(500);
    let weir = Weir::start(&config);
    let name = a.address().to_string();
    weir.log.wait(&[DOWN, &name]);
    weir.reload(config.backend(c.address()));
    for _ in 0..6 {
        assert_ne!(ask(&mut weir.connect()), "A");
    }
    assert_eq!(weir.log.count(&[DOWN, &name]), 1);
}

#[test]
fn an_added_backend_with_checks_takes_nothing_before_its_first_passed_probe() {
    let [a, b] = ["A", "B"].map(Named::new);
    let check = "rise: 1, fall: 1, path: /health";
    let config = Config::new().checked(check).backend(a.address());
    let weir = Weir::start(&config);
    b.set_status(500);
    weir.reload(config.backend(b.address()));
    eventually("a probe reaches it", || {
        (b.probes().len() >= 2).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "A");
    }
    assert_eq!(b.asked(), 0);
    b.set_status(200);
    weir.log.wait(&[UP, &b.address().to_string()]);
    let seen: String = (0..4).map(|_| ask(&mut weir.connect())).collect();
    assert!(seen.contains('B'), "{seen}");
}

#[test]
fn an_added_listener_serves() {
    let a = Named::new("A");
    let config = Config::new().backend(a.address());
    let weir = Weir::start(&config);
    weir.reload(config.listen("side", "127.0.0.2:0"));
    let mut client = Peer::connect(weir.address_of("side")).expect("weir listens");
    assert_eq!(ask(&mut client), "A");
    assert_eq!(ask(&mut weir.connect()), "A");
    assert_eq!(weir.log.count(&[LISTENING, "(listener front)"]), 1);
}

#[test]
fn an_added_listener_on_any_free_port_is_not_taken_for_another_one() {
    let a = Named::new("A");
    let config = Config::new().backend(a.address());
    let weir = Weir::start(&config);
    weir.reload(config.listen("side", "127.0.0.1:0"));
    let mut client = Peer::connect(weir.address_of("side")).expect("weir listens");
    assert_eq!(ask(&mut client), "A");
}

#[test]
fn a_removed_listener_closes_and_its_sessions_go_on() {
    let a = Named::new("A");
    let config = Config::new().backend(a.address());
    let weir = Weir::start(config.clone().listen("side", "127.0.0.2:0"));
    let side = weir.address_of("side");
    let mut held = Peer::connect(side).expect("weir listens");
    ask(&mut held);
    weir.reload(config);
    wait_closed(side);
    held.send("still here");
    held.expect("still here");
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn clients_that_wait_on_a_removed_listener_are_served() {
    let a = Named::new("A");
    let config = Config::new().backend(a.address());
    let weir = Weir::start(config.clone().listen("side", "127.0.0.2:0"));
    let side = weir.address_of("side");
    weir.freeze();
    let mut waiting: Vec<Peer> = (0..20)
        .map(|_| Peer::connect(side).expect("the kernel accepts"))
        .collect();
    weir.write_config(config);
    weir.signal(Signal::HUP);
    weir.thaw();
    for client in &mut waiting {
        assert_eq!(ask(client), "A");
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let [a, b] = ["A", "B"].map(Named::new);
    let good = Config::new().backend(a.address());
    let mut weir = Weir::start(&good);
    let load = Load::start(weir.address(), 2);
    let bad = [
        Config::new().backend_with(b.address(), "weight: 70000"),
        Config::new().backend_with(b.address(), "wieght: 1"),
        Config::new().top("surprise: 1").backend(b.address()),
        Config::new(),
    ];
    for config in bad {
        let mark = weir.log.mark();
        weir.write_config(config);
        weir.signal(Signal::HUP);
        let line = weir.log.wait_since(mark, &["weir.yaml:"]);
        let (_, place) = line.split_once("weir.yaml:").expect("it holds it");
        let numbers = place.splitn(3, ':').take(2);
        for number in numbers {
            assert!(number.parse::<u32>().is_ok(), "no line and column: {line}");
        }
        load.wait_more(20);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(b.asked(), 0);
    assert!(weir.runs());
    weir.reload(Config::new().backend(b.address()));
    assert_eq!(ask(&mut weir.connect()), "B");
}

#[test]
fn a_file_that_has_gone_changes_nothing() {
    let a = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(a.address()));
    std::fs::remove_file(weir.file()).expect("the file is ours");
    let mark = weir.log.mark();
    weir.signal(Signal::HUP);
    weir.log.wait_since(mark, &["weir.yaml"]);
    assert_eq!(ask(&mut weir.connect()), "A");
    assert!(weir.runs());
}

#[test]
fn a_new_listener_that_cannot_be_bound_changes_nothing() {
    let [a, b] = ["A", "B"].map(Named::new);
    let mut weir = Weir::start(Config::new().backend(a.address()));
    let taken = Gate::new();
    let config = Config::new()
        .listen("side", &taken.name())
        .backend(b.address());
    let mark = weir.log.mark();
    weir.write_config(config);
    weir.signal(Signal::HUP);
    weir.log.wait_since(mark, &[&taken.name(), "in use"]);
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "A");
    }
    assert!(weir.runs());
}

#[test]
fn a_session_under_way_is_not_touched_by_any_reload() {
    let gate = Gate::new();
    let other = Named::new("B");
    let weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    let mut backend = gate.accept();
    let length = 16 * 1024 * 1024;
    let sender = std::thread::spawn(move || {
        backend.send_pattern(9, length);
        backend.finish();
        backend.expect_end();
    });
    weir.reload(Config::new().backend(other.address()));
    weir.reload(Config::new().backend(gate.name()).backend(other.address()));
    client.expect_pattern(9, length);
    client.expect_end();
    client.finish();
    sender.join().expect("all of it is sent");
}

#[test]
fn a_burst_of_reloads_ends_with_the_last_file() {
    let [a, b] = ["A", "B"].map(Named::new);
    let mut weir = Weir::start(Config::new().backend(a.address()));
    let load = Load::start(weir.address(), 2);
    for _ in 0..50 {
        weir.signal(Signal::HUP);
    }
    weir.write_config(Config::new().backend(b.address()));
    weir.signal(Signal::HUP);
    eventually("the last file is in use", || {
        (ask(&mut weir.connect()) == "B").then_some(())
    });
    load.wait_more(20);
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(weir.runs());
}

#[test]
fn a_stop_during_a_reload_is_heeded() {
    let a = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(a.address()));
    weir.freeze();
    weir.signal(Signal::HUP);
    weir.signal(Signal::TERM);
    weir.thaw();
    assert_eq!(weir.wait_exit(), Some(0));
}
