//! Boards that are attached to one memory in one process are as many workers.

use std::fmt::Debug;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::cells::{CELLS_MAX, RowCell};
use super::directory::BoardFull;
use super::*;
use crate::core::access_log::Why;
use crate::core::handshake::Handshake;
use crate::core::http::oddity::Oddity;
use crate::core::lease::Term;
use crate::core::time::Tick;

fn private() -> Board {
    Board::private().expect("memory")
}

/// A supervisor and so many workers, in rows 1 and up.
fn machine(workers: usize) -> (Board, Vec<Board>, OwnedFd) {
    let (memory, fd) = Mapping::create(words_within(None)).expect("memory");
    let supervisor = Board::create(memory, 100);
    let attached = (1..=workers).map(|row| worker(&fd, row)).collect();
    (supervisor, attached, fd)
}

fn worker(fd: &OwnedFd, row: usize) -> Board {
    let memory = Mapping::attach(fd.as_fd()).expect("the same memory");
    let pid = 100 + u32::try_from(row).expect("small");
    Board::attach(memory, row, pid).expect("a board")
}

/// Names of one table.
fn of<const N: usize>(table: Table, names: [&str; N]) -> [(Table, String); N] {
    names.map(|name| (table, name.to_owned()))
}

fn backends<const N: usize>(names: [&str; N]) -> [(Table, String); N] {
    of(Table::Backends, names)
}

fn listeners<const N: usize>(names: [&str; N]) -> [(Table, String); N] {
    of(Table::Listeners, names)
}

/// Opens the name in every board.
fn open<K: Counted + PartialEq + Debug>(boards: &mut [Board], name: &str) -> Column<K> {
    let columns: Vec<_> = boards.iter_mut().map(|board| board.open(name)).collect();
    assert!(columns.iter().all(|&column| column == columns[0]));
    columns[0]
}

#[test]
fn a_private_column_given_back_is_zero_for_its_next_owner() {
    let mut board = private();
    let (one, other) = (board.open::<CountedListeners>("one"), board.open("other"));
    board.set(one, ListenerCell::Active, 2);
    board.add(one, ListenerCell::Accepted, 3);
    board.add(other, ListenerCell::Accepted, 4);
    board.close(one);
    let next = board.open("next");
    assert_eq!(next, one);
    assert_eq!(board.get(next, ListenerCell::Accepted), 0);
    assert_eq!(board.get(next, ListenerCell::Active), 0);
    assert_eq!(board.total(other, ListenerCell::Accepted), 4);
}

#[test]
fn a_process_on_its_own_has_all_that_several_share() {
    let mut board = private();
    let (upstream, backend) = (
        board.open::<CountedUpstreams>("a"),
        board.open::<CountedBackends>("a/1"),
    );
    board.publish(&backends(["x"])).expect("nothing is to do");
    assert_eq!(board.find::<CountedBackends>("x"), None);
    assert!(!board.is_shared() && backend.is_listed());
    assert_eq!(board.find("a/1"), Some(backend));
    board
        .word(upstream, UpstreamWord::Turns)
        .store(3, Ordering::Relaxed);
    board.set_draining(backend, true);
    board.set_draining(backend, true);
    assert!(board.is_draining(backend));
    assert_eq!(board.changes(), 1);
    board.count_oddity(Oddity::FoldedLine);
    board.set_lines_lost(2);
    board.set_sessions(5);
    assert_eq!(
        (board.oddities(Oddity::FoldedLine), board.lines_lost()),
        (1, 2)
    );
    assert_eq!((board.sessions_elsewhere(), board.row(0).sessions), (0, 5));
    assert!(!board.is_anyone_staying(|_| true));
    board.close(backend);
    board.close(upstream);
    let (upstream, backend) = (
        board.open::<CountedUpstreams>("a"),
        board.open::<CountedBackends>("a/1"),
    );
    assert!(
        !board.is_draining(backend),
        "whoever comes back does not drain"
    );
    let turns = board.word(upstream, UpstreamWord::Turns);
    assert_eq!(turns.load(Ordering::Relaxed), 0);
}

#[test]
fn a_name_that_is_opened_twice_in_a_process_on_its_own_is_counted_apart() {
    let mut board = private();
    let (before, now) = (board.open::<CountedBackends>("a/1"), board.open("a/1"));
    board.add(before, BackendCell::Picks, 1);
    assert_eq!(board.total(now, BackendCell::Picks), 0);
}

