//! Properties of the slots of two servers under one limit, over any steps. `cargo test` takes steps from proptest, and
//! `fuzz/` those that libFuzzer finds.

use std::{
    cell::Cell,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use arbitrary::Arbitrary;

use super::slots::{Occupant, Slots, TotalLimit, Waiter};

/// A step, for one of two servers (`true` is the second).
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Step {
    /// A caller takes an idle connection, or joins the queue.
    Ask(bool),
    /// A waiting caller polls. Its number is taken modulo the number of waiters.
    Look(u8),
    /// A waiting caller leaves.
    GiveUp(u8),
    /// A lent connection is given back.
    Return(u8),
    /// A lent connection is found broken.
    Break(u8),
    /// QUIT ends on a surplus connection.
    Leave(u8),
    /// A connection is opened.
    Arrive(bool),
    /// An attempt to connect fails.
    Fail(bool),
    /// The circuit breaker opens.
    Outage(bool),
    /// The maintenance opens a connection without a waiting caller.
    Spare(bool),
    /// The maintenance drops the idle connections whose number is a multiple of this.
    Reap(bool, u8),
    /// The maintenance takes the low-water mark.
    Mark(bool),
    /// The most connections change to this.
    Resize(bool, u8),
    /// The server is closed for good.
    Close(bool),
}

/// A connection with its slot, like a lease.
#[derive(Debug)]
struct Connection {
    number: usize,
    evicted: bool,
    count: Rc<Count>,
    slots: Weak<Slots<Connection, ()>>,
}

/// What the model counts beside the slots.
#[derive(Debug, Default)]
struct Count {
    /// Connections that hold a slot, and those that count against the limit over all servers.
    holding: Cell<usize>,
    existing: Cell<usize>,
    /// A caller may wait for a slot that is free now.
    released: Cell<bool>,
}

impl Occupant for Connection {
    fn evict(&mut self) {
        self.evicted = true;
        self.count.holding.set(self.count.holding.get() - 1);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.evicted {
            self.count.holding.set(self.count.holding.get() - 1);
        }
        self.count.existing.set(self.count.existing.get() - 1);
        if let Some(slots) = self.slots.upgrade()
            && slots.release(self.evicted)
        {
            self.count.released.set(true);
        }
    }
}

struct Server<'a> {
    slots: &'a Rc<Slots<Connection, ()>>,
    count: Rc<Count>,
    connecting: usize,
    /// The most connections. It is above the limit only after that was lowered.
    most: usize,
    /// The fewest idle connections since the mark was taken.
    low_water: usize,
    starved: bool,
    closed: bool,
}

/// The most connects at the same time.
const MAX_CONNECTING: usize = 2;

/// Checks that limits hold, that nothing is lost or counted twice, and that waiters are served in the order of arrival.
/// No caller waits while a connection is idle, or without a connection to wait for.
pub fn pool_ops(max: [u8; 2], total: u8, steps: &[Step]) {
    let max = max.map(|max| usize::from(max % 4) + 1);
    let limit = usize::from(total % 6) + 1;
    let total = Arc::new(TotalLimit::new(limit));
    let slots = max.map(|max| Rc::new(Slots::new(max, Arc::clone(&total))));
    let servers = [0, 1].map(|which: usize| Server {
        slots: &slots[which],
        count: Rc::default(),
        connecting: 0,
        most: max[which],
        low_water: 0,
        starved: false,
        closed: false,
    });
    let mut trial = Trial {
        servers,
        total: &total,
        limit,
        waiters: Vec::new(),
        lent: Vec::new(),
        quitting: Vec::new(),
        made: 0,
    };
    for step in steps {
        trial.step(*step);
        trial.open_for_waiters();
        trial.check(step);
    }
    trial.end();
}

