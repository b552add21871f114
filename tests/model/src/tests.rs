//! Checks what must hold in every order of steps. The limit of connections is kept, no user waits without end, no slot
//! is lost, and users are served in order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
};

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use crate::slots::{Occupant, Slots, TotalLimit};

/// The number of orders to try for each test.
const SCHEDULES: usize = 20_000;
/// The number of steps that may be delayed in one run. A bug of three interleaved steps needs this many.
const DEPTH: usize = 3;

#[derive(Clone, Debug, PartialEq)]
enum Bad {
    Refused,
    Closed,
}

/// A connection. Dropping it closes it, and evicting it also frees its slot.
#[derive(Debug)]
struct Conn {
    world: Arc<World>,
    evicted: bool,
}

impl Occupant for Conn {
    fn evict(&mut self) {
        self.evicted = true;
        self.world.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !self.evicted {
            self.world.open.fetch_sub(1, Ordering::SeqCst);
        }
        if self.world.slots.release(self.evicted) {
            self.world.open_for_waiters();
        }
    }
}

/// One server, and a thread that does the tasks of the pool.
#[derive(Debug)]
struct World {
    slots: Slots<Conn, Bad>,
    open: AtomicUsize,
    /// The maximum that may be open. A resize raises it before the change, and lowers it after.
    most: AtomicUsize,
    driver: Mutex<Option<Sender<()>>>,
}

impl World {
    fn open_for_waiters(&self) {
        if let Some(driver) = &*self.driver.lock().unwrap() {
            let _ = driver.send(());
        }
    }

    fn connect(self: &Arc<Self>) -> Conn {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(open <= self.most.load(Ordering::SeqCst), "{open} connections");
        Conn { world: Arc::clone(self), evicted: false }
    }

    /// Checks out a connection as the pool does: any idle one, or a place in the queue. `polls` is how often to poll;
    /// `None` polls until served.
    fn get(self: &Arc<Self>, polls: Option<usize>) -> Option<Result<Conn, Bad>> {
        if let Some(conn) = self.slots.take() {
            return Some(Ok(conn));
        }
        let Some(turn) = self.slots.join() else { return Some(Err(Bad::Closed)) };
        self.open_for_waiters();
        let Some(polls) = polls else { return Some(block_on(turn)) };
        let mut turn = pin!(turn);
        for _ in 0..polls {
            if let Poll::Ready(got) = turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Some(got);
            }
            thread::yield_now();
        }
        None
    }

    fn put(&self, conn: Conn) {
        drop(self.slots.put(conn));
    }
}

/// Runs `act` in a world, and then checks that nothing is left behind. One connect in `failing` fails, if given.
fn run(max: usize, total: usize, failing: Option<u32>, act: impl FnOnce(&Arc<World>)) {
    let world = Arc::new(World {
        slots: Slots::new(max, std::sync::Arc::new(TotalLimit::new(total))),
        open: AtomicUsize::new(0),
        most: AtomicUsize::new(max.min(total)),
        driver: Mutex::new(None),
    });
    let (sender, receiver) = channel();
    *world.driver.lock().unwrap() = Some(sender);
    let driver = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            while receiver.recv().is_ok() {
                let mut connects = world.slots.demand(2).connects;
                while connects > 0 {
                    connects -= 1;
                    if failing.is_some_and(|one_in| thread_rng().gen_ratio(1, one_in)) {
                        world.slots.failed(&Bad::Refused);
                        connects += world.slots.demand(2).connects;
                    } else {
                        drop(world.slots.connected(world.connect()));
                    }
                }
            }
        })
    };
    act(&world);
    // All tasks are done, so no user waits and every live connection is idle.
    assert_eq!(world.slots.waiting(), 0);
    *world.driver.lock().unwrap() = None;
    driver.join().unwrap();
    assert_eq!(world.slots.live(), world.slots.idle());
    assert_eq!(world.slots.live(), world.open.load(Ordering::SeqCst));
    assert_eq!(world.slots.connecting(), 0);
    drop(world.slots.close(&Bad::Closed));
    assert_eq!((world.slots.live(), world.slots.idle(), world.open.load(Ordering::SeqCst)), (0, 0, 0));
}

fn spawn(world: &Arc<World>, act: impl FnOnce(&Arc<World>) + Send + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || act(&world))
}

fn check(model: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(model, SCHEDULES);
    shuttle::check_pct(model, SCHEDULES, DEPTH);
}