#[test]
fn a_board_of_one_process_grows_and_keeps_everything() {
    let mut board = private();
    let mut columns = Vec::new();
    board.count_oddity(Oddity::EmptyLine);
    for n in 0..2_000 {
        let (upstream, backend) = (
            board.open::<CountedUpstreams>("u"),
            board.open::<CountedBackends>("b"),
        );
        board.add(backend, BackendCell::Picks, n);
        board.record_ms(upstream, Span::Total, n);
        board
            .word(backend, BackendWord::Finding)
            .store(n, Ordering::Relaxed);
        columns.push((upstream, backend));
    }
    for (n, (upstream, backend)) in (0..).zip(&columns) {
        assert!(backend.is_listed());
        assert_eq!(board.total(*backend, BackendCell::Picks), n);
        assert_eq!(board.histogram(*upstream, Span::Total).sum_ms, n);
        assert_eq!(
            board
                .word(*backend, BackendWord::Finding)
                .load(Ordering::Relaxed),
            n
        );
    }
    assert_eq!(board.oddities(Oddity::EmptyLine), 1);
    let words = board.words().len();
    for (upstream, backend) in columns {
        board.close(upstream);
        board.close(backend);
    }
    for n in 0..4_000 {
        assert!(board.open::<CountedBackends>("again").is_listed(), "{n}");
    }
    assert_eq!(board.words().len(), words, "what is free is used first");
}

#[test]
fn a_board_of_one_process_reserves_few_pages() {
    let board = private();
    let rings = board.layout.ring_size().words();
    assert!((board.words().len() - rings) * 8 <= 16 * 1024);
}

#[test]
fn a_gauge_goes_up_and_down() {
    let mut board = private();
    let column = board.open("one");
    board.add(column, BackendCell::Active, 2);
    board.sub(column, BackendCell::Active, 1);
    assert_eq!(board.get(column, BackendCell::Active), 1);
    assert_eq!(board.elsewhere(column, BackendCell::Active), 0);
}

#[test]
fn what_each_has_found_for_itself_is_read_as_the_largest() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor
        .publish(&backends(["backend a/1"]))
        .expect("room");
    let column = open(&mut workers, "backend a/1");
    assert_eq!(supervisor.largest(column, BackendCell::IdleLimit), 0);
    workers[0].set(column, BackendCell::IdleLimit, 2_000);
    workers[2].set(column, BackendCell::IdleLimit, 2_010);
    assert_eq!(supervisor.largest(column, BackendCell::IdleLimit), 2_010);
    assert_eq!(workers[1].largest(column, BackendCell::IdleLimit), 2_010);
    let mut alone = private();
    let column = alone.open("backend a/1");
    alone.set(column, BackendCell::IdleLimit, 5);
    assert_eq!(alone.largest(column, BackendCell::IdleLimit), 5);
}

#[test]
fn every_worker_writes_its_own_cell_and_reads_the_sum() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor
        .publish(&backends(["backend a/1"]))
        .expect("room");
    let column = open(&mut workers, "backend a/1");
    for (count, board) in (1..).zip(&workers) {
        board.add(column, BackendCell::Active, count);
        board.set_sessions(10 * usize::try_from(count).expect("small"));
    }
    assert_eq!(workers[1].get(column, BackendCell::Active), 2);
    assert_eq!(workers[1].elsewhere(column, BackendCell::Active), 4);
    assert_eq!(workers[1].sessions_elsewhere(), 40);
    assert_eq!(supervisor.total(column, BackendCell::Active), 6);
    assert_eq!(supervisor.find("backend a/1"), Some(column));
}

#[test]
fn what_a_dead_worker_counted_stays_and_its_gauges_go() {
    let (supervisor, mut workers, fd) = machine(2);
    supervisor
        .publish(&backends(["backend a/1", "x"]))
        .expect("room");
    let column = open(&mut workers, "backend a/1");
    for board in &workers {
        board.add(column, BackendCell::Picks, 5);
        board.add(column, BackendCell::Active, 2);
        board.set(column, BackendCell::Up, 1);
        board.set_sessions(2);
        board.set_lines_lost(4);
        board.count_oddity(Oddity::FoldedLine);
        board.rest(Tick(77), SOME_USE);
        board.add_busy(3);
        board.set_bounds(Bounds {
            waiting_bytes: 7,
            descriptors: 9,
        });
    }
    let before = workers[1].changes();
    supervisor.bury(1);
    assert_ne!(workers[1].changes(), before, "everybody is asked to look");
    assert_eq!(supervisor.total(column, BackendCell::Picks), 10);
    assert_eq!(supervisor.total(column, BackendCell::Active), 2);
    assert_eq!(supervisor.total(column, BackendCell::Up), 1);
    assert_eq!(workers[1].sessions_elsewhere(), 0);
    assert_eq!(supervisor.lines_lost(), 8);
    assert_eq!(supervisor.oddities(Oddity::FoldedLine), 2);
    assert_eq!(supervisor.oddities(Oddity::EmptyLine), 0);
    let incarnation = workers[0].holder().incarnation;
    assert_eq!(
        supervisor.row(1),
        RowState {
            incarnation,
            ..RowState::default()
        }
    );
    let mut successor = worker(&fd, 1);
    assert_eq!(successor.holder().incarnation, incarnation + 1);
    let again = successor.open("backend a/1");
    assert_eq!(successor.get(again, BackendCell::Picks), 0);
    assert_eq!(successor.total(again, BackendCell::Picks), 10);
    successor.set_lines_lost(1);
    supervisor.bury(1);
    supervisor.bury(1);
    assert_eq!(supervisor.lines_lost(), 9);
    successor.count_oddity(Oddity::FoldedLine);
    assert_eq!(successor.oddities(Oddity::FoldedLine), 3);
    assert_eq!(supervisor.total(column, BackendCell::Picks), 10);
}

