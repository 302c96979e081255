//! Boards that are attached to one memory in one process are as many workers.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::*;

/// A supervisor and so many workers, in rows 1 and up.
fn machine(workers: usize) -> (Board, Vec<Board>, OwnedFd) {
    let (memory, fd) = Mapping::create(WORDS).expect("memory");
    let supervisor = Board::create(memory, 100);
    let attached = (1..=workers).map(|row| worker(&fd, row)).collect();
    (supervisor, attached, fd)
}

fn worker(fd: &OwnedFd, row: usize) -> Board {
    let memory = Mapping::attach(fd.as_fd(), WORDS).expect("the same memory");
    let pid = 100 + u32::try_from(row).expect("small");
    Board::attach(memory, row, pid).expect("a board")
}

/// Opens the name in every board.
fn open(boards: &mut [Board], name: &str) -> Column {
    let columns: Vec<_> = boards.iter_mut().map(|board| board.open(name)).collect();
    assert!(columns.iter().all(|&column| column == columns[0]));
    columns[0]
}

#[test]
fn a_private_column_given_back_is_zero_for_its_next_owner() {
    let mut board = Board::private();
    let (one, other) = (board.open("one"), board.open("other"));
    board.add(one, ListenerCell::Accepted, 3);
    board.add(other, ListenerCell::Accepted, 4);
    board.close(one);
    let next = board.open("next");
    assert_eq!(next, one);
    assert_eq!(board.get(next, ListenerCell::Accepted), 0);
    assert_eq!(board.total(other, ListenerCell::Accepted), 4);
    assert!(!next.is_shared() && board.word(next, SharedCell::Turns).is_none());
    board.touch();
    assert_eq!((board.changes(), board.holder()), (0, None));
}

#[test]
fn a_gauge_goes_up_and_down() {
    let mut board = Board::private();
    let column = board.open("one");
    board.add(column, BackendCell::Active, 2);
    board.sub(column, BackendCell::Active, 1);
    assert_eq!(board.get(column, BackendCell::Active), 1);
    assert_eq!(board.elsewhere(column, BackendCell::Active), 0);
}

#[test]
fn what_each_has_found_for_itself_is_read_as_the_largest() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor.publish(&["backend a/1"]).expect("room");
    let column = open(&mut workers, "backend a/1");
    assert_eq!(supervisor.largest(column, BackendCell::IdleLimit), 0);
    workers[0].set(column, BackendCell::IdleLimit, 2_000);
    workers[2].set(column, BackendCell::IdleLimit, 2_010);
    assert_eq!(supervisor.largest(column, BackendCell::IdleLimit), 2_010);
    assert_eq!(workers[1].largest(column, BackendCell::IdleLimit), 2_010);
    let mut alone = Board::private();
    let column = alone.open("backend a/1");
    alone.set(column, BackendCell::IdleLimit, 5);
    assert_eq!(alone.largest(column, BackendCell::IdleLimit), 5);
}

