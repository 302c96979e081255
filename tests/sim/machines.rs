//! Machines drawn from seeds: workers that are killed between any two turns or stand still for
//! longer than a lease lasts, reloads, drains, backends that come and go. `WEIR_SIM_SEEDS` says
//! how many, `WEIR_SIM_SEED` replays one.

use std::fmt::Write as _;

use weir::board::{BackendCell, ListenerCell};
use weir::core::time::Tick;

use crate::machine::{Life, Machine, Slot};
use crate::net::{Behaviour, PeerId, Settings};
use crate::replay::{each_seed, told};
use crate::rig::{LISTENER, origin_address};
use crate::scenario::Draw;

const SEEDS: u64 = 300;
const STEPS: u64 = 400;
const BACKENDS_MAX: usize = 4;

/// Shorter than any lease outlasts its renewal, so that only who stands still loses one.
const STEP_MS_MAX: u64 = 40;
const JUMP_MS_MAX: u64 = 2_000;

/// Seconds in which even the longest queue has been served.
const QUEUE_ROUNDS_MAX: u32 = 300;

/// From one probe of a backend to the next, whoever dies: the interval with its jitter, how late
/// the holder of the lease may be, and how far apart those who wait for it look.
const PROBE_GAP_MS_MAX: u64 = 1_200 + 10;

#[test]
fn machines() {
    each_seed(SEEDS, 1, |seed| told(seed, || Play::new(seed).run()));
}

/// The configuration, as far as it varies.
#[derive(Clone, Debug)]
struct Setup {
    algorithm: &'static str,
    /// Number of each backend, which makes its address, and its weight.
    backends: Vec<(usize, u32)>,
    backend_limit: Option<u64>,
    limit: Option<u64>,
    has_check: bool,
}

impl Setup {
    fn draw(draw: &mut Draw, is_peaceful: bool) -> Self {
        let algorithms = ["round_robin", "least_conn", "random_two", "ip_hash"];
        let has_limits = !is_peaceful && draw.chance(50);
        Self {
            algorithm: if is_peaceful {
                "round_robin"
            } else {
                draw.one(&algorithms)
            },
            backends: Self::draw_backends(draw, is_peaceful),
            backend_limit: has_limits.then(|| draw.within(1, 4)),
            limit: (has_limits && draw.chance(50)).then(|| draw.within(3, 12)),
            has_check: draw.chance(80),
        }
    }

    /// At least the first, at peace at least two.
    fn draw_backends(draw: &mut Draw, is_peaceful: bool) -> Vec<(usize, u32)> {
        let mut backends = Vec::new();
        for number in 0..BACKENDS_MAX {
            let weight = u32::try_from(draw.within(1, 6)).expect("small");
            if number == 0 || (is_peaceful && number == 1) || draw.chance(60) {
                backends.push((number, weight));
            }
        }
        backends
    }

    fn text(&self) -> String {
        let mut text = format!(
            "listen: \"10.9.9.9:80\"\nname: {LISTENER}\nstats_interval: 0\n\
             algorithm: {}\ntimeouts: {{connect: 300ms, idle: 5s, half_closed: 2s}}\n\
             passive: {{failures: 2, eject: 1s, eject_max: 2s}}\n",
            self.algorithm
        );
        if self.has_check {
            text += "health_check: {interval: 1s, fast_interval: 500ms, timeout: 400ms, fall: 2}\n";
        }
        if let Some(limit) = self.limit {
            let _ = writeln!(text, "max_connections: {limit}");
        }
        text += "backends:\n";
        for (number, weight) in &self.backends {
            let address = crate::rig::origin(*number);
            let _ = write!(text, "  - {{address: \"{address}\", weight: {weight}");
            if let Some(limit) = self.backend_limit {
                let _ = write!(text, ", max_connections: {limit}");
            }
            text += "}\n";
        }
        text
    }
}

/// What is to happen to the worker of a slot, and since when it has run.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    wakes: Option<Tick>,
    buried: Option<Tick>,
    starts: Option<Tick>,
    awake_since: Tick,
}