#[test]
fn what_moves_is_not_taken_for_less_or_more() {
    let (supervisor, workers, fd) = machine(1);
    let names = backends(["a/1", "b/1", "c/1"]);
    supervisor.publish(&names).expect("room");
    drop(workers);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let look = || {
        let memory = Mapping::attach(fd.as_fd()).expect("the same memory");
        let reader = Board::observe(memory).expect("a board");
        let column: BackendColumn = reader.find("c/1").expect("listed");
        let mut last = 0;
        while !is_over.load(Ordering::Acquire) {
            let moves = reader.moves();
            let total = reader.total(column, BackendCell::Picks);
            if moves.is_multiple_of(2) && reader.is_unmoved(moves) {
                assert!((last..=16_000).contains(&total), "{total} after {last}");
                last = total;
            }
        }
        (reader.total(column, BackendCell::Picks), reader.moves())
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(look);
        for _ in 0..2_000 {
            let mut board = worker(&fd, 1);
            let column = board.open("c/1");
            (0..8).for_each(|_| board.add::<CountedBackends>(column, BackendCell::Picks, 1));
            supervisor.bury(1);
        }
        is_over.store(true, Ordering::Release);
        assert_eq!(reader.join().expect("it held"), (16_000, 4_000));
    });
}

#[test]
fn rows_that_nobody_has_are_not_added_up_until_somebody_has_them_again() {
    let (supervisor, mut workers, fd) = machine(3);
    supervisor.publish(&listeners(["a"])).expect("room");
    let column = open(&mut workers, "a");
    workers.iter().for_each(|it| it.set_sessions(1));
    supervisor.limit_rows(2);
    assert_eq!(supervisor.sessions_elsewhere(), 1);
    let mut late = worker(&fd, 3);
    late.open::<CountedListeners>("a");
    late.add(column, ListenerCell::Accepted, 5);
    assert_eq!(supervisor.sessions_elsewhere(), 3);
    assert_eq!(supervisor.total(column, ListenerCell::Accepted), 5);
}

#[test]
fn a_dead_worker_holds_no_lease_and_the_others_keep_theirs() {
    let (supervisor, mut workers, _) = machine(2);
    supervisor.publish(&backends(["a", "b"])).expect("room");
    let columns = [open(&mut workers, "a"), open(&mut workers, "b")];
    for (board, column) in workers.iter().zip(columns) {
        let holder = board.holder();
        let until = Tick(1_000);
        let lease = board.word(column, BackendWord::ProbeLease);
        lease.store(Term { holder, until }.word(), Ordering::Relaxed);
    }
    supervisor.bury(1);
    let lease = |column| {
        let word = supervisor.word(column, BackendWord::ProbeLease);
        Term::read(word.load(Ordering::Relaxed))
    };
    assert_eq!(lease(columns[0]), None);
    assert_eq!(lease(columns[1]).map(|term| term.holder.row), Some(2));
}

const SOME_USE: Usage = Usage {
    connections: 4,
    waiting_bytes: 5,
};

#[test]
fn a_row_tells_how_its_worker_is() {
    let (supervisor, workers, _) = machine(1);
    workers[0].rest(Tick(5), SOME_USE);
    workers[0].set_sessions(3);
    let row = supervisor.row(1);
    assert_eq!((row.pid, row.beat, row.asleep), (101, Tick(5), true));
    assert_eq!((row.sessions, row.incarnation), (3, 1));
    assert_eq!((row.connections, row.waiting_bytes), (4, 5));
    workers[0].wake(Tick(6));
    assert!(!supervisor.row(1).asleep);
    assert_eq!(supervisor.row(0).pid, 100);
    assert_eq!(supervisor.row(ROWS_MAX).pid, 0);
}

