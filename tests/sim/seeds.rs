//! Worlds drawn from seeds. `WEIR_SIM_SEEDS` says how many, `WEIR_SIM_SEED` replays one.

use weir::board::{BackendCell, ListenerCell};
use weir::core::address::Address;
use weir::worker::Stage;

use crate::model::{Model, Peer, is_probe};
use crate::net::Behaviour;
use crate::replay::each_seed;
use crate::rig::Rig;
use crate::scenario::{
    Action, Check, Draw, Finish, Scenario, Setup, backend_address, backend_label,
};

const SEEDS: u64 = 500;

/// Simulated time after which a session that still runs will never end.
const SPAN_MS_MAX: u64 = 2 * 3_600_000;

/// As many turns as no seed needs.
const TURNS_MAX: u64 = 3_000_000;

/// How long a wait may last while peers may have something to react to.
const WAIT_MS_MAX: u64 = 40;

#[test]
fn seeds() {
    each_seed(SEEDS, 1, run);
}

fn run(seed: u64) {
    let mut draw = Draw::new(seed);
    let scenario = Scenario::draw(&mut draw);
    let text = scenario.setup.text();
    let teller = Teller {
        seed,
        story: format!(
            "calm: {}, {:?}\n{:?}\n{text}",
            scenario.is_calm, scenario.finish, scenario.settings
        ),
    };
    let mut simulation = Simulation {
        rig: Rig::new(seed, scenario.settings.clone(), &text),
        model: Model::new(scenario.length_max),
        draw,
        behaviours: Vec::new(),
        setup: scenario.setup.clone(),
        scenario,
    };
    simulation.run();
    drop(teller);
}

/// Says what was drawn when a seed fails.
struct Teller {
    seed: u64,
    story: String,
}

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("WEIR_SIM_SEED={} replays this:\n{}", self.seed, self.story);
        }
    }
}

struct Simulation {
    rig: Rig,
    model: Model,
    draw: Draw,
    scenario: Scenario,
    /// What was last loaded.
    setup: Setup,
    /// Every backend that ever was or will be.
    behaviours: Vec<(Address, Behaviour)>,
}

impl Simulation {
    fn run(&mut self) {
        self.open_backends();
        let mut turns = 0;
        while !self.is_over() {
            turns += 1;
            assert!(turns < TURNS_MAX, "it never ends: {}", self.census());
            self.act();
            self.bound_wait();
            self.rig.turn();
            self.take_connections();
            self.model.step(&mut self.rig.net.world(), &mut self.draw);
            self.check_gauges();
        }
        self.arrive();
        self.check_end();
        if self.rig.worker.stage() != Stage::Finished {
            self.check_timers();
            self.rig.worker.stop();
        }
        self.check_nothing_left();
    }

    /// Lets all that the worker has sent arrive.
    fn arrive(&mut self) {
        for _ in 0..100_000 {
            let mut world = self.rig.net.world();
            self.model.step(&mut world, &mut self.draw);
            if world.is_quiet() && !self.model.live().any(Peer::is_stalled) {
                return;
            }
            world.advance(WAIT_MS_MAX);
            world.settle();
        }
        panic!("what was sent does not arrive");
    }

    fn open_backends(&mut self) {
        for upstream in 0..2 {
            for number in 0..4 {
                let address = backend_address(upstream, number);
                let address = Address::Ip(address.parse().expect("an address"));
                self.behaviours.push((address, Behaviour::Accept));
            }
        }
        for (address, behaviour) in &self.behaviours {
            self.rig.world().origin_listen(address, *behaviour);
        }
    }

    fn now(&self) -> u64 {
        self.rig.world().now().0
    }

    fn is_over(&self) -> bool {
        if self.rig.worker.stage() == Stage::Finished {
            return true;
        }
        let now = self.now();
        assert!(now < SPAN_MS_MAX, "it never ends: {}", self.census());
        let world = self.rig.world();
        let clients = || self.model.peers.iter().filter(|peer| peer.is_client());
        self.scenario.finish == Finish::Quiet
            && self.scenario.actions.is_empty()
            && self.rig.worker.census().sessions == 0
            && clients().all(|client| client.is_over(&world))
    }