#[test]
fn three_share_one() {
    check(|| {
        run(1, 9, None, |world| {
            let tasks = [(); 3].map(|()| {
                spawn(world, |world| {
                    for _ in 0..2 {
                        let conn = world.get(None).unwrap().unwrap();
                        world.put(conn);
                    }
                })
            });
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn dead_connections_are_replaced() {
    check(|| {
        run(2, 9, None, |world| {
            let tasks = [(); 3].map(|()| {
                spawn(world, |world| {
                    let conn = world.get(None).unwrap().unwrap();
                    drop(conn);
                    let conn = world.get(None).unwrap().unwrap();
                    world.put(conn);
                })
            });
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn a_user_that_gives_up_keeps_nothing() {
    check(|| {
        run(1, 9, None, |world| {
            let giving_up = [1, 2].map(|polls| {
                spawn(world, move |world| {
                    if let Some(Ok(conn)) = world.get(Some(polls)) {
                        world.put(conn);
                    }
                })
            });
            let patient = spawn(world, |world| {
                let conn = world.get(None).unwrap().unwrap();
                world.put(conn);
            });
            giving_up.into_iter().chain([patient]).for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn failures_end_the_waiting() {
    check(|| {
        run(2, 9, Some(2), |world| {
            let tasks = [(); 3].map(|()| {
                spawn(world, |world| match world.get(None).unwrap() {
                    Ok(conn) => world.put(conn),
                    Err(error) => assert_eq!(error, Bad::Refused),
                })
            });
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn closing_ends_everything() {
    check(|| {
        run(1, 9, Some(4), |world| {
            let users = [(); 2].map(|()| {
                spawn(world, |world| {
                    if let Ok(conn) = world.get(None).unwrap() {
                        world.put(conn);
                    }
                })
            });
            let closer = spawn(world, |world| drop(world.slots.close(&Bad::Closed)));
            users.into_iter().chain([closer]).for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn reaping_and_resizing_lose_nothing() {
    check(|| {
        run(1, 9, None, |world| {
            let users = [(); 2].map(|()| {
                spawn(world, |world| {
                    let conn = world.get(None).unwrap().unwrap();
                    world.put(conn);
                })
            });
            let keeper = spawn(world, |world| {
                world.most.store(2, Ordering::SeqCst);
                drop(world.slots.resize(2));
                world.open_for_waiters();
                drop(world.slots.reap(|_| thread_rng().gen_ratio(1, 2)));
                drop(world.slots.resize(1));
            });
            users.into_iter().chain([keeper]).for_each(|task| task.join().unwrap());
            // The next check closes what was returned while the limit was being lowered.
            drop(world.slots.reap(|_| false));
            assert!(world.slots.live() <= 1);
        });
    });
}

#[test]
fn the_limit_over_all_servers_holds() {
    check(|| {
        run(3, 1, None, |world| {
            let tasks = [(); 3].map(|()| {
                spawn(world, |world| {
                    let conn = world.get(None).unwrap().unwrap();
                    world.put(conn);
                })
            });
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn first_come_first_served() {
    check(|| {
        run(2, 9, None, |world| {
            let lent = [(); 2].map(|()| world.get(None).unwrap().unwrap());
            let first = world.slots.join().unwrap();
            let second = world.slots.join().unwrap();
            let [one, two] = lent;
            let tasks = [
                spawn(world, |world| world.put(one)),
                // A new user who takes nothing while others wait, and ends with at most one connection.
                spawn(world, |world| drop(world.slots.take())),
            ];
            let mut first = pin!(first);
            let mut second = pin!(second);
            let context = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(got) = second.as_mut().poll(context) {
                let Poll::Ready(before) = first.as_mut().poll(context) else { panic!("overtaken") };
                [got, before].into_iter().for_each(|conn| world.put(conn.unwrap()));
            }
            tasks.into_iter().for_each(|task| task.join().unwrap());
            world.put(two);
        });
    });
}

#[test]
fn no_connection_is_opened_for_a_user_that_is_about_to_be_served() {
    check(|| {
        run(3, 9, None, |world| {
            let first = world.slots.join().unwrap();
            assert_eq!(world.slots.demand(2).connects, 1);
            let open = |world: &Arc<World>| {
                (0..world.slots.demand(2).connects)
                    .for_each(|_| drop(world.slots.connected(world.connect())));
            };
            let arrival = spawn(world, move |world| {
                drop(world.slots.connected(world.connect()));
                open(world);
            });
            let newcomer = spawn(world, move |world| {
                let turn = world.slots.join().unwrap();
                open(world);
                world.put(block_on(turn).unwrap());
            });
            world.put(block_on(first).unwrap());
            [arrival, newcomer].into_iter().for_each(|task| task.join().unwrap());
            assert!(world.slots.live() <= 2, "{} for two", world.slots.live());
        });
    });
}

/// Checks that the model finds a planted bug: a connection is announced before it can be taken.
#[test]
fn signalling_before_publishing_is_detected() {
    let found = catch_unwind(AssertUnwindSafe(|| {
        check(|| {
            run(1, 9, None, |world| {
                let tasks = [(); 2].map(|()| {
                    spawn(world, |world| {
                        let conn = world.get(None).unwrap().unwrap();
                        world.slots.signal();
                        world.slots.publish(conn).unwrap();
                    })
                });
                tasks.into_iter().for_each(|task| task.join().unwrap());
            });
        });
    }));
    let message = *found.expect_err("a lost wakeup went unnoticed").downcast::<String>().unwrap();
    assert!(message.contains("deadlock"), "{message}");
}