#[test]
fn a_name_that_is_not_published_is_told_to_nobody() {
    let (supervisor, mut workers, _) = machine(2);
    let columns = [
        workers[0].open::<CountedBackends>("a"),
        workers[1].open("a"),
    ];
    let published = of(Table::Upstreams, ["a", "b"]);
    supervisor.publish(&published).expect("room");
    let listed = open::<CountedUpstreams>(&mut workers, "a");
    let read = &mut NotesRead::default();
    noted(&workers[1], read);
    assert!(listed.is_listed() && !columns[0].is_listed() && !columns[1].is_listed());
    for (board, column) in workers.iter_mut().zip(columns) {
        board.add(column, BackendCell::Active, 1);
        board.note_load(column);
        board.set_draining(column, true);
        assert_eq!(board.elsewhere(column, BackendCell::Active), 0);
        assert!(!board.is_draining(column));
    }
    assert_eq!(noted(&workers[1], read), Some(vec![]));
    assert_eq!(workers[0].histogram(listed, Span::Total), Histogram::EMPTY);
    for (board, column) in workers.iter_mut().zip(columns) {
        board.close(column);
    }
    assert_eq!(supervisor.find::<CountedBackends>("a"), None);
}

#[test]
fn a_name_keeps_its_column_over_every_publication() {
    let (supervisor, mut workers, _) = machine(1);
    supervisor
        .publish(&listeners(["a", "b", "a"]))
        .expect("room");
    let a = open(&mut workers, "a");
    workers[0].add(a, ListenerCell::Accepted, 1);
    supervisor.publish(&listeners(["c"])).expect("room");
    supervisor.publish(&listeners(["b", "a"])).expect("room");
    assert_eq!(supervisor.find("a"), Some(a));
    assert_eq!(supervisor.total(a, ListenerCell::Accepted), 1);
    let columns =
        ["a", "b", "c"].map(|it| supervisor.find::<CountedListeners>(it).expect("listed"));
    assert!(columns[0] != columns[1] && columns[1] != columns[2] && columns[0] != columns[2]);
}

#[test]
fn a_name_that_was_gone_does_not_drain() {
    let (supervisor, _, _) = machine(0);
    supervisor.publish(&backends(["a", "b"])).expect("room");
    let columns = ["a", "b"].map(|name| supervisor.find(name).expect("listed"));
    let drains = |column| supervisor.is_draining(column);
    for column in columns {
        supervisor.set_draining(column, true);
    }
    supervisor.publish(&backends(["a"])).expect("room");
    supervisor.publish(&backends(["a", "b"])).expect("room");
    assert!(drains(columns[0]) && !drains(columns[1]));
    let before = supervisor.changes();
    supervisor.set_draining(columns[0], true);
    assert_eq!(supervisor.changes(), before, "nothing to look at");
}

/// So many names of backends and of the upstream that each of them has.
fn many(what: &str, names: std::ops::Range<usize>) -> Vec<(Table, String)> {
    let name = |n| match n % 2 {
        0 => (Table::Backends, format!("{what} {n}")),
        _ => (Table::Upstreams, format!("{what} {n}")),
    };
    names.map(name).collect()
}

#[test]
fn the_column_of_a_name_that_is_gone_is_given_away_when_it_is_needed() {
    let (supervisor, mut workers, _) = machine(1);
    supervisor
        .publish(&many("old", 0..NAMES_MAX))
        .expect("just enough");
    let used = open::<CountedUpstreams>(&mut workers, "old 7");
    let unused = supervisor
        .find::<CountedUpstreams>("old 9")
        .expect("listed");
    workers[0].record_ms(used, Span::Total, 1);
    for column in [used, unused] {
        let word = supervisor.word(column, UpstreamWord::Turns);
        word.store(9, Ordering::Relaxed);
    }
    let new = many("new", 1..NAMES_MAX);
    supervisor.publish(&new).expect("all but the one in use");
    assert_eq!(supervisor.find("old 7"), Some(used));
    assert_eq!(supervisor.find::<CountedUpstreams>("old 9"), None);
    let turns = supervisor.word(unused, UpstreamWord::Turns);
    assert_eq!(turns.load(Ordering::Relaxed), 0, "nothing is left behind");
    let more = [&new[..], &backends(["one more"])].concat();
    let full = BoardFull {
        wanted: NAMES_MAX,
        missing: 1,
        names: NAMES_MAX,
        is_for_good: false,
    };
    assert!(full.to_string().contains("first take out"), "{full}");
    assert_eq!(supervisor.publish(&more), Err(full));
    assert_eq!(supervisor.find::<CountedBackends>("one more"), None);
    workers[0].close(used);
    supervisor.publish(&more).expect("room");
    let last = supervisor
        .find::<CountedBackends>("one more")
        .expect("listed");
    assert_eq!(supervisor.total(last, BackendCell::Picks), 0);
    assert_eq!(supervisor.find::<CountedUpstreams>("old 7"), None);
}