    /// What is left, for who asks why it does not end.
    fn census(&self) -> String {
        let live: Vec<&Peer> = self.model.live().collect();
        format!("{:?}, {live:#?}", self.rig.worker.census())
    }

    /// Does what is due.
    fn act(&mut self) {
        let now = self.now();
        while let Some((at, _)) = self.scenario.actions.last() {
            if *at > now {
                break;
            }
            let (_, action) = self.scenario.actions.pop().expect("it is there");
            self.act_one(action);
        }
        match self.scenario.finish {
            Finish::Drain(at) if at <= now => self.rig.worker.drain(),
            Finish::Stop(at) if at <= now => self.rig.worker.stop(),
            Finish::Quiet | Finish::Drain(_) | Finish::Stop(_) => {}
        }
    }

    fn act_one(&mut self, action: Action) {
        let (now, calm) = (self.now(), self.scenario.is_calm);
        match action {
            Action::Arrive(listener) => {
                let listener = self.rig.listeners[listener].1;
                let client = self.rig.world().client_connect(listener);
                self.model.join(client, true, &mut self.draw, calm, now);
            }
            Action::Behave(upstream, number, behaviour) => {
                let (address, current) = &mut self.behaviours[upstream * 4 + number];
                *current = behaviour;
                self.rig.net.world().origin_listen(address, behaviour);
                self.model.is_sick = behaviour != Behaviour::Accept;
            }
            Action::Jump(ms) => self.rig.world().advance(ms),
            Action::Reload(setup) => {
                if self.rig.worker.may_adopt() {
                    self.rig.reload(&setup.text());
                    self.setup = *setup;
                }
            }
            Action::Exhaust(exhausted) => self.rig.world().exhaust(exhausted),
        }
    }

    /// Lets the next wait end when a script goes on, and moves the clock of a worker that has
    /// nothing to wait for.
    fn bound_wait(&self) {
        let now = self.now();
        let mut world = self.rig.net.world();
        let finish = match self.scenario.finish {
            Finish::Drain(at) | Finish::Stop(at) if at > now => Some(at),
            Finish::Quiet | Finish::Drain(_) | Finish::Stop(_) => None,
        };
        let actions = self.scenario.actions.last().map(|(at, _)| *at);
        let live = || self.model.live().filter(|peer| !peer.is_over(&world));
        let next = live().filter_map(Peer::next_at);
        let next = next.chain(finish).chain(actions).min();
        let reacts = self
            .setup
            .upstreams
            .iter()
            .any(|one| one.check == Check::Http);
        let most = if reacts || live().count() > 0 {
            WAIT_MS_MAX
        } else {
            10_000
        };
        let ms = next
            .map_or(most, |at| at.saturating_sub(now))
            .clamp(1, most);
        if world.is_asleep() {
            world.advance(ms);
        }
        world.settings_mut().sleep_ms_max = Some(ms);
    }

    fn take_connections(&mut self) {
        let now = self.now();
        for (address, behaviour) in &self.behaviours {
            let taken = self.rig.net.world().origin_accepted(address);
            for peer in taken {
                let calm = self.scenario.is_calm;
                match behaviour {
                    Behaviour::AcceptThenClose => {
                        self.model.join_broken(peer, false, &mut self.draw);
                    }
                    Behaviour::AcceptThenReset => {
                        self.model.join_broken(peer, true, &mut self.draw);
                    }
                    Behaviour::Accept
                    | Behaviour::Refuse
                    | Behaviour::Blackhole
                    | Behaviour::Unreachable
                    | Behaviour::Forbidden => {
                        self.model.join(peer, false, &mut self.draw, calm, now);
                    }
                }
            }
        }
    }

    /// A counter summed over all listeners that ever were.
    fn count(&self, cell: ListenerCell) -> u64 {
        let names = ["one", "two"].into_iter();
        names
            .filter_map(|name| self.rig.worker.listener_count(name, cell))
            .sum()
    }

    fn check_gauges(&self) {
        let sessions = self.rig.worker.census().sessions as u64;
        assert_eq!(self.count(ListenerCell::Active), sessions);
    }