struct Trial<'a> {
    servers: [Server<'a>; 2],
    total: &'a Arc<TotalLimit>,
    limit: usize,
    waiters: Vec<(usize, Waiter<'a, Connection, ()>)>,
    lent: Vec<Connection>,
    /// Surplus connections with QUIT under way.
    quitting: Vec<Connection>,
    made: usize,
}

impl Trial<'_> {
    fn step(&mut self, step: Step) {
        let place = |at: u8, of: usize| usize::from(at).checked_rem(of);
        match step {
            Step::Ask(which) => self.ask(usize::from(which)),
            Step::Look(at) => {
                if let Some(at) = place(at, self.waiters.len()) {
                    self.look(at);
                }
            }
            Step::GiveUp(at) => {
                if let Some(at) = place(at, self.waiters.len()) {
                    drop(self.waiters.remove(at));
                }
            }
            Step::Return(at) => {
                if let Some(at) = place(at, self.lent.len()) {
                    let connection = self.lent.swap_remove(at);
                    self.put(connection, false);
                }
            }
            Step::Break(at) => {
                if let Some(at) = place(at, self.lent.len()) {
                    drop(self.lent.swap_remove(at));
                }
            }
            Step::Leave(at) => {
                if let Some(at) = place(at, self.quitting.len()) {
                    drop(self.quitting.swap_remove(at));
                }
            }
            Step::Arrive(which) => self.arrive(usize::from(which)),
            Step::Fail(which) => {
                let server = &mut self.servers[usize::from(which)];
                if server.connecting > 0 {
                    server.connecting -= 1;
                    let waiting = server.slots.waiting();
                    server.slots.failed(&());
                    // Waiters get the failure only if no connection is left to wait for.
                    let left = if server.slots.live() == 0 { 0 } else { waiting };
                    assert_eq!(server.slots.waiting(), left);
                    server.count.released.set(true);
                }
            }
            Step::Outage(which) => {
                let slots = self.servers[usize::from(which)].slots;
                let left = if slots.live() == 0 { 0 } else { slots.waiting() };
                slots.give_up(&());
                assert_eq!(slots.waiting(), left);
            }
            Step::Spare(which) => {
                let server = &mut self.servers[usize::from(which)];
                let room = server.slots.live() < server.slots.max() && self.total.used() < self.limit;
                let reserved = server.slots.reserve_spare();
                assert_eq!(reserved, room && !server.closed);
                server.connecting += usize::from(reserved);
            }
            Step::Reap(which, every) => {
                let every = usize::from(every).max(1);
                let slots = self.servers[usize::from(which)].slots;
                self.quitting.extend(slots.reap(|connection| connection.number.is_multiple_of(every)));
                assert!(every > 1 || slots.idle() == 0, "reaped and still there");
            }
            Step::Mark(which) => {
                let server = &mut self.servers[usize::from(which)];
                let idle = server.slots.idle();
                assert_eq!(server.slots.take_low_water(), server.low_water.min(idle));
                server.low_water = idle;
            }
            Step::Resize(which, max) => {
                let max = usize::from(max % 4) + 1;
                let server = &mut self.servers[usize::from(which)];
                self.quitting.extend(server.slots.resize(max));
                server.most = max.max(server.slots.live());
                server.count.released.set(true);
            }
            Step::Close(which) => {
                let server = &mut self.servers[usize::from(which)];
                server.closed = true;
                self.quitting.extend(server.slots.close(&()));
            }
        }
    }

    fn ask(&mut self, which: usize) {
        let server = &mut self.servers[which];
        let slots = server.slots;
        let there = slots.idle() > 0 && slots.waiting() == 0 && !server.closed;
        let taken = slots.take();
        assert_eq!(taken.is_some(), there);
        if slots.waiting() == 0 && !server.closed {
            server.low_water = server.low_water.min(slots.idle());
        }
        if let Some(connection) = taken {
            assert!(!connection.evicted, "an evicted connection is lent");
            self.lent.push(connection);
            return;
        }
        match slots.join() {
            Some(turn) => {
                self.waiters.push((which, turn));
                server.count.released.set(true);
            }
            None => assert!(server.closed),
        }
    }

    /// Puts a connection back, or adds a new one. It is closed if there are too many or another server needs its place.
    /// Otherwise it goes to a waiter, or is idle.
    fn put(&mut self, connection: Connection, is_new: bool) {
        let Some(slots) = connection.slots.upgrade() else { return };
        let (live, closed) = (slots.live(), slots.is_closed());
        let (idle, waiting) = (slots.idle(), slots.waiting());
        let needed = self.servers.iter().any(|server| server.starved) && waiting == 0;
        let put = if is_new { slots.connected(connection) } else { slots.put(connection) };
        let refused = put.err();
        assert_eq!(refused.is_some(), closed || live > slots.max() || needed);
        let evicted = refused.as_ref().is_some_and(|connection| connection.evicted);
        assert_eq!(evicted, !closed && live > slots.max());
        let taken = (slots.idle() - idle) + (waiting - slots.waiting());
        assert_eq!(taken, usize::from(refused.is_none()));
        self.quitting.extend(refused);
    }

    /// Polls a waiter. If it is served, all that joined before it are served too.
    fn look(&mut self, at: usize) {
        let which = self.waiters[at].0;
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(outcome) = pin!(&mut self.waiters[at].1).poll(&mut cx) else { return };
        self.waiters.remove(at);
        self.lent.extend(outcome);
        let before: Vec<_> = self.waiters.extract_if(..at, |(of, _)| *of == which).collect();
        for (_, turn) in before {
            let Poll::Ready(outcome) = pin!(turn).poll(&mut cx) else { panic!("passed over in line") };
            self.lent.extend(outcome);
        }
    }

    fn arrive(&mut self, which: usize) {
        let server = &mut self.servers[which];
        if server.connecting == 0 {
            return;
        }
        server.connecting -= 1;
        self.made += 1;
        server.count.holding.set(server.count.holding.get() + 1);
        server.count.existing.set(server.count.existing.get() + 1);
        let (count, slots) = (Rc::clone(&server.count), Rc::downgrade(server.slots));
        let connection = Connection { number: self.made, evicted: false, count, slots };
        server.count.released.set(true);
        self.put(connection, true);
    }

    /// Opens connections as the pool does. A free slot serves the waiters of its server, and servers that wait for the
    /// limit over all servers.
    fn open_for_waiters(&mut self) {
        while self.servers.iter().any(|server| server.count.released.get()) {
            self.total.set_waiters(0);
            for server in &mut self.servers {
                if server.count.released.replace(false) || server.starved {
                    let demand = server.slots.demand(MAX_CONNECTING);
                    server.connecting += demand.connects;
                    let wanted = server.slots.waiting().min(MAX_CONNECTING);
                    assert!(demand.connects == 0 || server.connecting <= wanted, "more than are wanted");
                    server.starved = demand.is_at_limit;
                }
            }
            let starving = self.servers.iter().filter(|server| server.starved).count();
            self.total.set_waiters(starving);
            // A server that waits for the limit closes an idle connection of the other one.
            for which in 0..2 {
                let (waiting, other) = (&self.servers[which], &self.servers[1 - which]);
                if waiting.starved && other.slots.waiting() == 0 {
                    self.quitting.extend(other.slots.take_first());
                    let idle = other.slots.idle();
                    let other = &mut self.servers[1 - which];
                    other.low_water = other.low_water.min(idle);
                }
            }
        }
    }

    fn check(&mut self, step: &Step) {
        let mut used = 0;
        for (which, server) in self.servers.iter_mut().enumerate() {
            let (slots, count) = (server.slots, &server.count);
            let (live, idle, waiting) = (slots.live(), slots.idle(), slots.waiting());
            used += count.existing.get() + server.connecting;
            assert_eq!(live, count.holding.get() + server.connecting, "after {step:?}");
            assert_eq!(slots.connecting(), server.connecting, "after {step:?}");
            server.most = server.most.min(slots.max().max(live));
            assert!(live <= server.most, "after {step:?}: {live} of {}", slots.max());
            let in_line = self.waiters.iter().filter(|(of, _)| *of == which).count();
            assert!(waiting <= in_line, "after {step:?}: {waiting} wait of {in_line}");
            assert!(waiting == 0 || idle == 0, "after {step:?}: {waiting} wait for {idle}");
            let hope = live > 0 || self.total.used() == self.limit;
            assert!(waiting == 0 || hope, "after {step:?}: {waiting} wait for nothing");
            assert!(!server.closed || (idle, waiting) == (0, 0), "after {step:?}: closed");
        }
        assert_eq!(self.total.used(), used, "after {step:?}");
        assert!(used <= self.limit, "after {step:?}: {used} in all");
    }

    /// Ends everything, and checks that nothing is left.
    fn end(mut self) {
        self.waiters.clear();
        self.lent.clear();
        self.quitting.clear();
        for server in &mut self.servers {
            drop(server.slots.close(&()));
            for _ in 0..std::mem::take(&mut server.connecting) {
                server.slots.failed(&());
            }
            assert_eq!((server.slots.live(), server.slots.waiting(), server.count.existing.get()), (0, 0, 0));
        }
        assert_eq!(self.total.used(), 0);
    }
}

#[cfg(test)]
mod tests {
    use arbitrary::{Arbitrary, Unstructured};
    use proptest::prelude::*;

    use super::*;

    /// Makes steps of octets by `arbitrary`, as `fuzz/` does.
    fn step() -> impl Strategy<Value = Step> {
        any::<[u8; 8]>()
            .prop_filter_map("too short", |octets| Step::arbitrary(&mut Unstructured::new(&octets)).ok())
    }

    proptest! {
        #[test]
        fn slots_are_neither_lost_nor_lent_twice(
            max: [u8; 2],
            total: u8,
            steps in prop::collection::vec(step(), 0..200),
            closing in prop::collection::vec(step(), 0..20),
        ) {
            // Closed slots stay closed, and test no more.
            let open = steps.into_iter().filter(|step| !matches!(step, Step::Close(_)));
            pool_ops(max, total, &open.chain(closing).collect::<Vec<_>>());
        }
    }
}