#[test]
fn names_that_are_gone_keep_their_columns_while_there_is_room() {
    let (supervisor, _, _) = machine(0);
    supervisor.publish(&many("old", 0..100)).expect("room");
    supervisor
        .publish(&many("new", 0..NAMES_MAX - 100))
        .expect("room");
    assert!(supervisor.find::<CountedBackends>("old 98").is_some());
    supervisor
        .publish(&many("new", 0..NAMES_MAX - 99))
        .expect("room");
    assert!(supervisor.find::<CountedBackends>("old 98").is_none());
    assert!(supervisor.find::<CountedBackends>("new 98").is_some());
}

#[test]
fn columns_of_all_kinds_are_wherever_there_is_room_and_never_overlap() {
    let (supervisor, mut workers, _) = machine(1);
    let mut rng = crate::core::rng::Rng::new(1);
    for round in 0..60 {
        let count = usize::try_from(rng.below(NAMES_MAX as u64)).expect("small");
        let names: Vec<_> = (0..count)
            .map(|n| {
                let table = match rng.below(5) {
                    0 => Table::Listeners,
                    1 => Table::Upstreams,
                    _ => Table::Backends,
                };
                (table, format!("{table:?} {} {n}", rng.below(2)))
            })
            .collect();
        supervisor.publish(&names).expect("room");
        let mut ends = vec![CELLS_MAX];
        let mut locations: Vec<_> = supervisor.all_listed().collect();
        locations.sort_by_key(|location| location.at);
        for location in locations {
            assert!(
                ends.last().is_some_and(|&end| end <= location.at),
                "{round}: {location:?}"
            );
            ends.push(location.at + Width::of(location.table).cells);
        }
        for (table, name) in &names {
            let is_found = match table {
                Table::Listeners => workers[0].open::<CountedListeners>(name).is_listed(),
                Table::Upstreams => supervisor.find::<CountedUpstreams>(name).is_some(),
                Table::Backends => supervisor.find::<CountedBackends>(name).is_some(),
                Table::Routes | Table::Handshakes => unreachable!("none is named"),
            };
            assert!(is_found, "{round}: {name}");
            if *table == Table::Listeners {
                let column = workers[0]
                    .find::<CountedListeners>(name)
                    .expect("it is open");
                workers[0].close(column);
            }
        }
    }
}

#[test]
fn so_many_names_of_any_kind_fit_and_the_limit_is_told() {
    let names = |table, count| -> Vec<_> {
        let twice = (0..count).chain(0..count);
        twice.map(|n: usize| (table, format!("name {n}"))).collect()
    };
    for table in [
        Table::Listeners,
        Table::Backends,
        Table::Routes,
        Table::Handshakes,
    ] {
        assert_eq!(Board::check(&names(table, NAMES_MAX)), Ok(()), "{table:?}");
    }
    let names = names(Table::Backends, NAMES_MAX + 2);
    let never = Board::check(&names).expect_err("too many");
    let words = "4098 listeners, upstreams and backends are more than the 4096 that several";
    assert!(never.to_string().contains(words), "{never}");
    assert!(never.to_string().contains("`workers: 1`"), "{never}");
}

#[test]
fn codes_and_reasons_are_counted_of_listeners_and_routes() {
    let (supervisor, mut workers, _) = machine(2);
    let names = [(Table::Listeners, "a"), (Table::Routes, "a /")];
    supervisor.publish(&names).expect("room");
    let listener = open::<CountedListeners>(&mut workers, "a");
    let route = open::<CountedRoutes>(&mut workers, "a /");
    let codes = [100, 199, 200, 304, 404, 499, 500, 99, 600, 999];
    for (board, code) in workers.iter().cycle().zip(codes) {
        board.add(listener, CodeClass::of(code), 1);
        board.add(route, CodeClass::of(code), 10);
        board.add(listener, Why::NoBackend, 1);
        board.add(route, Why::DrainDeadline, 1);
        board.add(route, RouteCell::Requests, 1);
    }
    supervisor.bury(1);
    let total = |class| {
        (
            supervisor.total(listener, class),
            supervisor.total(route, class),
        )
    };
    assert_eq!(total(CodeClass::Informational), (2, 20));
    assert_eq!(total(CodeClass::Successful), (1, 10));
    assert_eq!(total(CodeClass::Redirection), (1, 10));
    assert_eq!(total(CodeClass::ClientError), (2, 20));
    assert_eq!(total(CodeClass::ServerError), (1, 10));
    assert_eq!(total(CodeClass::Other), (3, 30));
    assert_eq!(supervisor.total(listener, Why::NoBackend), 10);
    assert_eq!(supervisor.total(route, Why::DrainDeadline), 10);
    assert_eq!(supervisor.total(route, RouteCell::Requests), 10);
    assert_eq!(supervisor.total(listener, ListenerCell::Requests), 0);
    assert_eq!(supervisor.total(listener, ListenerCell::Active), 0);
}