    fn check_end(&self) {
        let world = self.rig.world();
        let clients = || self.model.peers.iter().filter(|peer| peer.is_client());
        let accepted = clients().filter(|client| world.was_accepted(client.id));
        let count = |cell| self.count(cell);
        assert_eq!(
            count(ListenerCell::Accepted),
            accepted.clone().count() as u64
        );
        let (to_clients, to_backends) = self.model.written_bytes(&world);
        let counted = (count(ListenerCell::BytesOut), count(ListenerCell::BytesIn));
        // A layer may have taken bytes that its connection did not live to send, or not as a whole.
        if !world.has_layer() || self.scenario.is_calm {
            assert_eq!(counted, (to_clients, to_backends));
        }

        let (timed_out, reset) = (count(ListenerCell::TimedOut), count(ListenerCell::Reset));
        let (refused, cut) = (count(ListenerCell::Refused), count(ListenerCell::Cut));
        assert_eq!(cut, self.rig.worker.cut_sessions());
        let ends_max = timed_out + self.model.closed_at_once;
        let ends = self.model.early_ends;
        assert!(
            ends <= ends_max,
            "{ends} clean ends of clients came too early"
        );
        let ends = self.model.early_ends_at_backends;
        assert!(
            ends <= timed_out,
            "{ends} clean ends of backends came too early"
        );
        let resets = accepted.filter(|client| world.peer_saw_reset(client.id));
        let resets = resets.count() as u64;
        assert!(
            resets <= reset + timed_out + refused + cut,
            "{resets} clients were reset, {reset} + {timed_out} + {refused} + {cut} were counted"
        );
        if self.scenario.is_calm {
            assert_eq!((reset, timed_out, cut), (0, 0, 0));
            // Where the network is slow enough for a check to fail, nobody may be left to pick.
            let probes_failed = self.backend_sum(BackendCell::ProbesFailed);
            if refused > 0 {
                assert!(probes_failed > 0, "{refused} refused for nothing");
                return;
            }
            self.model.check_all_delivered(&world);
            self.check_picks(&world);
        }
    }

    /// A counter summed over all backends that are left.
    fn backend_sum(&self, cell: BackendCell) -> u64 {
        let labels = (0..8).map(|k| backend_label(k / 4, k % 4));
        labels
            .filter_map(|label| self.rig.worker.backend_count(&label, cell))
            .sum()
    }

    /// Where nothing fails, every connection to a backend is a pick or a probe. Those of TCP end
    /// before a backend knows of them.
    fn check_picks(&self, world: &crate::net::World) {
        let connections = self.model.peers.iter().filter(|peer| !peer.is_client());
        let (probes, sessions): (Vec<_>, Vec<_>) =
            connections.partition(|peer| is_probe(world, peer.id));
        let count = |cell| self.backend_sum(cell);
        assert_eq!(count(BackendCell::Picks), sessions.len() as u64);
        let probed = count(BackendCell::ProbesPassed) + count(BackendCell::ProbesFailed);
        let probes = probes.len() as u64 + world.calls().probe;
        assert!(probed <= probes, "{probed} results of {probes} probes");
        assert_eq!(count(BackendCell::Active), 0);
        assert_eq!(count(BackendCell::Ejections), 0);
    }

    fn check_timers(&self) {
        let checked = |upstream: &crate::scenario::UpstreamSetup| {
            usize::from(upstream.check != Check::Off) * upstream.backends.len()
        };
        let checked: usize = self.setup.upstreams.iter().map(checked).sum();
        let expected = checked + usize::from(self.setup.has_stats);
        let timers = self.rig.worker.census().timers;
        if self.scenario.is_calm {
            assert_eq!(timers, expected, "for probes and statistics");
        } else {
            // Ejections, and pauses of listeners, have timers too.
            assert!(
                timers >= expected && timers <= expected + 40,
                "{timers} timers"
            );
        }
    }

    fn check_nothing_left(&self) {
        let world = self.rig.world();
        assert_eq!((world.open_streams(), world.open_listeners()), (0, 0));
        let census = self.rig.worker.census();
        assert_eq!(census.sessions, 0);
        assert_eq!(
            (census.leases, census.pipes_lent, census.bytes_waiting),
            (0, 0, 0)
        );
        assert_eq!(census.listeners_open, 0);
        assert_eq!(self.count(ListenerCell::Active), 0);
    }
}