#[test]
fn every_worker_writes_its_own_cell_and_reads_the_sum() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor.publish(&["backend a/1"]).expect("room");
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
    supervisor.publish(&["backend a/1", "x"]).expect("room");
    let column = open(&mut workers, "backend a/1");
    for board in &workers {
        board.add(column, BackendCell::Picks, 5);
        board.add(column, BackendCell::Active, 2);
        board.set(column, BackendCell::Up, 1);
        board.set_sessions(2);
        board.set_lines_lost(4);
        board.count_oddity(Oddity::FoldedLine);
        board.beat(Tick(77), true);
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
    let incarnation = workers[0].holder().expect("shared").incarnation;
    assert_eq!(
        supervisor.row(1),
        RowState {
            pid: 0,
            incarnation,
            beat: Tick(0),
            asleep: false,
            sessions: 0
        }
    );
    let mut successor = worker(&fd, 1);
    assert_eq!(
        successor.holder().map(|me| me.incarnation),
        Some(incarnation + 1)
    );
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
fn rows_that_nobody_has_are_not_added_up_until_somebody_has_them_again() {
    let (supervisor, mut workers, fd) = machine(3);
    supervisor.publish(&["a"]).expect("room");
    let column = open(&mut workers, "a");
    workers.iter().for_each(|it| it.set_sessions(1));
    supervisor.limit_rows(2);
    assert_eq!(supervisor.sessions_elsewhere(), 1);
    let mut late = worker(&fd, 3);
    late.open("a");
    late.add(column, ListenerCell::Accepted, 5);
    assert_eq!(supervisor.sessions_elsewhere(), 3);
    assert_eq!(supervisor.total(column, ListenerCell::Accepted), 5);
}

#[test]
fn a_dead_worker_holds_no_lease_and_the_others_keep_theirs() {
    let (supervisor, mut workers, _) = machine(2);
    supervisor.publish(&["a", "b"]).expect("room");
    let columns = [open(&mut workers, "a"), open(&mut workers, "b")];
    for (board, column) in workers.iter().zip(columns) {
        let holder = board.holder().expect("shared");
        let until = Tick(1_000);
        let lease = board.word(column, SharedCell::ProbeLease);
        let word = Term { holder, until }.word();
        lease.expect("shared").store(word, Ordering::Relaxed);
    }
    supervisor.bury(1);
    let lease = |column| {
        let word = supervisor.word(column, SharedCell::ProbeLease);
        Term::read(word.expect("shared").load(Ordering::Relaxed))
    };
    assert_eq!(lease(columns[0]), None);
    assert_eq!(lease(columns[1]).map(|term| term.holder.row), Some(2));
}

#[test]
fn a_row_tells_how_its_worker_is() {
    let (supervisor, workers, _) = machine(1);
    workers[0].beat(Tick(5), true);
    workers[0].set_sessions(3);
    let row = supervisor.row(1);
    assert_eq!((row.pid, row.beat, row.asleep), (101, Tick(5), true));
    assert_eq!((row.sessions, row.incarnation), (3, 1));
    workers[0].beat(Tick(6), false);
    assert!(!supervisor.row(1).asleep);
    assert_eq!(supervisor.row(0).pid, 100);
    assert_eq!(supervisor.row(ROWS_MAX).pid, 0);
}

#[test]
fn a_name_that_is_not_published_is_counted_for_oneself() {
    let (supervisor, mut workers, _) = machine(2);
    let columns = [workers[0].open("a"), workers[1].open("a")];
    assert!(columns.iter().all(|column| !column.is_shared()));
    for (board, column) in workers.iter_mut().zip(columns) {
        board.add(column, ListenerCell::Active, 1);
        assert_eq!(board.total(column, ListenerCell::Active), 1);
        assert!(board.word(column, SharedCell::ProbeLease).is_none());
        board.close(column);
    }
    assert_eq!(supervisor.find("a"), None);
}

#[test]
fn a_name_keeps_its_column_over_every_publication() {
    let (supervisor, mut workers, _) = machine(1);
    supervisor.publish(&["a", "b", "a"]).expect("room");
    let a = open(&mut workers, "a");
    workers[0].add(a, ListenerCell::Accepted, 1);
    supervisor.publish(&["c"]).expect("room");
    supervisor.publish(&["b", "a"]).expect("room");
    assert_eq!(supervisor.find("a"), Some(a));
    assert_eq!(supervisor.total(a, ListenerCell::Accepted), 1);
    let columns = ["a", "b", "c"].map(|name| supervisor.find(name).expect("listed"));
    assert!(columns[0] != columns[1] && columns[1] != columns[2] && columns[0] != columns[2]);
}

#[test]
fn a_name_that_was_gone_does_not_drain() {
    let (supervisor, _, _) = machine(0);
    supervisor.publish(&["a", "b"]).expect("room");
    let columns = ["a", "b"].map(|name| supervisor.find(name).expect("listed"));
    let drains = |column| {
        let word = supervisor.word(column, SharedCell::Draining);
        word.expect("shared").load(Ordering::Relaxed) == 1
    };
    for column in columns {
        supervisor.set_draining(column, true);
    }
    supervisor.publish(&["a"]).expect("room");
    supervisor.publish(&["a", "b"]).expect("room");
    assert!(drains(columns[0]) && !drains(columns[1]));
    let before = supervisor.changes();
    supervisor.set_draining(columns[0], true);
    assert_eq!(supervisor.changes(), before, "nothing to look at");
}

#[test]
fn the_column_of_a_name_that_is_gone_is_given_away_when_it_is_needed() {
    let (supervisor, mut workers, _) = machine(1);
    let names: Vec<String> = (0..COLUMNS_MAX).map(|n| format!("old {n}")).collect();
    supervisor.publish(&names).expect("just enough");
    let used = open(&mut workers, "old 7");
    let unused = supervisor.find("old 8").expect("listed");
    workers[0].add(used, ListenerCell::Accepted, 1);
    for (column, cell) in [(used, SharedCell::Turns), (unused, SharedCell::Turns)] {
        let word = supervisor.word(column, cell).expect("shared");
        word.store(9, Ordering::Relaxed);
    }
    let new: Vec<String> = (1..COLUMNS_MAX).map(|n| format!("new {n}")).collect();
    supervisor.publish(&new).expect("all but the one in use");
    assert_eq!(supervisor.find("old 7"), Some(used));
    assert_eq!(supervisor.find("old 8"), None);
    let turns = supervisor.word(unused, SharedCell::Turns).expect("shared");
    assert_eq!(turns.load(Ordering::Relaxed), 0, "nothing is left behind");
    let more = [&new[..], &["one more".to_owned()]].concat();
    let full = BoardFull {
        wanted: COLUMNS_MAX,
        missing: 1,
    };
    assert!(full.to_string().contains("first take out"), "{full}");
    assert_eq!(supervisor.publish(&more), Err(full));
    assert_eq!(supervisor.find("one more"), None);
    assert_eq!(Board::check(COLUMNS_MAX), Ok(()));
    let never = Board::check(COLUMNS_MAX + 1).expect_err("too many");
    assert!(never.to_string().contains("`workers: 1`"), "{never}");
    workers[0].close(used);
    supervisor.publish(&more).expect("room");
    assert_eq!(supervisor.find("one more"), Some(used));
    assert_eq!(supervisor.total(used, ListenerCell::Accepted), 0);
}

#[test]
fn a_column_that_is_open_twice_is_closed_with_the_second() {
    let (supervisor, mut workers, _) = machine(1);
    supervisor.publish(&["a"]).expect("room");
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
    let (memory, fd) = Mapping::create(WORDS).expect("memory");
    let attach = |row| {
        let memory = Mapping::attach(fd.as_fd(), WORDS).expect("the same memory");
        Board::attach(memory, row, 1).err()
    };
    assert_eq!(attach(1), Some(Unfit::NoBoard));
    let _ = Board::create(memory, 1);
    assert_eq!(attach(1), None);
    assert_eq!(attach(ROWS_MAX), Some(Unfit::Row));
    let other = Mapping::attach(fd.as_fd(), WORDS).expect("the same memory");
    other.words()[VERSION_AT].store(VERSION + 1, Ordering::Relaxed);
    assert_eq!(attach(1), Some(Unfit::Version(VERSION + 1)));
    let short = Mapping::create(WORDS - 1).expect("memory").0;
    assert_eq!(Board::attach(short, 1, 1).err(), Some(Unfit::NoBoard));
}

#[test]
fn a_board_takes_memory_for_what_is_used_only() {
    let (supervisor, mut workers, fd) = machine(8);
    let names: Vec<String> = (0..20).map(|n| format!("name {n}")).collect();
    supervisor.publish(&names).expect("room");
    for name in &names {
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
    is_known.then(|| columns.into_iter().map(Column::number).collect())
}

#[test]
fn loads_that_others_change_are_heard_of_once_by_each() {
    let (supervisor, mut workers, _) = machine(3);
    supervisor.publish(&["a", "b"]).expect("room");
    let (a, b) = (open(&mut workers, "a"), open(&mut workers, "b"));
    let mut reads = [(); 3].map(|()| NotesRead::default());
    for (board, read) in workers.iter().zip(&mut reads) {
        noted(board, read);
    }
    workers[0].note_load(b);
    workers[1].note_load(a);
    workers[1].note_load(b);
    let [one, two, three] = &mut reads;
    assert_eq!(noted(&workers[0], one), Some(vec![a.0, b.0]));
    assert_eq!(noted(&workers[0], one), Some(vec![]));
    assert_eq!(noted(&workers[1], two), Some(vec![b.0]));
    workers[0].note_load(a);
    assert_eq!(noted(&workers[2], three), Some(vec![b.0, a.0, a.0, b.0]));
}

#[test]
fn who_is_too_slow_for_the_notes_is_told_so_and_reads_on() {
    let (supervisor, mut workers, _) = machine(2);
    let names: Vec<_> = (0..20).map(|n| format!("name {n}")).collect();
    supervisor.publish(&names).expect("room");
    let columns: Vec<_> = names.iter().map(|it| open(&mut workers, it)).collect();
    let mut read = NotesRead::default();
    noted(&workers[0], &mut read);
    let mut write = |count: usize| {
        let notes = columns.iter().cycle().take(count);
        notes.for_each(|column| workers[1].note_load(*column));
        noted(&workers[0], &mut read)
    };
    for count in [1, 7, 1_000, 1_023] {
        let expected: Vec<_> = columns.iter().cycle().take(count).map(|it| it.0).collect();
        assert_eq!(write(count), Some(expected), "{count}");
    }
    for count in [1_024, 3_000] {
        assert_eq!(write(count), None, "{count}");
        assert_eq!(write(2), Some(vec![columns[0].0, columns[1].0]));
    }
}

#[test]
fn loads_of_a_worker_that_notes_none_are_never_known() {
    let (supervisor, workers, _) = machine(2);
    let mut read = NotesRead::default();
    noted(&workers[0], &mut read);
    assert_eq!(noted(&workers[0], &mut read), Some(vec![]));
    let shared = supervisor.shared.as_ref().expect("shared");
    shared
        .head(2, RowCell::LoadNotes)
        .store(0, Ordering::Relaxed);
    assert_eq!(noted(&workers[0], &mut read), None);
    assert_eq!(noted(&workers[0], &mut read), None);
    supervisor.bury(2);
    assert_eq!(noted(&workers[0], &mut read), Some(vec![]), "it has gone");
}