#[test]
fn histograms_are_added_up_over_the_living_and_the_dead() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor
        .publish(&of(Table::Upstreams, ["a"]))
        .expect("room");
    let column = open::<CountedUpstreams>(&mut workers, "a");
    for (board, ms) in workers
        .iter()
        .cycle()
        .zip([1, 2, 3, 100, 100, u64::MAX >> 8, 0])
    {
        board.record_ms(column, Span::Connect, ms);
        board.record_ms(column, Span::Total, 2 * ms);
    }
    let read = || Span::ALL.map(|span| supervisor.histogram(column, span));
    let all @ [before, first_byte, total] = &read();
    assert_eq!((before.count(), before.sum_ms), (7, 206 + (u64::MAX >> 8)));
    assert_eq!(before.counts[bucket_of(100)], 2);
    assert_eq!(first_byte, &Histogram::EMPTY);
    assert_eq!((total.count(), total.sum_ms), (7, 2 * before.sum_ms));
    supervisor.bury(1);
    supervisor.bury(3);
    assert_eq!(&read(), all);
    assert_eq!(supervisor.total(column, Raw(0)), before.sum_ms);
}

/// A cell by its place.
#[derive(Clone, Copy)]
struct Raw(usize);

impl<K: Counted> Cell<K> for Raw {
    fn index(self) -> usize {
        self.0
    }
}

#[test]
fn no_two_things_are_counted_in_one_cell() {
    let mut listener: Vec<usize> = (0..=ListenerCell::Requests as usize).collect();
    let mut route = vec![RouteCell::Requests as usize];
    let mut backend: Vec<usize> = (0..=BackendCell::ProbeMs as usize).collect();
    for code in [1, 100, 200, 300, 400, 500] {
        listener.push(Cell::<CountedListeners>::index(CodeClass::of(code)));
        route.push(Cell::<CountedRoutes>::index(CodeClass::of(code)));
        backend.push(Cell::<CountedBackends>::index(CodeClass::of(code)));
    }
    for why in Why::ALL {
        listener.push(Cell::<CountedListeners>::index(why));
        route.push(Cell::<CountedRoutes>::index(why));
    }
    let handshakes = Handshake::ALL
        .map(Cell::<CountedHandshakes>::index)
        .to_vec();
    for (table, mut cells) in [
        (Table::Listeners, listener),
        (Table::Routes, route),
        (Table::Handshakes, handshakes),
    ] {
        cells.sort_unstable();
        let all: Vec<usize> = (0..Width::of(table).first_gauge).collect();
        assert_eq!(cells, all, "{table:?}");
    }
    let active = ListenerCell::Active as usize;
    assert!(Width::of(Table::Listeners).opened() < active);
    assert!(active < Width::of(Table::Listeners).cells);
    backend.sort_unstable();
    assert_eq!(backend, (0..backend.len()).collect::<Vec<_>>());
    assert!(backend.len() <= Width::of(Table::Backends).first_gauge);
    let spans = Span::ALL.map(Timed::<CountedUpstreams>::histogram_at);
    let apart = 1 + Width::of(Table::Upstreams).buckets;
    assert_eq!(spans, [0, apart, 2 * apart]);
    assert_eq!(Width::of(Table::Upstreams).first_gauge, 3 * apart);
    assert!((BackendCell::IdleLimit as usize) < Width::of(Table::Backends).cells);
}

#[test]
fn whoever_reads_the_strides_can_add_up_the_rows() {
    let (supervisor, mut workers, fd) = machine(3);
    supervisor.publish(&many("name", 0..50)).expect("room");
    let column = open::<CountedBackends>(&mut workers, "name 40");
    for (count, board) in (1..).zip(&workers) {
        board.add(column, BackendCell::Retries, count);
    }
    supervisor.bury(2);
    let memory = Mapping::attach(fd.as_fd()).expect("the same memory");
    let read = |at: usize| memory.words()[at].load(Ordering::Relaxed);
    let stride = |at: usize| usize::try_from(read(16 + at)).expect("small");
    let [
        hashes_at,
        locations_at,
        _,
        names,
        _,
        rows_at,
        rows,
        row_words,
        cells_at,
    ] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(stride);
    let hash = directory::hash(Table::Backends, "name 40");
    let number = (0..names)
        .find(|number| read(hashes_at + number) == hash)
        .expect("listed");
    let location = read(locations_at + number);
    assert_eq!(location >> 32, Table::Backends as u64);
    let at = usize::try_from(location & 0xffff_ffff).expect("small");
    let cells = (0..rows).map(|row| rows_at + row * row_words + cells_at + at);
    let sum: u64 = cells
        .map(|cell| read(cell + BackendCell::Retries as usize))
        .sum();
    assert_eq!(sum, 6);
    let table = 32 + 4 * Table::Backends as usize;
    assert_eq!((read(table), read(table + 1)), (24, 20));
}