struct Play {
    draw: Draw,
    machine: Machine,
    setup: Setup,
    /// Nobody dies and nothing is refused: shares are exact.
    is_peaceful: bool,
    fates: Vec<Fate>,
    /// Those who are left to end, and all that ever came.
    clients: Vec<PeerId>,
    all_clients: Vec<PeerId>,
    /// When all of them last stood still, which is when they begin to be late anew.
    stood_still_at: Tick,
    reloaded_at: Tick,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let is_peaceful = draw.chance(30);
        let setup = Setup::draw(&mut draw, is_peaceful);
        let settings = Settings {
            delay_ms: 0..=20,
            interleave_percent: 20,
            spurious_percent: 10,
            stale_percent: 20,
            aborted_percent: 3,
            ..Settings::plain()
        };
        let workers = draw.size(2, 5);
        let machine = Machine::new(seed, workers, settings, &setup.text());
        let now = machine.now();
        let fate = Fate {
            awake_since: now,
            ..Fate::default()
        };
        Self {
            draw,
            machine,
            setup,
            is_peaceful,
            fates: vec![fate; workers],
            clients: Vec::new(),
            all_clients: Vec::new(),
            stood_still_at: now,
            reloaded_at: now,
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.pass_time();
            self.happen();
            self.turn_all();
            self.check();
        }
        self.end();
    }

    fn pass_time(&mut self) {
        let is_jump = self.draw.chance(2);
        let ms = if is_jump {
            self.draw.within(STEP_MS_MAX, JUMP_MS_MAX)
        } else {
            self.draw.within(0, STEP_MS_MAX)
        };
        self.machine.advance(ms, STEP_MS_MAX);
        if is_jump {
            self.stood_still_at = self.machine.now();
        }
    }

    fn happen(&mut self) {
        self.meet_fates();
        self.move_clients();
        if self.is_peaceful {
            return;
        }
        self.strike();
        if self.draw.chance(3) {
            self.change_a_backend();
        }
        if self.draw.chance(2) {
            self.setup.backends = Setup::draw_backends(&mut self.draw, false);
            self.machine.reload(&self.setup.text());
            self.reloaded_at = self.machine.now();
        }
        if self.draw.chance(2) {
            let k = self.setup.backends[0].0;
            let column = self.machine.backend_column(k);
            let drains = self.draw.chance(30);
            self.machine.board.set_draining(column, drains);
        }
    }

    /// What was decided for the killed and the stopped.
    fn meet_fates(&mut self) {
        let now = self.machine.now();
        let is_due = |at: &mut Option<Tick>| at.is_some_and(|at| at <= now) && at.take().is_some();
        for slot in 0..self.fates.len() {
            if is_due(&mut self.fates[slot].wakes) {
                self.machine.stall(slot, false);
                self.fates[slot].awake_since = now;
            }
            if is_due(&mut self.fates[slot].buried) {
                self.machine.bury(slot);
            }
            let is_empty = matches!(self.machine.slots[slot].life, Life::Gone);
            if is_empty && is_due(&mut self.fates[slot].starts) {
                self.machine.start(slot);
                self.fates[slot].awake_since = now;
            }
        }
    }

    fn move_clients(&mut self) {
        if self.draw.chance(50) {
            let slot = self.draw.size(0, self.fates.len() - 1);
            let listener = self.machine.slots[slot].listener;
            let client = self.machine.world().client_connect(listener);
            self.machine.world().peer_send(client, b"request");
            self.clients.push(client);
            self.all_clients.push(client);
        }
        if self.draw.chance(45) && !self.clients.is_empty() {
            let at = self.draw.size(0, self.clients.len() - 1);
            let client = self.clients.swap_remove(at);
            if self.draw.chance(50) {
                self.machine.world().peer_reset(client);
            } else {
                self.machine.world().peer_close_write(client);
            }
        }
        for k in 0..BACKENDS_MAX {
            for peer in self.machine.accepted(k) {
                if self.draw.chance(20) {
                    self.machine.world().peer_close(peer);
                }
            }
        }
    }

    /// Kills or stops somebody.
    fn strike(&mut self) {
        let slot = self.draw.size(0, self.fates.len() - 1);
        let now = self.machine.now();
        let is_there = matches!(
            self.machine.slots[slot].life,
            Life::Awake(_) | Life::Stalled(_)
        );
        if is_there && self.draw.chance(3) {
            self.machine.kill(slot);
            let buried = now.after_ms(self.draw.within(0, 3_000));
            self.fates[slot].wakes = None;
            self.fates[slot].buried = Some(buried);
            self.fates[slot].starts = Some(buried.after_ms(self.draw.within(0, 500)));
        } else if self.machine.is_awake(slot) && self.draw.chance(3) {
            self.machine.stall(slot, true);
            self.fates[slot].wakes = Some(now.after_ms(self.draw.within(0, 5_000)));
        }
    }

    fn change_a_backend(&mut self) {
        let (k, behaviours) = (
            self.draw.size(0, BACKENDS_MAX - 1),
            [
                Behaviour::Accept,
                Behaviour::Accept,
                Behaviour::Refuse,
                Behaviour::Blackhole,
                Behaviour::AcceptThenReset,
            ],
        );
        let behaviour = self.draw.one(&behaviours);
        let address = origin_address(k);
        self.machine.world().origin_listen(&address, behaviour);
    }

    /// Everybody who can has a turn or two, in any order.
    fn turn_all(&mut self) {
        let mut order = self.machine.awake();
        for last in (1..order.len()).rev() {
            order.swap(last, self.draw.size(0, last));
        }
        for slot in order {
            for _ in 0..self.draw.within(1, 2) {
                self.machine.turn(slot);
            }
        }
    }

    fn check(&self) {
        self.check_accepted();
        if self.setup.has_check {
            self.check_that_probes_go_on();
        }
        if self.is_peaceful {
            self.check_shares();
        }
    }

    /// Counters outlive who counted.
    fn check_accepted(&self) {
        let machine = &self.machine;
        if machine
            .slots
            .iter()
            .any(|slot| matches!(slot.life, Life::Dead))
        {
            return;
        }
        let accepted = machine.world().accepted_clients();
        let counted = machine.listener_total(ListenerCell::Accepted);
        assert_eq!(counted, accepted as u64, "connections accepted");
    }

    /// However many die: as long as somebody lives, a backend is probed in time.
    fn check_that_probes_go_on(&self) {
        let awake = self.machine.awake().into_iter();
        let Some(since) = awake.map(|slot| self.fates[slot].awake_since).min() else {
            return;
        };
        for &(k, _) in &self.setup.backends {
            let from = since.max(self.reloaded_at).max(self.stood_still_at);
            let from = from.max(self.machine.probed_at(k));
            let gap = self.machine.now().since_ms(from);
            let most = PROBE_GAP_MS_MAX + 2 * STEP_MS_MAX;
            assert!(
                gap <= most,
                "backend {k} was not probed for {gap} ms; its lease: {:?}",
                self.machine.lease(k)
            );
        }
    }

    /// The picks of all workers together are those of one.
    fn check_shares(&self) {
        let picks: Vec<u64> = self
            .setup
            .backends
            .iter()
            .map(|&(k, _)| self.machine.total(k, BackendCell::Picks))
            .collect();
        let weights: Vec<i64> = self
            .setup
            .backends
            .iter()
            .map(|it| i64::from(it.1))
            .collect();
        let expected = smooth(&weights, picks.iter().sum());
        assert_eq!(picks, expected, "weights {weights:?}");
    }

    /// Peace: everybody lives, everything works, and all of them know it.
    fn end(&mut self) {
        self.is_peaceful = true;
        for k in 0..BACKENDS_MAX {
            let address = origin_address(k);
            let accepts = Behaviour::Accept;
            self.machine.world().origin_listen(&address, accepts);
        }
        for &(k, _) in &self.setup.backends {
            let column = self.machine.backend_column(k);
            self.machine.board.set_draining(column, false);
        }
        for slot in 0..self.fates.len() {
            self.machine.stall(slot, false);
            if matches!(self.machine.slots[slot].life, Life::Dead) {
                self.machine.bury(slot);
            }
            if matches!(self.machine.slots[slot].life, Life::Gone) {
                self.machine.start(slot);
            }
        }
        for client in std::mem::take(&mut self.all_clients) {
            self.machine.world().peer_reset(client);
        }
        // Behind a low limit those who wait are served a few at a time.
        let rounds = (0..QUEUE_ROUNDS_MAX).find(|_| {
            self.machine.pass(1_000, STEP_MS_MAX);
            let queued = |slot: &Slot| self.machine.world().queued_clients(slot.listener);
            self.machine.slots.iter().map(queued).sum::<usize>() == 0
        });
        assert!(rounds.is_some(), "nobody waits for ever");
        self.machine.pass(12_000, STEP_MS_MAX);
        assert_eq!(self.machine.board.sessions_elsewhere(), 0);
        for slot in 0..self.fates.len() {
            for &(k, _) in &self.setup.backends {
                assert!(self.machine.is_up(slot, k), "backend {k} in worker {slot}");
            }
        }
    }
}

/// How often each member is picked in so many turns of a smooth weighted round robin.
fn smooth(weights: &[i64], turns: u64) -> Vec<u64> {
    let total: i64 = weights.iter().sum();
    let mut standings = vec![0; weights.len()];
    let mut picks = vec![0; weights.len()];
    for _ in 0..turns {
        for (standing, weight) in standings.iter_mut().zip(weights) {
            *standing += weight;
        }
        let richest = standings.iter().max().copied();
        let place = standings.iter().position(|&it| Some(it) == richest);
        let place = place.expect("at least one member");
        standings[place] -= total;
        picks[place] += 1;
    }
    picks
}