#[test]
fn a_board_of_another_size_is_used_as_its_header_says() {
    let layout = Layout::of(10, 4, 1_000);
    let (memory, fd) = Mapping::create(layout.words()).expect("memory");
    layout.write(memory.words());
    let attach = |row| Board::attach(Mapping::attach(fd.as_fd()).expect("memory"), row, 1);
    let (supervisor, mut worker) = (attach(0).expect("a board"), attach(3).expect("a board"));
    assert_eq!(attach(4).err(), Some(Unfit::Row));
    supervisor.publish(&many("a", 0..10)).expect("room");
    let column = worker.open::<CountedUpstreams>("a 9");
    worker.record_ms(column, Span::Total, 5);
    assert_eq!(supervisor.histogram(column, Span::Total).sum_ms, 5);
    let full = supervisor.publish(&many("a", 0..11)).expect_err("too many");
    assert!(full.is_for_good && full.missing == 1, "{full}");
}

#[test]
fn a_column_that_is_open_twice_is_closed_with_the_second() {
    let (supervisor, mut workers, _) = machine(1);
    supervisor.publish(&backends(["a"])).expect("room");
    let (one, two) = (workers[0].open("a"), workers[0].open("a"));
    assert_eq!(one, two);
    workers[0].add(one, BackendCell::Picks, 4);
    workers[0].add(one, BackendCell::Active, 1);
    workers[0].close(two);
    assert_eq!(workers[0].get(one, BackendCell::Active), 1);
    workers[0].close(one);
    assert_eq!(supervisor.total(one, BackendCell::Active), 0);
    assert_eq!(supervisor.total(one, BackendCell::Picks), 4);
}

#[test]
fn memory_that_is_no_board_of_this_version_is_refused() {
    let (memory, fd) = Mapping::create(words_within(None)).expect("memory");
    let attach = |row| {
        let memory = Mapping::attach(fd.as_fd()).expect("the same memory");
        Board::attach(memory, row, 1).err()
    };
    assert_eq!(attach(1), Some(Unfit::NoBoard));
    let _ = Board::create(memory, 1);
    assert_eq!(attach(1), None);
    assert_eq!(attach(ROWS_MAX), Some(Unfit::Row));
    let other = Mapping::attach(fd.as_fd()).expect("the same memory");
    for at in [3, 6, 9, 12] {
        let stride = &other.words()[16 + at];
        let before = stride.swap(u64::MAX, Ordering::Relaxed);
        assert_eq!(attach(1), Some(Unfit::NoBoard), "stride {at}");
        stride.store(before, Ordering::Relaxed);
    }
    other.words()[VERSION_AT].store(VERSION + 1, Ordering::Relaxed);
    assert_eq!(attach(1), Some(Unfit::Version(VERSION + 1)));
    for words in [1, 100, 10_000] {
        let (short, fd) = Mapping::create(words).expect("memory");
        for (to, from) in short.words().iter().zip(other.words()) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if let Some(version) = short.words().get(VERSION_AT) {
            version.store(VERSION, Ordering::Relaxed);
        }
        let memory = Mapping::attach(fd.as_fd()).expect("the same memory");
        assert!(Board::attach(memory, 1, 1).is_err(), "{words}");
    }
}

#[test]
fn a_board_is_smaller_where_addresses_are_few() {
    let sizes = |bytes| {
        let (memory, _fd) = Mapping::create(words_within(bytes)).expect("memory");
        let board = Board::create(memory, 1);
        (board.names(), board.rows())
    };
    assert_eq!(sizes(None), (NAMES_MAX, ROWS_MAX));
    assert_eq!(sizes(Some(1 << 40)), (NAMES_MAX, ROWS_MAX));
    assert_eq!(sizes(Some(256 << 20)), (1024, 64));
    assert_eq!(sizes(Some(16_000 << 10)), (128, 32));
    assert_eq!(sizes(Some(0)), (128, 32));
    // Addresses of 32 bits are few, limited or not.
    assert_eq!(words_of(None, 32), words_within(Some(1 << 31)));
    assert_eq!(words_of(Some(256 << 20), 32), words_within(Some(256 << 20)));
    let least = words_within(Some(0));
    assert!(least * 8 < 6 * 1024 * 1024, "{least} words");
}

#[test]
fn a_board_takes_memory_for_what_is_used_only() {
    let (supervisor, mut workers, fd) = machine(8);
    let names: Vec<_> = (0..20)
        .map(|n| (Table::Backends, format!("name {n}")))
        .collect();
    supervisor.publish(&names).expect("room");
    for (_, name) in &names {
        let column = open(&mut workers, name);
        workers
            .iter()
            .for_each(|board| board.add(column, BackendCell::Picks, 1));
    }
    (1..=8).for_each(|row| supervisor.bury(row));
    let column = supervisor.find("name 19").expect("listed");
    assert_eq!(supervisor.total(column, BackendCell::Picks), 8);
    let file = std::fs::File::from(fd);
    let blocks = file.metadata().expect("known").blocks();
    let bytes_max = 16 * 1024 + 9 * 16 * 1024 + 64 * 1024;
    assert!(blocks * 512 <= bytes_max, "{blocks} blocks");
}

/// The columns in which changes were noted since the last time, by number; none when that cannot
/// be told.
fn noted(board: &Board, read: &mut NotesRead) -> Option<Vec<usize>> {
    let mut columns = Vec::new();
    let is_known = board.read_notes(read, &mut columns);
    is_known.then_some(columns)
}

#[test]
fn loads_that_others_change_are_heard_of_once_by_each() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor.publish(&backends(["a", "b"])).expect("room");
    let (a, b) = (open(&mut workers, "a"), open(&mut workers, "b"));
    let mut reads = [(); 3].map(|()| NotesRead::default());
    for (board, read) in workers.iter().zip(&mut reads) {
        noted(board, read);
    }
    workers[0].note_load(b);
    workers[1].note_load(a);
    workers[1].note_load(b);
    let [one, two, three] = &mut reads;
    assert_eq!(noted(&workers[0], one), Some(vec![a.number(), b.number()]));
    assert_eq!(noted(&workers[0], one), Some(vec![]));
    assert_eq!(noted(&workers[1], two), Some(vec![b.number()]));
    workers[0].note_load(a);
    assert_eq!(
        noted(&workers[2], three),
        Some(vec![b.number(), a.number(), a.number(), b.number()])
    );
}

#[test]
fn who_is_too_slow_for_the_notes_is_told_so_and_reads_on() {
    let (supervisor, mut workers, _) = machine(2);
    let names: Vec<_> = (0..20)
        .map(|n| (Table::Backends, format!("name {n}")))
        .collect();
    supervisor.publish(&names).expect("room");
    let columns: Vec<_> = names.iter().map(|(_, it)| open(&mut workers, it)).collect();
    let mut read = NotesRead::default();
    noted(&workers[0], &mut read);
    let mut write = |count: usize| {
        let notes = columns.iter().cycle().take(count);
        notes.for_each(|column| workers[1].note_load(*column));
        noted(&workers[0], &mut read)
    };
    for count in [1, 7, 1_000, 1_023] {
        let expected: Vec<_> = columns
            .iter()
            .cycle()
            .take(count)
            .map(|it| it.number())
            .collect();
        assert_eq!(write(count), Some(expected), "{count}");
    }
    for count in [1_024, 3_000] {
        assert_eq!(write(count), None, "{count}");
        assert_eq!(
            write(2),
            Some(vec![columns[0].number(), columns[1].number()])
        );
    }
}

#[test]
fn loads_of_a_worker_that_notes_none_are_never_known() {
    let (supervisor, workers, _) = machine(2);
    let mut read = NotesRead::default();
    noted(&workers[0], &mut read);
    assert_eq!(noted(&workers[0], &mut read), Some(vec![]));
    supervisor
        .head(2, RowCell::LoadNotes)
        .store(0, Ordering::Relaxed);
    assert_eq!(noted(&workers[0], &mut read), None);
    assert_eq!(noted(&workers[0], &mut read), None);
    supervisor.bury(2);
    assert_eq!(noted(&workers[0], &mut read), Some(vec![]), "it has gone");
}

#[test]
fn the_first_round_of_checks_is_over_once_for_all() {
    let (supervisor, workers, _fd) = machine(2);
    let is_over = |now| supervisor.is_first_round_over(Tick(now));
    assert!(!is_over(u64::MAX), "it has not begun");
    workers[0].begin_first_round(Tick(10_000));
    workers[1].begin_first_round(Tick(20_000));
    assert_eq!([9_999, 10_000].map(is_over), [false, true]);
    workers[1].end_first_round();
    assert!(is_over(0));
    // Of a worker that comes later.
    workers[0].begin_first_round(Tick(30_000));
    assert!(is_over(0));
}
